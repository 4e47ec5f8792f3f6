"""One job: its figures and its videos, for as long as there is a record of it."""

from __future__ import annotations

from nicegui import context, ui

from backend import Backend
from backend.errors import JobNotFound
from backend.jobs import Job
from ui.components.job_header import JobHeader
from ui.components.job_videos import JobVideos, Selection
from ui.components.page_frame import page_frame
from ui.following import states, while_open
from ui.session import current_user, page
from ui.text import tab_state
from ui.theme import icon, link, tag, whose_jobs

HEADER_SECONDS = 0.25
ROWS_SECONDS = 1.0


def add_job_page(backend: Backend) -> None:
    """Attach `/jobs/{id}`."""

    @page("/jobs/{job_id}")
    async def job_page(job_id: str, show: str = "", q: str = "", after: str = "") -> None:
        try:
            job = await backend.manager.find(job_id, by=current_user())
        except JobNotFound as error:
            _not_there(backend, error.sentence)
            return
        with page_frame(_title(job), "", current_user(), backend.settings):
            header = JobHeader(job, now=backend.clock.now())
            videos = JobVideos(backend.manager, job, Selection.of(job, show=show, q=q, after=after))
        await videos.refresh()
        while_open(context.client, _move(backend, job, header, videos), name=f"figures of {job.id}")
        while_open(context.client, _refresh(backend, job, videos), name=f"videos of {job.id}")
        while_open(context.client, _count_up(backend, header), name=f"time of {job.id}")


async def _move(backend: Backend, job: Job, header: JobHeader, videos: JobVideos) -> None:
    shown = _title(job)
    user, clock = current_user(), backend.clock
    async for newest in states(backend.manager, job.id, by=user, clock=clock, every_seconds=HEADER_SECONDS):
        header.show(newest, now=clock.now())
        videos.show(newest)
        if shown != (shown := _title(newest)):
            ui.page_title(shown)


async def _refresh(backend: Backend, job: Job, videos: JobVideos) -> None:
    user, clock = current_user(), backend.clock
    async for _ in states(backend.manager, job.id, by=user, clock=clock, every_seconds=ROWS_SECONDS):
        await videos.refresh()


async def _count_up(backend: Backend, header: JobHeader) -> None:
    while True:
        await backend.clock.sleep(1)
        header.tick(now=backend.clock.now())


def _title(job: Job) -> str:
    return f"{tab_state([job])} {job.name}".strip()


def _not_there(backend: Backend, sentence: str) -> None:
    user = current_user()
    context.client.status_code = 404
    with page_frame("No such job", "", user, backend.settings), tag("section", classes="empty"):
        icon("search_off")
        tag("h2", "No such job")
        tag("p", sentence)
        tag("p", f"{whose_jobs(user)}.")
        with tag("div", classes="act"):
            link("History", "/history", classes="btn primary")
            link("Dashboard", "/", classes="btn")
