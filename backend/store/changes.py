"""What one transaction makes durable: the changes that the journal collects for a tick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from backend.domain.job import Job, Selection
from backend.domain.judgement import SaidForecast
from backend.domain.measures import JobMeasure
from backend.domain.notification import EventKind, event_id
from backend.domain.timeline import Milestone, SharedAction
from backend.domain.video import VideoStatus
from backend.domain.words import folded_unless_ascii
from backend.errors import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoChange:
    """A video's new status; with a duration also its result, because an attempt ended.

    `attempts` counts the video's results including this one, `job_attempt` is the job's attempt. `run_id` is the run
    on a worker that ended with it, and whose row goes.
    """

    job_id: str
    position: int
    status: VideoStatus
    attempts: int
    started_at: datetime | None = None
    duration_seconds: float | None = None
    error: str | None = None
    traceback: str | None = None
    fault: Fault | None = None
    fingerprint: str | None = None
    job_attempt: int = 1
    tries: int = 1
    result: Mapping[str, Any] | None = None
    machine: str | None = None
    run_id: int | None = None

    @property
    def has_result(self) -> bool:
        return self.duration_seconds is not None

    @property
    def error_folded(self) -> str | None:
        """The error as it is searched; None for ASCII."""
        return folded_unless_ascii(self.error)


@dataclass(frozen=True, slots=True)
class Reset:
    """Videos of a job that become pending again: those of a retry, or (None) those that ran when it was released."""

    job_id: str
    selection: Selection | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job that becomes visible with this tick; its videos are stored before. `idempotency`: (key, request hash)."""

    job: Job
    columns: tuple[str, ...]
    idempotency: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class RemovedJob:
    """A job that leaves the dashboard at `seq`, and History too if `is_deleted`."""

    job_id: str
    owner_id: str
    seq: int
    is_deleted: bool = False


class Event(Protocol):
    """An update to be kept in a job's history. The writer thread asks for its JSON, so that the event loop need not."""

    @property
    def job(self) -> Job: ...

    @property
    def body(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNotification:
    """An event, to be stored once for its user however often it is staged; it is composed after its tick.

    `change` is the job at that moment. An event that is not about a job has a `subject` instead, and is told in words
    already. `for_all`: the administrators' channels are told, too; of the notifications of one event only one is.
    """

    event: EventKind
    user_id: str
    at: datetime
    seq: int
    attempt: int = 1
    change: Event | None = None
    subject: str = ""
    title: str | None = None
    text: str | None = None
    for_all: bool = True
    composed: bool = False
    in_bell: bool = False
    wished: bool = False
    muted: bool = False

    @classmethod
    def of(cls, change: Event, event: EventKind, *, at: datetime | None = None) -> NewNotification:
        """Return what the owner of a job is told of it; of a change, unless `at` says when it was seen."""
        job = change.job
        return cls(
            event=event,
            user_id=job.owner_id,
            at=at or job.updated_at,
            seq=job.seq,
            attempt=job.attempt,
            change=change,
        )

    @property
    def event_id(self) -> str:
        return event_id(self.job_id or self.subject, self.event, self.attempt, "" if self.for_all else self.user_id)

    @property
    def job_id(self) -> str | None:
        return None if self.change is None else self.change.job.id

    @property
    def job(self) -> bytes | None:
        """The update on the wire."""
        return None if self.change is None else self.change.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The changes of one transaction. `jobs` are newest states, `events` the updates to keep in the history."""

    new: Sequence[NewJob] = ()
    jobs: Sequence[Job] = ()
    events: Sequence[Event] = ()
    removed: Sequence[RemovedJob] = ()
    videos: Sequence[VideoChange] = ()
    resets: Sequence[Reset] = ()
    milestones: Sequence[Milestone] = ()
    measures: Sequence[JobMeasure] = ()
    forecasts: Sequence[SaidForecast] = ()
    actions: Sequence[SharedAction] = ()
    notifications: Sequence[NewNotification] = ()

    @property
    def last_seq(self) -> int:
        """The newest position in it, 0 if it has none."""
        states = (*self.jobs, *(new.job for new in self.new))
        return max((*(job.seq for job in states), *(gone.seq for gone in self.removed)), default=0)
