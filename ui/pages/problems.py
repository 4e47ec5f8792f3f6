"""Problems: why videos fail, over all jobs."""

from __future__ import annotations

from nicegui import context

from backend import Backend
from backend.domain.problem import ProblemPeriod
from ui.components.problems.problem_view import ProblemView
from ui.following import patiently, while_connected
from ui.frame import frame_of
from ui.session import act, current_user, page
from ui.theme import tag, whose_jobs

RETRY_SECONDS = 1.0
SHARED = "Notes, and who deals with a cause, are seen by everybody whose jobs have met it."


def add_problems_page(backend: Backend) -> None:
    """Attach `/problems`."""

    @page("/problems")
    async def problems_page(period: str = "") -> None:
        user = current_user()
        chosen = ProblemPeriod(period) if period in set(ProblemPeriod) else ProblemPeriod.WEEK
        with frame_of(backend, "Problems", "problems", user):
            with tag("div", classes="lead"), tag("div"):
                tag("h1", "Problems")
                tag("p", f"Why videos fail by their newest results, over all jobs. {whose_jobs(user)}. {SHARED}")
            view = ProblemView(backend.problems, backend.many, backend.queries, backend.clock, chosen)
        news, version = backend.problems.news, backend.problems.news.version(user)
        await act(view.refresh())

        async def follow() -> None:
            seen = version
            while True:
                seen = await news.changed(by=current_user(), after=seen)
                await patiently(view.refresh, clock=backend.clock, every_seconds=RETRY_SECONDS)

        while_connected(context.client, follow, name="problems")
