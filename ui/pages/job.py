"""One job: its figures and its videos, for as long as there is a record of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

from nicegui import context, ui

from backend import Backend
from backend.errors import JobNotFound
from backend.jobs import Action, Job
from ui.components.heat_strip import HeatStrip
from ui.components.job_actions import do, retry
from ui.components.job_causes import JobCauses
from ui.components.job_header import JobHeader
from ui.components.job_videos import JobVideos, VideoFilter
from ui.components.page_frame import page_frame
from ui.following import states, while_open
from ui.session import act, current_user, page
from ui.text import tab_state
from ui.theme import icon, link, tag, whose_jobs

HEADER_SECONDS = 0.25
ROWS_SECONDS = 1.0
CAUSES_SECONDS = 3.0  # of a large job they are counted over all its failed videos


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
            view = JobView(backend, job, VideoFilter.of(job, show=show, q=q, after=after))
        await view.refresh()
        client = context.client
        while_open(client, view.move(), name=f"figures of {job.id}")
        while_open(client, view.follow(), name=f"videos of {job.id}")
        while_open(client, view.explain(), name=f"causes of {job.id}")
        while_open(client, view.count_up(), name=f"time of {job.id}")


class JobView:
    """What a job's page shows, and how it stays true."""

    def __init__(self, backend: Backend, job: Job, videos: VideoFilter) -> None:
        self._manager, self._clock = backend.manager, backend.clock
        self._job = job
        self._gone = tag("section", classes="empty").props("role=status")
        self._gone.set_visibility(False)
        self._shown = tag("div")
        with self._shown:
            self._header = JobHeader(job, now=self._clock.now(), forecast=backend.forecasts.of, on_act=self._act)
            with self._header.below_bar:
                self._strip = HeatStrip(on_jump=self._jump, on_look=self._name)
            self._causes = JobCauses(self._manager, job, on_retry=partial(retry, self._manager, job.id))
            self._videos = JobVideos(self._manager, job, videos)

    async def refresh(self) -> None:
        """Show what is stored now of its videos."""
        await self._show_strip(self._job)
        await self._causes.refresh(self._job)
        await self._videos.refresh()

    async def move(self) -> None:
        """Show the job's newest state as long as there is the job."""
        title = _title(self._job)
        try:
            async for newest in self._states(HEADER_SECONDS):
                self._job = newest
                self._header.show(newest, now=self._clock.now())
                self._causes.show(newest)
                self._videos.show(newest)
                if title != (title := _title(newest)):
                    ui.page_title(title)
        except JobNotFound:
            self._say_gone()

    async def follow(self) -> None:
        """Show its videos as they change, as long as there is the job."""
        with suppress(JobNotFound):  # `move` says so
            async for newest in self._states(ROWS_SECONDS):
                self._videos.show(newest)  # `move` may be behind
                await self._videos.refresh()
                await self._show_strip(newest)

    async def explain(self) -> None:
        """Show why its videos failed, as long as there is the job."""
        with suppress(JobNotFound):  # `move` says so
            async for newest in self._states(CAUSES_SECONDS):
                await self._causes.refresh(newest)

    async def count_up(self) -> None:
        """Let its time pass."""
        while True:
            await self._clock.sleep(1)
            self._header.tick(now=self._clock.now())

    async def _show_strip(self, job: Job) -> None:
        strip = await act(self._manager.outcomes_strip(job.id, by=current_user()))
        if strip is not None:
            self._strip.show(strip, job)

    async def _jump(self, position: int) -> None:
        if 0 <= position < self._job.total_videos:
            await self._videos.go_to(position)

    async def _name(self, position: int) -> None:
        video = await act(self._manager.video(self._job.id, position, by=current_user()))
        if video is not None:
            self._strip.name(position, video.video_id)

    def _states(self, every_seconds: float) -> AsyncIterator[Job]:
        return states(self._manager, self._job.id, by=current_user(), clock=self._clock, every_seconds=every_seconds)

    async def _act(self, action: Action) -> None:
        if await do(self._manager, self._job.id, action) and action is Action.DELETE:
            ui.navigate.to("/")

    def _say_gone(self) -> None:
        self._shown.set_visibility(False)
        self._gone.set_visibility(True)
        ui.page_title("Deleted job")
        with self._gone:
            icon("delete")
            tag("h2", "This job is gone")
            tag("p", f"“{self._job.name}” was deleted, with its results.")
            _ways_out()


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
        _ways_out()


def _ways_out() -> None:
    with tag("div", classes="act"):
        link("History", "/history", classes="btn primary")
        link("Dashboard", "/", classes="btn")
