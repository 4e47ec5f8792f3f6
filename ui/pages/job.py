"""One job: its figures, its videos and why some failed, for as long as there is a record of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from urllib.parse import urlencode

from nicegui import context, ui

from backend import Backend
from backend.errors import JobNotFound
from backend.jobs import Action, Job, Status
from ui.components.heat_strip import HeatStrip
from ui.components.job_actions import do, retry
from ui.components.job_causes import JobCauses
from ui.components.job_header import JobHeader
from ui.components.job_timeline import JobTimeline
from ui.components.job_videos import JobVideos, VideoFilter
from ui.components.live_region import say
from ui.components.page_frame import page_frame
from ui.components.tabs import Tabs
from ui.following import patiently, states, while_connected
from ui.session import act, current_user, page
from ui.text import count, tab_state
from ui.theme import icon, link, tag, whose_jobs

HEADER_SECONDS = 0.25
ROWS_SECONDS = 1.0
LARGE, LARGE_STRIP_SECONDS = 10_000, 5.0  # videos; their strip is read whole
CAUSES_SECONDS = 3.0  # of a large job they are counted over all its failed videos, as the times are over all
VIDEOS, ERRORS, TIMELINE = "videos", "errors", "timeline"
TABS = {VIDEOS: "Videos", ERRORS: "Errors", TIMELINE: "Timeline"}


def add_job_page(backend: Backend) -> None:
    """Attach `/jobs/{id}`."""

    @page("/jobs/{job_id}")
    async def job_page(job_id: str, tab: str = "", show: str = "", q: str = "", after: str = "") -> None:
        try:
            job = await backend.manager.find(job_id, by=current_user())
        except JobNotFound as error:
            _not_there(backend, error.sentence)
            return
        with page_frame(_title(job), "", current_user(), backend.settings):
            chosen = VideoFilter.of(show=show, q=q, after=after)
            usual = VIDEOS if show or q or after else _usual_tab(job)
            view = JobView(backend, job, chosen, tab=tab if tab in TABS else usual)
        await act(view.refresh())
        client = context.client
        while_connected(client, view.move, name=f"figures of {job.id}")
        while_connected(client, view.follow, name=f"videos of {job.id}")
        while_connected(client, view.colour, name=f"strip of {job.id}")
        while_connected(client, view.explain, name=f"causes of {job.id}")
        while_connected(client, view.count_up, name=f"time of {job.id}")


class JobView:
    """What a job's page shows, and how it stays true."""

    def __init__(self, backend: Backend, job: Job, chosen: VideoFilter, *, tab: str) -> None:
        self._manager, self._clock = backend.manager, backend.clock
        self._goes_on = asyncio.Event()
        self._take(job)
        self._timed: tuple[int, bool, int] | None = None
        self._coloured: int | None = None
        self._gone = tag("section", classes="empty")
        self._gone.set_visibility(False)
        self._shown = tag("div")
        with self._shown:
            self._header = JobHeader(
                job,
                now=self._clock.now(),
                forecast=backend.forecasts.of,
                stalled=backend.stalls.of,
                on_act=self._act,
            )
            self._tabs = Tabs(TABS, chosen=tab, label="About this job", beside=TIMELINE)
            self._draw_tabs(chosen)
        self._count()

    async def refresh(self) -> None:
        """Show what is stored now of its videos."""
        await self._show_strip(self._job)
        await self._explain(self._job)
        await self._show_videos(self._job)

    async def move(self) -> None:
        """Show the job's newest state as long as there is the job."""
        title = _title(self._job)
        try:
            async for newest in self._states(HEADER_SECONDS):
                self._take(newest)
                self._header.show(newest, now=self._clock.now())
                self._causes.show(newest)
                self._videos.show(newest)
                self._timeline.show(newest)
                self._count()
                if title != (title := _title(newest)):
                    ui.page_title(title)
        except JobNotFound:
            self._say_gone()

    async def follow(self) -> None:
        """Show its videos as they change, as long as there is the job."""
        await self._follow(self._show_videos, ROWS_SECONDS)

    async def colour(self) -> None:
        """Show in the strip how they stand, as long as there is the job."""
        await self._follow(self._show_strip, LARGE_STRIP_SECONDS if self._job.total_videos > LARGE else ROWS_SECONDS)

    async def explain(self) -> None:
        """Show why its videos failed, as long as there is the job."""
        await self._follow(self._explain, CAUSES_SECONDS)

    async def count_up(self) -> None:
        """Let its time pass while it has not ended."""
        while True:
            await self._goes_on.wait()
            await self._clock.sleep(1)
            now = self._clock.now()
            self._header.tick(now=now)
            self._timeline.tick(now=now)

    def _take(self, job: Job) -> None:
        self._job = job
        if job.is_finished:
            self._goes_on.clear()
        else:
            self._goes_on.set()

    def _draw_tabs(self, chosen: VideoFilter) -> None:
        job, again = self._job, partial(retry, self._manager, self._job.id)
        with self._tabs.part("head"):
            self._header.draw_panel()
            with self._header.below_bar:
                self._strip = HeatStrip(on_jump=self._jump, on_look=self._name)
        with self._tabs.part(VIDEOS):
            self._videos = JobVideos(self._manager, job, chosen, on_select=self._say_address)
        with self._tabs.part(ERRORS):
            self._causes = JobCauses(self._manager, job, on_look=self._jump, on_retry=again)
        with self._tabs.part(TIMELINE):
            self._timeline = JobTimeline(self._manager, self._clock, job)

    def _count(self) -> None:
        self._tabs.count(**{VIDEOS: count(self._job.total_videos), ERRORS: count(self._job.failed)})

    def _say_address(self) -> None:
        query = {"tab": self._tabs.chosen, **self._videos.chosen.query()}
        ui.navigate.history.replace(f"/jobs/{self._job.id}?{urlencode(query)}")

    async def _follow(self, show: Callable[[Job], Awaitable[None]], every_seconds: float) -> None:
        with suppress(JobNotFound):  # `move` says so
            async for newest in self._states(every_seconds):
                await patiently(partial(show, newest), clock=self._clock, every_seconds=every_seconds)

    async def _show_videos(self, job: Job) -> None:
        await self._timeline.refresh(job)
        self._videos.show(job)  # `move` may be behind
        await self._videos.refresh()

    async def _explain(self, job: Job) -> None:
        await self._causes.refresh(job)
        state = job.attempt, job.is_finished, 100 * job.current_video // job.total_videos  # not at each of very many
        if self._timed != state:
            self._header.show_times(await self._manager.times(job.id, by=current_user()))
            self._timed = state

    async def _show_strip(self, job: Job) -> None:
        if self._coloured != job.seq:
            self._strip.show(await self._manager.outcomes_strip(job.id, by=current_user()), job)
            self._coloured = job.seq

    async def _jump(self, position: int) -> None:
        """To this video among all of them, wherever the reader is."""
        if 0 <= position < self._job.total_videos:
            self._tabs.choose(VIDEOS)
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
        heading, sentence = "This job is gone", f"“{self._job.name}” was deleted, with its results."
        with self._gone:
            icon("delete")
            tag("h1", heading)
            tag("p", sentence)
            _ways_out()
        say(f"{heading}. {sentence}")


def _usual_tab(job: Job) -> str:
    """Where somebody looks first, unless the address says which videos it means."""
    return ERRORS if job.failed or job.status is Status.FAILED else VIDEOS


def _title(job: Job) -> str:
    return f"{tab_state([job])} {job.name}".strip()


def _not_there(backend: Backend, sentence: str) -> None:
    user = current_user()
    context.client.status_code = 404
    with page_frame("No such job", "", user, backend.settings), tag("section", classes="empty"):
        icon("search_off")
        tag("h1", "No such job")
        tag("p", sentence)
        tag("p", f"{whose_jobs(user)}.")
        _ways_out()


def _ways_out() -> None:
    with tag("div", classes="act"):
        link("History", "/history", classes="btn primary")
        link("Dashboard", "/", classes="btn")
