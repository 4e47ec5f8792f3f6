"""History: all jobs that ever ran."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nicegui import context

from backend import Backend
from backend.clock import Clock
from backend.domain.auth import User
from backend.jobs.queries import JobQueries
from ui.components.history.job_history import JobHistory, Search
from ui.following import patiently, views, while_connected
from ui.frame import frame_of
from ui.session import current_user, page
from ui.theme import link, tag, whose_jobs

REFRESH_SECONDS = 1.0


def add_history_page(backend: Backend) -> None:
    """Attach `/history`."""

    @page("/history")
    async def history_page() -> None:
        user = current_user()
        owners = [other.name for other in await backend.accounts.users()] if user.is_admin else []
        with frame_of(backend, "History", "history", user):
            with tag("div", classes="lead"):
                with tag("div"):
                    tag("h1", "History")
                    tag("p", f"{whose_jobs(user)}.")
                with tag("div", classes="act"):
                    export = link("Export CSV", "/api/jobs/export.csv", classes="btn", icon_name="download")
            search = Search.of(context.client.request.query_params if context.client.request else {})
            history = JobHistory(
                backend.queries,
                backend.many,
                backend.clock,
                search,
                show_owner=user.is_admin,
                owners=owners,
                export=export,
            )
        await history.refresh()
        follow = partial(follow_jobs, backend.queries, history, viewer=current_user, clock=backend.clock)
        while_connected(context.client, follow, name="history")


async def follow_jobs(queries: JobQueries, history: JobHistory, *, viewer: Callable[[], User], clock: Clock) -> None:
    """Keep the rows of History up to date. `viewer` returns the user of the page."""
    position = queries.position  # before the rows: they have everything up to here
    await patiently(history.renew, clock=clock, every_seconds=REFRESH_SECONDS)
    async for view in views(queries, by=viewer(), after=position, clock=clock, every_seconds=REFRESH_SECONDS):
        await history.update(view)
