"""What happened to a job as a whole, step by step, from its list to its end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from itertools import dropwhile, pairwise

from nicegui.elements.mixins.text_element import TextElement

from backend.clock import Clock
from backend.domain.job import Job
from backend.domain.texts import counted
from backend.domain.timeline import Milestone, Timeline
from backend.jobs.queries import JobQueries
from progress_dashboard.protocol import Status
from ui.components.shared.moment import Moment
from ui.session import current_user
from ui.text import count, elapsed
from ui.theme import STATUS_LOOK, icon, tag

STILL = {Status.PENDING: "in line", Status.PROCESSING: "running", Status.PAUSED: "paused"}
RESTARTED = "after a restart of the server"


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """One line: when the job got which status, how that is called, and what more there is to say, good and bad.

    `is_wait`: once the job goes on, this is told by the line of that.
    """

    at: datetime
    status: Status
    title: str
    notes: tuple[str, ...] = ()
    trouble: str = ""
    is_wait: bool = False


class JobTimeline:
    """The panel; `refresh` brings it up to date, `tick` lets the time of what still goes on pass."""

    def __init__(self, queries: JobQueries, clock: Clock, job: Job) -> None:
        self._queries, self._clock = queries, clock
        self._job = job
        self._read: tuple[object, ...] | None = None
        self._last: TimelineStep | None = None
        with tag("section", classes="panel").props("data-testid=job-timeline"):
            tag("h2", "Timeline")
            self._omitted = tag("p", classes="muted small")
            self._line = tag("ol", classes="line")
        self._omitted.set_visibility(False)

    def show(self, job: Job) -> None:
        """The job's newest state: what is over by it counts no further."""
        self._job = job

    async def refresh(self, job: Job) -> None:
        """Show what is stored now; reads again when the job has become something else."""
        if self._read == _state(job):
            return
        timeline = await self._queries.timeline(job.id, by=current_user())
        self._read, self._job = _state(job), job
        self._draw(timeline)

    def tick(self, *, now: datetime) -> None:
        """Time went on."""
        if self._last is not None and self._read == _state(self._job):
            self._so_far.text = still(self._job, self._last, now)

    def _draw(self, timeline: Timeline) -> None:
        told, omitted = steps(self._job, timeline)
        self._omitted.set_visibility(omitted > 0)
        self._omitted.text = f"{count(omitted)} earlier changes are not shown"
        self._line.clear()
        with self._line:
            for step in told:
                self._so_far = _draw_step(step)
        self._last = told[-1] if told else None
        self.tick(now=self._clock.now())


def _state(job: Job) -> tuple[object, ...]:
    """What differs after each milestone: a job that was paused and goes on has its status again, under a new epoch."""
    return job.status, job.attempt, job.lease_id


def _draw_step(step: TimelineStep) -> TextElement:
    """The step as a line of the list; what it returns is the place for how long it has been going on."""
    line = tag("li")
    line.props["data-status"] = step.status.value
    with line:
        icon(STATUS_LOOK[step.status].icon, small=True)
        tag("span", step.title)
        with tag("small"):
            Moment(step.at, exact=True)
            tag("span", "".join(f" · {note}" for note in step.notes))
            so_far = tag("span")
        if step.trouble:
            tag("small", step.trouble, classes="badc")
    return so_far


def still(job: Job, last: TimelineStep, now: datetime) -> str:
    """How long a job has been in its last step, with the dot before it; "" once it has ended."""
    doing = STILL.get(last.status)
    if doing is None:
        return ""
    if job.is_external and last.status is Status.PENDING:
        doing = "no report"
    return f" · {doing} for {elapsed((now - last.at).total_seconds())}"


def steps(job: Job, timeline: Timeline) -> tuple[list[TimelineStep], int]:
    """The lines of a job's timeline, and how many changes before them are left out."""
    changes = _changes(timeline)
    told: list[TimelineStep] = []
    for earlier, here in changes:
        goes_on = here.status is Status.PROCESSING and told and told[-1].is_wait
        told.append(_went_on(job, told.pop(), earlier, here) if goes_on else _step(job, earlier, here))
    return told, timeline.earlier + len(timeline.milestones) - len(changes)


def _changes(timeline: Timeline) -> list[tuple[Milestone | None, Milestone]]:
    """Each milestone after the one before, as far as it is known what that was, and what a job went on after."""
    milestones = timeline.milestones
    if not timeline.earlier:
        return list(zip((None, *milestones), milestones, strict=False))
    return list(dropwhile(lambda change: change[1].status is Status.PROCESSING, pairwise(milestones)))


def _step(job: Job, earlier: Milestone | None, here: Milestone) -> TimelineStep:
    place, notes = _place(job, here), _meanwhile(job, earlier, here)
    match here.status:
        case Status.PENDING:
            return _waits(job, earlier, here)
        case Status.PROCESSING:
            is_known = earlier is not None and earlier.attempt == here.attempt
            return TimelineStep(
                here.at, here.status, "Started" if is_known else f"Attempt {here.attempt} started", notes
            )
        case Status.PAUSED:
            title = f"Paused by itself at {place}" if here.pause_reason else f"Paused at {place}"
            return TimelineStep(here.at, here.status, title, notes, here.pause_reason or "")
        case Status.CANCELLED:
            return TimelineStep(here.at, here.status, f"Cancelled at {place}", notes)
        case Status.FAILED:
            return TimelineStep(here.at, here.status, "Failed", notes, here.message)
        case Status.COMPLETED_WITH_ERRORS:
            notes = (*notes, here.message)
    return TimelineStep(here.at, here.status, here.status.words.capitalize(), notes)


def _waits(job: Job, earlier: Milestone | None, here: Milestone) -> TimelineStep:
    if earlier is None:
        return TimelineStep(
            here.at, here.status, "Made to run elsewhere" if job.is_external else "Queued", (_list_of(job),)
        )
    place, notes = _place(job, here), _meanwhile(job, earlier, here)
    if earlier.attempt != here.attempt:
        videos = counted(job.total_videos - here.current_video, "video")
        return TimelineStep(here.at, here.status, f"Attempt {here.attempt}: {videos}", notes)
    if here.resumed is not None:
        return TimelineStep(here.at, here.status, f"In line again at {place}", (RESTARTED,), is_wait=True)
    if earlier.status is Status.PROCESSING:
        return TimelineStep(here.at, here.status, f"Went on at {place}", ("the pause was taken back",), is_wait=True)
    return TimelineStep(here.at, here.status, f"Resumed at {place}", notes, is_wait=True)


def _went_on(job: Job, waited: TimelineStep, earlier: Milestone | None, here: Milestone) -> TimelineStep:
    """The job is worked on again: one line with the wait before it."""
    if earlier is None or earlier.resumed is None:
        return replace(waited, at=here.at, status=here.status, is_wait=False)
    lost = elapsed((here.at - (earlier.previous_at or earlier.at)).total_seconds())
    return TimelineStep(here.at, here.status, f"Resumed at {_place(job, here)}", (f"{RESTARTED}, {lost} lost",))


def _place(job: Job, here: Milestone) -> str:
    return f"{count(here.current_video)} / {count(job.total_videos)}"


def _list_of(job: Job) -> str:
    """What the job's list had."""
    missing = job.total_videos - job.found
    without = f"{count(missing)} without a file" if missing else ""
    if not job.skipped_rows:
        return ", ".join(filter(None, (counted(job.total_videos, "video"), without)))
    rows = f"{counted(job.total_videos + job.skipped_rows, 'row')}, {count(job.total_videos)} ready"
    return f"{rows}, of these {without}" if without else rows


def _meanwhile(job: Job, earlier: Milestone | None, here: Milestone) -> tuple[str, ...]:
    """How long the job was what it was before; nothing is said of less than a second."""
    seconds = (here.at - earlier.at).total_seconds() if earlier else 0
    if earlier is None or seconds < 1:
        return ()
    if earlier.status is Status.PENDING:
        return (f"after {elapsed(seconds)} {'without a report' if job.is_external else 'in line'}",)
    return (f"paused for {elapsed(seconds)}" if earlier.status is Status.PAUSED else f"{elapsed(seconds)} later",)
