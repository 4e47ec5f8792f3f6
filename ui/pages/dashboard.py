"""The dashboard: the jobs that somebody may want to look at now, live."""

from __future__ import annotations

from backend import Backend
from backend.jobs import counted
from ui.components.job_grid import JobGrid
from ui.components.page_frame import page_frame
from ui.live import LiveJobs
from ui.session import act, current_user, page
from ui.theme import button, icon, link, tag, whose_jobs

DOUBLE_CLICK_SECONDS = 2.0
RECOUNT_SECONDS = 1.0


def add_dashboard_page(backend: Backend, live: LiveJobs) -> None:
    """Attach `/`."""

    @page("/")
    async def dashboard_page() -> None:
        user = current_user()
        with page_frame("Dashboard", "dashboard", user, backend.settings):
            grid = JobGrid(title="Dashboard", show_owner=user.is_admin)
            with grid.add_slot("actions"):
                link("Upload CSV", "/lists", classes="btn primary", icon_name="upload")
            with grid.add_slot("empty"), tag("section", classes="empty"):
                _invitation(backend)
            with grid.add_slot("note"):
                note = Note(backend)
        live.feed(grid, current_user)
        grid.on("recount", note.recount, args=[], throttle=RECOUNT_SECONDS)
        await note.recount()


class Note:
    """Who is signed in, whose jobs they see, and how many there are in History."""

    def __init__(self, backend: Backend) -> None:
        self._manager = backend.manager
        user = current_user()
        with tag("p", classes="note"):
            tag("span", f"Signed in as {user.name}. {whose_jobs(user)}. ")
            self._link = tag("a").props('href="/history"')

    async def recount(self) -> None:
        """Say the number as it is now."""
        self._link.text = f"{counted(await self._manager.count_jobs(by=current_user()), 'job')} in History"


def _invitation(backend: Backend) -> None:
    icon("video_library")
    tag("h2", "No active jobs")
    tag("p", "A CSV of video IDs becomes a job, and its progress shows here. The demo runs one over clips made for it.")
    with tag("div", classes="act"):
        link("Upload a CSV", "/lists", classes="btn primary", icon_name="upload")
        demo = button("Run the demo", icon_name="play_arrow")
    demo.on("click", lambda: _run_demo(backend), throttle=DOUBLE_CLICK_SECONDS, trailing_events=False, args=[])


async def _run_demo(backend: Backend) -> None:
    await act(backend.manager.run_demo(by=current_user()), said="The demo is running")
