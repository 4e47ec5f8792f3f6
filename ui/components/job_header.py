"""The head of a job's page: what is known about the job, moving while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from nicegui.elements.mixins.text_element import TextElement

from backend.jobs import WITH_FAILURES, Action, Job, Source, Status
from backend.pace import Estimate, in_words, rate_in_words
from ui.components.copy_button import CopyButton
from ui.components.job_actions import JobActions
from ui.components.moment import Moment
from ui.text import count, resumed, spoken_progress, time_taken
from ui.theme import icon, link, status_badge, tag


class JobHeader:
    """Name, status, actions, figures, bar and newest error; `show` brings them up to the job's newest state."""

    def __init__(
        self,
        job: Job,
        *,
        now: datetime,
        forecast: Callable[[Job], Estimate | None],
        on_act: Callable[[Action], Awaitable[None]],
    ) -> None:
        self._job = job
        self._forecast = forecast
        with tag("div", classes="crumb"):
            link("Dashboard", "/")
            tag("span", " / ")
            tag("span", job.name)
        with tag("div", classes="head"):
            tag("h1", job.name)
            self._badge = tag("span", classes="badges")
            with tag("div", classes="act"):
                self._actions = JobActions(job, on_act=on_act)
        self._identity = _identity(job)
        with tag("section", classes="panel").props("data-testid=job-header"):
            self._figures()
            self._bar()
            self.below_bar = tag("div")
            self._said = tag("p", classes="said small").props("data-testid=job-message")
        self._draw_state(job)
        self._draw_numbers(job, now)

    def show(self, job: Job, *, now: datetime) -> None:
        """The same job, later."""
        earlier, self._job = self._job, job
        if _state(job) != _state(earlier):
            self._draw_state(job)
        self._draw_numbers(job, now)

    def tick(self, *, now: datetime) -> None:
        """Time went on."""
        self._took.text = time_taken(self._job, now)
        self._draw_pace()

    def _figures(self) -> None:
        with tag("div", classes="figures"):
            self._percent = _figure("done")
            self._videos = _figure("videos")
            self._ok = _figure("ok")
            self._failed = _figure("failed")
            with tag("div"):
                self._took = tag("b")
                self._when = tag("span")
            with tag("div") as self._pace:
                self._rate = tag("b")
                self._left = tag("span")

    def _bar(self) -> None:
        bar = tag("div", classes="bar").props("role=progressbar aria-valuemin=0 aria-valuemax=100")
        bar.props["aria-label"] = self._job.name
        with bar:
            self._shares = {name: tag("i", classes=name) for name in ("ok", "bad", "run")}
        self._progress = bar

    def _draw_state(self, job: Job) -> None:
        for part in (self._badge, self._when, self._said):
            part.clear()
        self._identity.text = _about(job)
        with self._badge:
            if job.source is Source.DEMO:
                tag("span", "demo", classes="tag")
            status_badge(job.status)
        with self._when:
            _when(job)
        with self._said:
            _said(job)

    def _draw_numbers(self, job: Job, now: datetime) -> None:
        self._actions.show(job)
        self._percent.text = f"{job.progress} %"
        self._videos.text = f"{count(job.current_video)} / {count(job.total_videos)}"
        self._ok.text = count(job.succeeded)
        self._failed.text = count(job.failed)
        self._failed.classes("badc" if job.failed else "", remove="" if job.failed else "badc")
        self._took.text = time_taken(job, now)
        self._draw_pace()
        self._progress.props["aria-valuenow"] = job.progress
        waiting = " and waiting" if job.status is Status.PENDING else ""
        self._progress.props["aria-valuetext"] = spoken_progress(job) + waiting
        for name, videos in (("ok", job.succeeded), ("bad", job.failed), ("run", job.running)):
            self._shares[name].style(replace=f"width: {100 * videos / job.total_videos:.3f}%")

    def _draw_pace(self) -> None:
        estimate = self._forecast(self._job)
        self._pace.set_visibility(estimate is not None)
        if estimate is not None:
            self._rate.text, self._left.text = rate_in_words(estimate), f"{in_words(estimate)} left"


def _identity(job: Job) -> TextElement:
    with tag("div", classes="sub identity"):
        tag("span", job.id, classes="mono").props("data-testid=job-id")
        CopyButton(job.id, label="Copy the job ID")
        return tag("span")


def _about(job: Job) -> str:
    work = "runs elsewhere" if job.is_elsewhere else job.processor
    kept = "kept on the dashboard" if job.kept else ""
    return "· " + " · ".join(filter(None, (f"by {job.owner}", work, f"attempt {job.attempt}", kept, resumed(job))))


def _figure(label: str) -> TextElement:
    with tag("div"):
        number = tag("b")
        tag("span", label)
    return number


def _when(job: Job) -> None:
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


def _said(job: Job) -> None:
    if job.trouble:
        with tag("span", classes="badc"):
            icon("error_outline", small=True)
            tag("b", " Paused by itself: " if job.status is Status.PAUSED else " Pausing by itself: ")
            tag("span", job.trouble)
    elif job.requested:
        tag("span", job.message, classes="muted")
    elif job.error and (job.status in WITH_FAILURES or job.failed or job.is_elsewhere):
        with tag("span", classes="badc"):
            icon("error_outline", small=True)
            tag("b", " Newest error: " if job.failed > 1 else " Error: ")
            tag("span", job.error)
    else:
        tag("span", job.message, classes="muted")


def _state(job: Job) -> tuple[object, ...]:
    """What the head is drawn anew for, once it changes."""
    return (
        *(job.status, job.error, job.message, job.started_at, job.finished_at),
        *(job.requested, job.trouble, job.resumed, job.attempt, job.kept),
    )
