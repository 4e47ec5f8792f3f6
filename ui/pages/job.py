"""One job: its figures, its videos and why some failed, until it is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlencode

from nicegui import context, ui

from backend import Backend
from backend.domain.job import Action, Job
from backend.errors import JobNotFound
from progress_dashboard.protocol import Status
from ui.components.job.heat_strip import HeatStrip
from ui.components.job.job_causes import JobCauses
from ui.components.job.job_header import JobHeader
from ui.components.job.job_timeline import JobTimeline
from ui.components.job.job_videos import JobVideos, VideoFilter
from ui.components.shared.job_actions import do
from ui.components.shared.live_region import say
from ui.components.shared.tabs import Tabs
from ui.following import JobSubscription, patiently, while_connected
from ui.frame import frame_of
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
    async def job_page(job_id: str, *, tab: str = "", show: str = "", q: str = "", after: str = "") -> None:
        try:
            job = await backend.queries.find(job_id, by=current_user())
        except JobNotFound as error:
            _draw_not_found(backend, error.sentence)
            return
        with frame_of(backend, _title(job), "", current_user()):
            chosen = VideoFilter.of(show=show, q=q, after=after)
            usual = VIDEOS if show or q or after else _usual_tab(job)
            view = JobView(backend, job, chosen, tab=tab if tab in TABS else usual)
        await act(view.refresh())
        for name, work in view.work().items():
            while_connected(context.client, work, name=f"{name} of {job.id}")


class JobView:
    """The content of a job's page. One subscription keeps all its parts up to date."""

    def __init__(self, backend: Backend, job: Job, chosen: VideoFilter, *, tab: str) -> None:
        self._manager, self._queries, self._clock = backend.manager, backend.queries, backend.clock
        self._delivery_log = backend.delivery_log
        self._subscription = JobSubscription(backend.queries, job, backend.clock)
        self._unfinished = asyncio.Event()
        self._take(job)
        self._timed: tuple[int, bool, int] | None = None
        self._strip_seq: int | None = None
        self._deleted_notice = tag("section", classes="empty")
        self._deleted_notice.set_visibility(False)
        self._shown = tag("div")
        with self._shown:
            self._header = JobHeader(
                job,
                now=self._clock.now(),
                forecast=backend.forecasts.of,
                stalled=backend.stalls.of,
                wait=lambda job: backend.line.of(job, current_user()),
                on_act=self._act,
            )
            self._tabs = Tabs(TABS, chosen=tab, label="About this job", beside=TIMELINE)
            self._draw_tabs(chosen)
        self._show_counts()

    async def refresh(self) -> None:
        """Show the job's videos as they are stored now."""
        await self._show_strip(self._job)
        await self._show_causes(self._job)
        await self._show_videos(self._job)

    def work(self) -> Mapping[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Return the tasks that keep the open page up to date, by name."""
        strip_seconds = LARGE_STRIP_SECONDS if self._job.total_videos > LARGE else ROWS_SECONDS
        return {
            "subscription": self._follow_job,
            "header": self._follow_header,
            "videos": partial(self._follow, self._show_videos, ROWS_SECONDS),
            "strip": partial(self._follow, self._show_strip, strip_seconds),
            "causes": partial(self._follow, self._show_causes, CAUSES_SECONDS),
            "deliveries": self._follow_deliveries,
            "time": self._tick,
        }

    async def _follow_job(self) -> None:
        try:
            await self._subscription.run(by=current_user(), every_seconds=HEADER_SECONDS)
        except JobNotFound:
            self._show_gone()

    async def _follow_header(self) -> None:
        title = _title(self._job)
        async for newest in self._subscription.changes(HEADER_SECONDS):
            self._take(newest)
            self._header.show(newest, now=self._clock.now())
            self._causes.show(newest)
            self._videos.show(newest)
            self._timeline.show(newest)
            self._show_counts()
            if title != (title := _title(newest)):
                ui.page_title(title)

    async def _follow(self, show: Callable[[Job], Awaitable[None]], every_seconds: float) -> None:
        with suppress(JobNotFound):  # the subscription says so
            async for newest in self._subscription.changes(every_seconds):
                await patiently(partial(show, newest), clock=self._clock, every_seconds=every_seconds)

    async def _follow_deliveries(self) -> None:
        with suppress(JobNotFound):  # the subscription says so
            async for _ in self._delivery_log.changes(self._job.id):
                await patiently(self._timeline.refresh_deliveries, clock=self._clock, every_seconds=ROWS_SECONDS)
                await self._clock.sleep(ROWS_SECONDS)

    async def _tick(self) -> None:
        """Let the shown durations pass while the job has not ended."""
        while True:
            await self._unfinished.wait()
            await self._clock.sleep(1)
            now = self._clock.now()
            self._header.tick(now=now)
            self._timeline.tick(now=now)

    def _take(self, job: Job) -> None:
        self._job = job
        if job.is_finished:
            self._unfinished.clear()
        else:
            self._unfinished.set()

    def _draw_tabs(self, chosen: VideoFilter) -> None:
        job, retry = self._job, partial(do, self._manager, self._job.id, Action.RETRY)
        with self._tabs.part("head"):
            self._header.draw_panel()
            with self._header.below_bar:
                self._strip = HeatStrip(on_jump=self._jump, on_point=self._name_video)
        with self._tabs.part(VIDEOS):
            self._videos = JobVideos(self._queries, job, chosen, on_select=self._update_address, on_retry=retry)
        with self._tabs.part(ERRORS):
            self._causes = JobCauses(self._queries, job, on_show_video=self._jump, on_retry=retry)
        with self._tabs.part(TIMELINE):
            self._timeline = JobTimeline(self._queries, self._delivery_log, self._clock, job)

    def _show_counts(self) -> None:
        self._tabs.count(**{VIDEOS: count(self._job.total_videos), ERRORS: count(self._job.failed)})

    def _update_address(self) -> None:
        query = {"tab": self._tabs.chosen, **self._videos.chosen.query()}
        ui.navigate.history.replace(f"/jobs/{self._job.id}?{urlencode(query)}")

    async def _show_videos(self, job: Job) -> None:
        await self._timeline.refresh(job)
        self._videos.show(job)  # the header may be behind
        await self._videos.refresh()

    async def _show_causes(self, job: Job) -> None:
        await self._causes.refresh(job)
        state = job.attempt, job.is_finished, 100 * job.current_video // job.total_videos  # not for each of many videos
        if self._timed != state:
            self._header.show_times(await self._queries.times(job.id, by=current_user()))
            self._header.show_forecasts(await self._queries.forecasts(job.id, by=current_user()))
            self._timed = state

    async def _show_strip(self, job: Job) -> None:
        if self._strip_seq != job.seq:
            self._strip.show(await self._queries.outcome_strip(job.id, by=current_user()), job)
            self._strip_seq = job.seq

    async def _jump(self, position: int) -> None:
        """Show this video among all of them, also from another tab of the page."""
        if 0 <= position < self._job.total_videos:
            self._tabs.choose(VIDEOS)
            await self._videos.go_to(position)

    async def _name_video(self, position: int) -> None:
        video = await act(self._queries.video(self._job.id, position, by=current_user()))
        if video is not None:
            self._strip.name(position, video.video_id)

    async def _act(self, action: Action) -> None:
        if await do(self._manager, self._job.id, action) and action is Action.DELETE:
            ui.navigate.to("/")

    def _show_gone(self) -> None:
        self._shown.set_visibility(False)
        self._deleted_notice.set_visibility(True)
        ui.page_title("Deleted job")
        heading, sentence = "This job is gone", f"“{self._job.name}” was deleted, with its results."
        with self._deleted_notice:
            icon("delete")
            tag("h1", heading)
            tag("p", sentence)
            _draw_links()
        say(f"{heading}. {sentence}")


def _usual_tab(job: Job) -> str:
    """Return the tab that opens first, unless the address names videos."""
    return ERRORS if job.failed or job.status is Status.FAILED else VIDEOS


def _title(job: Job) -> str:
    return f"{tab_state([job])} {job.name}".strip()


def _draw_not_found(backend: Backend, sentence: str) -> None:
    user = current_user()
    context.client.status_code = 404
    with (
        frame_of(backend, "No such job", "", user),
        tag("section", classes="empty"),
    ):
        icon("search_off")
        tag("h1", "No such job")
        tag("p", sentence)
        tag("p", f"{whose_jobs(user)}.")
        _draw_links()


def _draw_links() -> None:
    with tag("div", classes="act"):
        link("History", "/history", classes="btn primary")
        link("Dashboard", "/", classes="btn")
