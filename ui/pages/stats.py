"""The statistics: how long, how good, how many."""

from __future__ import annotations

from nicegui import context

from backend import Backend
from backend.domain.auth import User
from backend.domain.periods import default_period
from backend.errors import DashboardError
from backend.processors import names
from progress_dashboard.protocol import EXTERNAL
from ui.components.stats.stats_view import FIRST_TAB, Choice, StatsView, lines_in
from ui.following import while_connected
from ui.frame import frame_of
from ui.session import current_user, page
from ui.theme import tag, whose_jobs

REFRESH_SECONDS = 60.0


def add_stats_page(backend: Backend) -> None:
    """Attach `/stats`."""

    @page("/stats")
    async def stats_page(
        period: str = "",
        to: str = "",
        processor: str = "",
        name: str = "",
        owner: str = "",
        tab: str = "",
        lines: str = "",
    ) -> None:
        user = current_user()
        begin = context.client.request.query_params.get("from", "")  # no name that Python allows
        choice = Choice(period, begin, to, processor, name, owner, tab or FIRST_TAB, lines_in(lines))
        usual = default_period(backend.clock.now(), zone=backend.settings.zone)
        with frame_of(backend, "Statistics", "stats", user):
            with tag("div", classes="lead"), tag("div"):
                tag("h1", "Statistics")
                tag("p", f"{whose_jobs(user)}.")
            view = StatsView(choice, usual, processors=(*names(), EXTERNAL), owners=await _owners(backend, user))

        async def refresh() -> None:
            try:
                view.show(await backend.statistics.of(choice.question(usual), by=current_user()))
            except DashboardError as error:
                view.refuse(error.sentence)

        async def follow() -> None:
            while True:
                await backend.clock.sleep(REFRESH_SECONDS)
                await refresh()

        await refresh()
        while_connected(context.client, follow, name="stats")


async def _owners(backend: Backend, user: User) -> list[str] | None:
    """Return the names to choose from; None for a user who sees only their own jobs."""
    return [account.name for account in await backend.accounts.users()] if user.is_admin else None
