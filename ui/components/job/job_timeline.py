"""The history of a job as a whole, step by step, from its list to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import dropwhile, pairwise

from nicegui.elements.mixins.text_element import TextElement

from backend.clock import Clock
from backend.domain.job import Action, Job
from backend.domain.notification import DeliveryState
from backend.domain.texts import counted
from backend.domain.timeline import ChannelDelivery, Milestone, Timeline
from backend.jobs.queries import JobQueries
from backend.notifications.delivery_log import DeliveryLog
from progress_dashboard.protocol import Status
from ui.components.shared.moment import Moment
from ui.session import current_user
from ui.text import count, elapsed
from ui.theme import STATUS_LOOK, icon, tag

ONGOING = {Status.PENDING: "queued", Status.PROCESSING: "running", Status.PAUSED: "paused"}
SHARED_ICON, TOLD_ICON = "checklist", "notifications"
SHARED = {
    Action.RETRY: "Retry",
    Action.PAUSE: "Pause",
    Action.RESUME: "Resuming",
    Action.CANCEL: "Cancelling",
    Action.KEEP: "Keeping",
    Action.DISMISS: "Dismissal",
}
RESTARTED = "after a restart of the server"


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """One line: when the job got which status, its title, notes, and the error if there was one.

    A step that `is_wait` is merged into the next one when the job continues. One with an icon of its own is no change
    of the status: a user asked something of several jobs at once, or a channel told of an event.
    """

    at: datetime
    status: Status
    title: str
    notes: tuple[str, ...] = ()
    error: str = ""
    is_wait: bool = False
    icon: str = ""


class JobTimeline:
    """The panel of the timeline. `refresh` brings it up to date; `tick` updates the duration of an unfinished step."""

    def __init__(self, queries: JobQueries, delivery_log: DeliveryLog, clock: Clock, job: Job) -> None:
        self._queries, self._delivery_log, self._clock = queries, delivery_log, clock
        self._timeline = Timeline(())
        self._deliveries: Sequence[ChannelDelivery] = []
        self._job = job
        self._read: tuple[object, ...] | None = None
        self._last: TimelineStep | None = None
        with tag("section", classes="panel").props("data-testid=job-timeline"):
            tag("h2", "Timeline")
            self._omitted = tag("p", classes="muted small")
            self._list = tag("ol", classes="line")
        self._omitted.set_visibility(False)

    def show(self, job: Job) -> None:
        """Take the job's newest state. The duration of a step that is over by then stops."""
        self._job = job

    async def refresh(self, job: Job) -> None:
        """Show what is stored now. Reads only if something that makes a step has changed since the last time."""
        if self._read == _state(job):
            return
        timeline = await self._queries.timeline(job.id, by=current_user())
        self._read, self._job, self._timeline = _state(job), job, timeline
        self._draw()

    async def refresh_deliveries(self) -> None:
        """Show what has become of the job's events on channels."""
        deliveries = await self._delivery_log.of(self._job.id, by=current_user())
        if deliveries != self._deliveries:
            self._deliveries = deliveries
            self._draw()

    def tick(self, *, now: datetime) -> None:
        """Let the duration of the last step pass."""
        if self._last is not None and self._read == _state(self._job):
            self._duration.text = ongoing(self._job, self._last, now)

    def _draw(self) -> None:
        lines, omitted = steps(self._job, self._timeline)
        self._omitted.set_visibility(omitted > 0)
        self._omitted.text = f"{count(omitted)} earlier changes are not shown"
        self._list.clear()
        self._last = None
        with self._list:
            for step in with_deliveries(with_shared_actions(lines, self._timeline), self._deliveries):
                duration = _draw_step(step)
                if not step.icon:
                    self._last, self._duration = step, duration
        self.tick(now=self._clock.now())


def _state(job: Job) -> tuple[object, ...]:
    """Return the facts that change with each step. A resumed job gets its old status back, but a new lease ID."""
    return job.status, job.attempt, job.lease_id, job.requested, job.pinned, job.on_dashboard


def _draw_step(step: TimelineStep) -> TextElement:
    """Draw the step as a line of the list, and return the place for the duration of an unfinished step."""
    line = tag("li")
    line.props["data-status"] = step.status.value
    with line:
        icon(step.icon or STATUS_LOOK[step.status].icon, small=True)
        tag("span", step.title)
        with tag("small"):
            Moment(step.at, exact=True)
            tag("span", "".join(f" · {note}" for note in step.notes))
            duration = tag("span")
        if step.error:
            tag("small", step.error, classes="badc")
    return duration


def ongoing(job: Job, last: TimelineStep, now: datetime) -> str:
    """Return how long a job has been in its last step, with a dot in front; "" if it has ended."""
    doing = ONGOING.get(last.status)
    if doing is None:
        return ""
    if job.is_external and last.status is Status.PENDING:
        doing = "no report"
    return f" · {doing} for {elapsed((now - last.at).total_seconds())}"


def steps(job: Job, timeline: Timeline) -> tuple[list[TimelineStep], int]:
    """Return the lines of a job's timeline, and the number of earlier changes that are not among them."""
    changes = _changes(timeline)
    lines: list[TimelineStep] = []
    for earlier, here in changes:
        has_continued = here.status is Status.PROCESSING and lines and lines[-1].is_wait
        lines.append(_continued(job, lines.pop(), earlier, here) if has_continued else _step(job, earlier, here))
    return lines, timeline.earlier + len(timeline.milestones) - len(changes)


def with_shared_actions(lines: Sequence[TimelineStep], timeline: Timeline) -> list[TimelineStep]:
    """Return the lines with a line for each thing that a user asked of several jobs at once, before what it led to."""
    asked = [
        TimelineStep(
            action.at,
            Status.PENDING,
            f"{SHARED[action.action]} asked for {counted(action.jobs, 'job')} at once",
            (f"by {action.user_name}",),
            icon=SHARED_ICON,
        )
        for action in timeline.actions
    ]
    return sorted((*asked, *lines), key=lambda step: step.at)


def with_deliveries(lines: Sequence[TimelineStep], deliveries: Sequence[ChannelDelivery]) -> list[TimelineStep]:
    """Return the lines with a line for each event on each channel, where it was sent, or happened."""
    return sorted((*lines, *map(_delivery_step, deliveries)), key=lambda step: step.at)


def _delivery_step(delivery: ChannelDelivery) -> TimelineStep:
    name, state = delivery.channel_name, delivery.state
    said = {
        DeliveryState.SENT: f"Told by {name}",
        DeliveryState.GROUPED: f"Told by {name}",
        DeliveryState.WAITING: f"To be told by {name}",
        DeliveryState.FAILED: f"Not taken by {name}",
        DeliveryState.MUTED: f"Not told by {name}",
    }
    error, muted = delivery.error or "", state is DeliveryState.MUTED
    notes = (
        f"attempt {delivery.attempt}" if delivery.attempt > 1 else "",
        f"together with {counted(delivery.together - 1, 'other event')}" if delivery.together > 1 else "",
        f"{delivery.tries} tries" if delivery.tries > 1 else "",
        error or "muted" if muted else "",
    )
    return TimelineStep(
        delivery.sent_at or delivery.at,
        Status.PENDING,
        f"{said[state]}: {delivery.event.words}",
        tuple(filter(None, notes)),
        "" if muted or state in (DeliveryState.SENT, DeliveryState.GROUPED) else error,
        icon=TOLD_ICON,
    )


def _changes(timeline: Timeline) -> list[tuple[Milestone | None, Milestone]]:
    """Return each milestone with the one before it.

    If earlier ones are missing, the first milestones are left out: those without a known predecessor, and those where
    the job continued after something unknown.
    """
    milestones = timeline.milestones
    if not timeline.earlier:
        return list(zip((None, *milestones), milestones, strict=False))
    return list(dropwhile(lambda change: change[1].status is Status.PROCESSING, pairwise(milestones)))


def _step(job: Job, earlier: Milestone | None, here: Milestone) -> TimelineStep:
    place, notes = _place(job, here), _time_before(job, earlier, here)
    match here.status:
        case Status.PENDING:
            return _wait(job, earlier, here)
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


def _wait(job: Job, earlier: Milestone | None, here: Milestone) -> TimelineStep:
    if earlier is None:
        return TimelineStep(
            here.at, here.status, "Created as an external job" if job.is_external else "Queued", (_list_of(job),)
        )
    place, notes = _place(job, here), _time_before(job, earlier, here)
    if earlier.attempt != here.attempt:
        videos = counted(job.total_videos - here.current_video, "video")
        return TimelineStep(here.at, here.status, f"Attempt {here.attempt}: {videos}", notes)
    if here.resumed is not None:
        return TimelineStep(here.at, here.status, f"Queued again at {place}", (RESTARTED,), is_wait=True)
    if earlier.status is Status.PROCESSING:
        return TimelineStep(here.at, here.status, f"Continued at {place}", ("the pause was withdrawn",), is_wait=True)
    return TimelineStep(here.at, here.status, f"Resumed at {place}", notes, is_wait=True)


def _continued(job: Job, wait: TimelineStep, earlier: Milestone | None, here: Milestone) -> TimelineStep:
    """Return one line for a job that is processed again and for the wait before it."""
    if earlier is None or earlier.resumed is None:
        return replace(wait, at=here.at, status=here.status, is_wait=False)
    lost = elapsed((here.at - (earlier.previous_at or earlier.at)).total_seconds())
    return TimelineStep(here.at, here.status, f"Resumed at {_place(job, here)}", (f"{RESTARTED}, {lost} lost",))


def _place(job: Job, here: Milestone) -> str:
    return f"{count(here.current_video)} / {count(job.total_videos)}"


def _list_of(job: Job) -> str:
    """Return the numbers of the job's list."""
    missing = job.total_videos - job.found
    without = f"{count(missing)} without a file" if missing else ""
    if not job.skipped_rows:
        return ", ".join(filter(None, (counted(job.total_videos, "video"), without)))
    rows = f"{counted(job.total_videos + job.skipped_rows, 'row')}, {count(job.total_videos)} ready"
    return f"{rows}, of these {without}" if without else rows


def _time_before(job: Job, earlier: Milestone | None, here: Milestone) -> tuple[str, ...]:
    """Return how long the job had the earlier status; nothing if that was less than a second."""
    seconds = (here.at - earlier.at).total_seconds() if earlier else 0
    if earlier is None or seconds < 1:
        return ()
    if earlier.status is Status.PENDING:
        return (f"after {elapsed(seconds)} {'without a report' if job.is_external else 'in the queue'}",)
    return (f"paused for {elapsed(seconds)}" if earlier.status is Status.PAUSED else f"{elapsed(seconds)} later",)
