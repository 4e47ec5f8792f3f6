"""History: every job that ever ran."""

from __future__ import annotations

from functools import partial

from nicegui import context

from backend import Backend
from ui.components.history.job_history import JobHistory, Search
from ui.components.shared.page_frame import page_frame
from ui.following import patiently, views, while_connected
from ui.session import current_user, page
from ui.theme import link, tag, whose_jobs

REFRESH_SECONDS = 1.0


def add_history_page(backend: Backend) -> None:
    """Attach `/history`."""

    @page("/history")
    async def history_page(q: str = "", status: str = "", sort: str = "") -> None:
        user = current_user()
        with page_frame("History", "history", user, backend.settings):
            with tag("div", classes="lead"):
                with tag("div"):
                    tag("h1", "History")
                    tag("p", f"{whose_jobs(user)}.")
                with tag("div", classes="act"):
                    link("Export CSV", "/api/jobs/export.csv", classes="btn", icon_name="download")
            search = Search.of(q=q, status=status, sort=sort)
            history = JobHistory(backend.queries, backend.clock, search, show_owner=user.is_admin)
        await history.refresh()
        while_connected(context.client, partial(_follow, backend, history), name="history")


async def _follow(backend: Backend, history: JobHistory) -> None:
    queries, clock = backend.queries, backend.clock
    position = queries.position  # before the rows: they have everything up to here
    await patiently(history.renew, clock=clock, every_seconds=REFRESH_SECONDS)
    async for view in views(queries, by=current_user(), after=position, clock=clock, every_seconds=REFRESH_SECONDS):
        await history.update(view)
