"""The dashboard: the current jobs, live."""

from __future__ import annotations

from collections.abc import Sequence

from backend import Backend
from backend.domain.job import Action, Job
from backend.domain.texts import counted
from ui.components.dashboard.away_line import AwayLine
from ui.components.dashboard.dashboard_view import DashboardView, choice_of
from ui.components.dashboard.job_grid import JobGrid
from ui.components.shared.bulk import serve_bulk
from ui.components.shared.job_actions import do
from ui.frame import frame_of
from ui.live import LiveJobs
from ui.session import act, current_user, page
from ui.text import JOBS_STAY
from ui.theme import button, icon, link, tag, whose_jobs

DOUBLE_CLICK_SECONDS = 2.0
RECOUNT_SECONDS = 1.0


def add_dashboard_page(backend: Backend, live: LiveJobs) -> None:
    """Attach `/`."""

    @page("/")
    async def dashboard_page(show: str = "", q: str = "", sort: str = "", view: str = "") -> None:
        user = current_user()

        async def act_on(job_id: str, action: Action) -> None:
            await do(backend.manager, job_id, action)

        async def search(q: str) -> Sequence[str]:
            return await act(backend.queries.ids_with_video(q, by=current_user())) or ()

        away = await backend.notifications.away(by=user)
        shown = DashboardView.of(show=show, q=q, sort=sort, view=view)
        with frame_of(backend, "Dashboard", "dashboard", user):
            grid = JobGrid(
                shown,
                title="Dashboard",
                show_owner=user.is_admin,
                on_act=act_on,
                on_search=search,
                first=live.first_frame(shown, user),
            )
            with grid.add_slot("news"):
                AwayLine(away, user)
            with grid.add_slot("actions"):
                link("Upload CSV", "/lists", classes="btn primary", icon_name="upload")
            with grid.add_slot("empty"):
                empty = EmptyState(backend)
            with grid.add_slot("note"):
                footer = Footer()

        async def recount() -> None:
            jobs = await backend.queries.count_jobs(by=current_user())
            empty.show(jobs)
            footer.show(jobs)

        async def choose_all(sent: object) -> Sequence[Job]:
            return await backend.many.choose(choice_of(sent), by=current_user(), has_video_errors=True)

        serve_bulk(grid, backend.many, backend.queries, choose=choose_all)
        live.feed(grid, current_user)
        grid.on("recount", recount, args=[], throttle=RECOUNT_SECONDS)
        await recount()


class EmptyState:
    """The dashboard without jobs: how to begin, or that all is done."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._is_first: bool | None = None
        self._section = tag("section", classes="empty").props("data-testid=empty")

    def show(self, jobs: int) -> None:
        """Show the state for this number of jobs in History."""
        if self._is_first == (jobs == 0):
            return
        self._is_first = jobs == 0
        self._section.clear()
        with self._section:
            _draw_welcome() if self._is_first else _draw_all_done()
            with tag("div", classes="act"):
                link("Upload a CSV", "/lists", classes="btn primary", icon_name="upload")
                demo = button("Run the demo", icon_name="play_arrow")
        demo.on("click", self._run_demo, throttle=DOUBLE_CLICK_SECONDS, trailing_events=False, args=[])

    async def _run_demo(self) -> None:
        await act(self._backend.manager.run_demo(by=current_user()), said="The demo is running")


class Footer:
    """Shows who is signed in, whose jobs they see, and how many are in History."""

    def __init__(self) -> None:
        user = current_user()
        with tag("div", classes="note"), tag("p"):
            tag("span", f"Signed in as {user.name}. {whose_jobs(user)}. ")
            self._link = tag("a").props('href="/history"')

    def show(self, jobs: int) -> None:
        """Show the number of jobs in History."""
        self._link.text = f"{counted(jobs, 'job')} in History"


def _draw_welcome() -> None:
    icon("video_library")
    tag("h2", "No active jobs")
    tag("p", "A CSV of video IDs becomes a job, and its progress shows here. The demo runs one over clips made for it.")


def _draw_all_done() -> None:
    icon("task_alt")
    tag("h2", "No active jobs")
    tag("p", f"All done. {JOBS_STAY}.")
