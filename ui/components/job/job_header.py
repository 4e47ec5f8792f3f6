"""The head of a job's page: what is known about the job, updated while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from nicegui.elements.mixins.text_element import TextElement

from backend.domain.job import Action, Job, Source
from backend.domain.judgement import SaidForecast
from backend.domain.pace import Estimate, in_words, per_time
from backend.domain.video import VideoTimes
from backend.jobs.waiting_line import Wait
from progress_dashboard.protocol import WITH_FAILURES, Status
from ui.components.job.said_forecasts import draw_forecasts
from ui.components.shared.copy_button import CopyButton
from ui.components.shared.job_actions import JobActions
from ui.components.shared.moment import Moment
from ui.components.shared.tell_me import TellMe
from ui.text import (
    count,
    overall_rate,
    resumed,
    shares,
    spoken_progress,
    stalled_for,
    time_taken,
    video_times,
    video_times_in_full,
)
from ui.theme import WAITING_ICON, icon, link, stalled_badge, status_badge, tag


class JobHeader:
    """Name, status and actions; `draw_panel` adds the figures, the bar and the newest error.

    `show` brings them up to the job's newest state and sends only what has changed. `stalled` returns since when a job
    has been stalled.
    """

    def __init__(
        self,
        job: Job,
        *,
        now: datetime,
        forecast: Callable[[Job], Estimate | None],
        stalled: Callable[[Job], datetime | None],
        wait: Callable[[Job], Wait | None],
        on_act: Callable[[Action], Awaitable[None]],
    ) -> None:
        self._job = job
        self._now = now
        self._forecast = forecast
        self._stalled = stalled
        self._wait_of = wait
        self._wait: Wait | None = None
        self._said: tuple[SaidForecast, ...] = ()
        self._stalled_since: datetime | None = None
        self._times = VideoTimes()
        with tag("div", classes="crumb"):
            link("Dashboard", "/")
            tag("span", " / ")
            tag("span", job.name)
        with tag("div", classes="head"):
            tag("h1", job.name)
            with tag("span", classes="badges"):
                self._badge = tag("span", classes="badges")
                self._stall_badge = tag("span", classes="badges")
            with tag("div", classes="act"):
                self._tell = TellMe(job)
                self._actions = JobActions(job, on_act=on_act)
        self._identity = _identity(job)

    def draw_panel(self) -> None:
        """Draw the panel with the figures, once."""
        with tag("section", classes="panel").props("data-testid=job-header"):
            self._draw_figures()
            self._draw_bar()
            self.below_bar = tag("div")
            self._message = tag("p", classes="said small").props("data-testid=job-message")
            self._wait_line = tag("p", classes="said small muted").props("data-testid=job-wait")
            self._said_line = tag("p", classes="said small muted").props("data-testid=job-forecasts")
            self._said_line.set_visibility(False)
        self._draw_state(self._job)
        self._draw_numbers(self._job)

    def show(self, job: Job, *, now: datetime) -> None:
        """Show a later state of the same job."""
        earlier, self._job, self._now = self._job, job, now
        if _state(job) != _state(earlier):
            self._draw_state(job)
        self._draw_numbers(job)

    def show_times(self, times: VideoTimes) -> None:
        """Show how long the job's videos take."""
        self._times = times
        self._pace.props(f'title="{video_times_in_full(times)}"')
        self._draw_pace()

    def show_forecasts(self, said: Sequence[SaidForecast]) -> None:
        """Show what was said about the end of the attempt, and how true it was."""
        if tuple(said) == self._said:
            return
        self._said = tuple(said)
        self._said_line.clear()
        self._said_line.set_visibility(bool(said))
        with self._said_line:
            draw_forecasts(said)

    def tick(self, *, now: datetime) -> None:
        """Let the shown durations pass."""
        self._now = now
        self._took.text = time_taken(self._job, now)
        self._draw_pace()
        self._draw_wait(self._wait_of(self._job))

    def _draw_figures(self) -> None:
        with tag("div", classes="figures"):
            self._percent = _figure("done")
            self._videos = _figure("videos")
            self._ok = _figure("ok")
            self._failed = _figure("failed")
            with tag("div"):
                self._took = tag("b")
                self._when = tag("span")
            with tag("div") as self._pace:
                self._rate, self._video_times = tag("b"), tag("span")
            with tag("div") as self._remaining:
                self._remaining_text = tag("b")
                tag("span", "left")
            with tag("div", classes="stalled").props("data-testid=job-stalled") as self._stall:
                self._stall_text = tag("b")
                self._stall_start = tag("span")

    def _draw_bar(self) -> None:
        bar = tag("div", classes="bar").props("role=progressbar aria-valuemin=0 aria-valuemax=100")
        bar.props["aria-label"] = self._job.name
        with bar:
            self._shares = {name: tag("i", classes=name) for name in ("ok", "bad", "run")}
        self._progress = bar

    def _draw_state(self, job: Job) -> None:
        for part in (self._badge, self._when, self._message):
            part.clear()
        self._identity.text = _about(job)
        with self._badge:
            if job.source is Source.DEMO:
                tag("span", "demo", classes="tag")
            status_badge(job.status)
        with self._when:
            _draw_times(job)
        with self._message:
            _draw_message(job)

    def _draw_numbers(self, job: Job) -> None:
        self._actions.show(job)
        self._tell.set_visibility(not job.is_finished)
        self._percent.text = f"{job.progress} %"
        self._videos.text = f"{count(job.current_video)} / {count(job.total_videos)}"
        self._ok.text = count(job.succeeded)
        self._failed.text = count(job.failed)
        self._failed.classes("badc" if job.failed else "", remove="" if job.failed else "badc")
        self._took.text = time_taken(job, self._now)
        self._draw_pace()
        self._draw_wait(self._wait_of(job))
        waiting = " and waiting" if job.status is Status.PENDING else ""
        self._progress.props(f'aria-valuenow={job.progress} aria-valuetext="{spoken_progress(job)}{waiting}"')
        for part, share in zip(self._shares.values(), shares(job), strict=True):
            part.style(replace=f"width: {share}%")

    def _draw_pace(self) -> None:
        """Show the pace of the job and how long its videos take, or since when it has been stalled."""
        since, estimate = self._stalled(self._job), self._forecast(self._job)
        self._draw_stall(since)
        rate = overall_rate(self._job, self._times.tried) if estimate is None else estimate.videos_per_minute
        self._rate.text = "" if rate is None else per_time(rate)
        self._video_times.text = video_times(self._times) or "on average"
        self._pace.set_visibility(since is None and rate is not None)
        self._remaining_text.text = "" if estimate is None else in_words(estimate)
        self._remaining.set_visibility(since is None and estimate is not None)

    def _draw_wait(self, wait: Wait | None) -> None:
        """Show the place of a job that waits for its turn. That it waits for a machine is its message."""
        if wait is not None and self._job.waiting_reason is not None:
            wait = None
        self._wait_line.set_visibility(wait is not None)
        if wait == self._wait or wait is None:
            return
        self._wait = wait
        self._wait_line.clear()
        with self._wait_line:
            icon("schedule", small=True)
            tag("span", f" {wait.words}")
            if wait.starts_at is not None:
                tag("span", "; about ")
                Moment(wait.starts_at, zoned=True)

    def _draw_stall(self, since: datetime | None) -> None:
        self._stall.set_visibility(since is not None)
        if since is not None:
            self._stall_text.text = stalled_for(since, self._now)
        if since == self._stalled_since:
            return
        self._stalled_since = since
        for part in (self._stall_badge, self._stall_start):
            part.clear()
        if since is not None:
            with self._stall_badge:
                stalled_badge()
            with self._stall_start:
                tag("span", "since ")
                Moment(since, zoned=True)


def _identity(job: Job) -> TextElement:
    with tag("div", classes="sub identity"):
        tag("span", job.id, classes="mono").props("data-testid=job-id")
        CopyButton(job.id, label="Copy the job ID")
        return tag("span")


def _about(job: Job) -> str:
    work = "external job" if job.is_external else job.processor
    pinned = "kept on the dashboard" if job.pinned else ""
    return " · ".join(filter(None, (f"by {job.owner}", work, f"attempt {job.attempt}", pinned, resumed(job))))


def _figure(label: str) -> TextElement:
    with tag("div"):
        number = tag("b")
        tag("span", label)
    return number


def _draw_times(job: Job) -> None:
    if job.started_at is None:
        tag("span", "waiting since ")
        Moment(job.created_at, zoned=True)
    elif job.finished_at is None or not job.is_finished:
        tag("span", "since ")
        Moment(job.started_at, zoned=True)
    else:
        Moment(job.started_at)
        tag("span", " to ")
        Moment(job.finished_at, zoned=True)


def _draw_message(job: Job) -> None:
    if job.waiting_reason:
        with tag("div", classes="warn strong"):
            icon(WAITING_ICON, small=True)
            tag("span", f" {job.waiting_reason}")
    if job.pause_reason:
        with tag("span", classes="badc"):
            icon("error_outline", small=True)
            tag("b", " Paused by itself: " if job.status is Status.PAUSED else " Pausing by itself: ")
            tag("span", job.pause_reason)
    elif job.requested:
        tag("span", job.message, classes="muted")
    elif job.error and (job.status in WITH_FAILURES or job.failed or job.is_external):
        with tag("span", classes="badc"):
            icon("error_outline", small=True)
            tag("b", " Newest error: " if job.failed > 1 else " Error: ")
            tag("span", job.error)
    elif not job.waiting_reason:
        tag("span", job.message, classes="muted")


def _state(job: Job) -> tuple[object, ...]:
    """Return the facts of the job whose change redraws the head."""
    return (
        *(job.status, job.error, job.message, job.started_at, job.finished_at),
        *(job.requested, job.pause_reason, job.waiting_reason, job.resumed, job.attempt, job.pinned),
    )
