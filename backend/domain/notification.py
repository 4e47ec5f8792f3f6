"""What users are told of: events, what a change of a job means for them, and where they are told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

import msgspec

from backend.domain.job import Job
from progress_dashboard.protocol import ProgressUpdate, Status

NAMESPACE = UUID("9f0c4f0e-3d0b-5b0a-8a2c-5c7a1d0e2f31")
KEPT_DAYS = 30


class EventKind(StrEnum):
    """What may be told of a job, or of the server."""

    COMPLETED = "completed"
    WITH_ERRORS = "with_errors"
    FAILED = "failed"
    STALLED = "stalled"
    PAUSED_ITSELF = "paused_itself"
    SLOWER = "slower"
    FASTER = "faster"
    RECOVERED = "recovered"  # a stalled job goes on; or there is room on the disk again
    DISK_LOW = "disk_low"

    @property
    def words(self) -> str:
        """The event as a person reads it."""
        return WORDS[self]


WORDS = {
    EventKind.COMPLETED: "completed",
    EventKind.WITH_ERRORS: "completed with errors",
    EventKind.FAILED: "failed",
    EventKind.STALLED: "stalled",
    EventKind.PAUSED_ITSELF: "paused itself",
    EventKind.SLOWER: "slower than usual",
    EventKind.FASTER: "faster than usual",
    EventKind.RECOVERED: "goes on again",
    EventKind.DISK_LOW: "disk low",
}
ENDS = frozenset({EventKind.COMPLETED, EventKind.WITH_ERRORS, EventKind.FAILED})
"""What "tell me when it ends" asks for."""
WITH_CAUSES = frozenset({EventKind.FAILED, EventKind.WITH_ERRORS})
"""What is told with the causes of the failures, and muted when all of them are known."""
DEFAULTS = frozenset(
    {EventKind.FAILED, EventKind.WITH_ERRORS, EventKind.STALLED, EventKind.PAUSED_ITSELF, EventKind.DISK_LOW}
)
"""What users are told of unless they choose otherwise; a low disk concerns administrators only."""
END_OF = {
    Status.COMPLETED: EventKind.COMPLETED,
    Status.COMPLETED_WITH_ERRORS: EventKind.WITH_ERRORS,
    Status.FAILED: EventKind.FAILED,
}


class ChannelKind(StrEnum):
    """How a channel is reached."""

    WEBHOOK = "webhook"
    APPRISE = "apprise"


class DeliveryState(StrEnum):
    """What has become of a notification on a channel."""

    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"
    MUTED = "muted"  # all its causes are known until later
    GROUPED = "grouped"  # told in the message of another delivery


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """An event as one user is told of it.

    `event_id` is the same however often the event is stored, so that nobody is told twice. `job` is the update at that
    moment, None for an event of the server. `text` never has a path or a trace; `details` is the text with the errors
    as they are, for channels that allow them, None where both are the same. `for_all`: the administrators' channels are
    told, too; of the notifications of one event only one is. `in_bell`: the user's list shows it. `wished`: the user
    asked for it on the job. `muted`: all its causes are known, so that it is shown, but not sent.
    """

    event_id: str
    user_id: str
    job_id: str | None
    event: EventKind
    attempt: int
    seq: int
    at: datetime
    job: ProgressUpdate | None
    for_all: bool = True
    title: str | None = None
    text: str | None = None
    details: str | None = None
    composed: bool = False
    in_bell: bool = False
    wished: bool = False
    muted: bool = False
    read_at: datetime | None = None


class NotificationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a user wants to be told: `events` (None: `DEFAULTS`), and when not.

    Quiet hours are minutes since midnight in `zone` (an IANA name; None: the server's), None without any; they may go
    over midnight.
    """

    events: frozenset[EventKind] | None = None
    quiet_from: int | None = None
    quiet_to: int | None = None
    zone: str | None = None

    @property
    def wanted(self) -> frozenset[EventKind]:
        """The events that the user is told of."""
        return DEFAULTS if self.events is None else self.events


class ChannelFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which jobs a channel is told of: the name of the list, of the owner, of the processor; None: all."""

    name: str | None = None
    owner: str | None = None
    processor: str | None = None

    def matches(self, job: Job) -> bool:
        """Return True if the channel is told of this job."""
        facts = ((self.name, job.name), (self.owner, job.owner), (self.processor, job.processor))
        return all(wanted in (None, fact) for wanted, fact in facts)


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """Where notifications go. Without an owner it is the administrators', for the jobs of all that `only` lets through.

    `events`: None means what its owner is told of (the administrators' channels: `DEFAULTS`). `url` and `secret` never
    leave the server, and are in no `repr`.
    """

    id: str
    owner_id: str | None
    kind: ChannelKind
    name: str
    url: str
    secret: str | None
    events: frozenset[EventKind] | None
    only: ChannelFilter | None
    tells_details: bool
    enabled: bool
    daily_cap: int
    created_at: datetime
    last_sent_at: datetime | None = None
    last_error: str | None = None
    refused_in_a_row: int = 0
    disabled_because: str | None = None

    def __repr__(self) -> str:
        return f"Channel(id={self.id!r}, owner_id={self.owner_id!r}, kind={self.kind.value!r}, name={self.name!r})"

    def takes(self, told: Notification, job: Job | None, settings: NotificationSettings) -> bool:
        """Return True if the notification goes to this channel; `settings` are those of its user."""
        if not self.enabled:
            return False
        if self.owner_id is None:
            wanted = told.event in (DEFAULTS if self.events is None else self.events)
            return told.for_all and wanted and self._lets_through(job)
        wanted = told.wished or told.event in (settings.wanted if self.events is None else self.events)
        return self.owner_id == told.user_id and wanted and self._lets_through(job)

    def _lets_through(self, job: Job | None) -> bool:
        return self.only is None or job is None or self.only.matches(job)


@dataclass(frozen=True, slots=True)
class Away:
    """What happened to a user's own jobs while nobody looked: `causes` is the number of those that are not known."""

    since: datetime
    jobs: int
    videos: int
    succeeded: int
    causes: int


def event_id(subject: str, event: EventKind, attempt: int, user_id: str = "") -> str:
    """Return the ID of an event: of a job (or what else is the `subject`) in this attempt, once for each user told.

    >>> event_id("job-1", EventKind.FAILED, 1) == event_id("job-1", EventKind.FAILED, 1)
    True
    """
    return str(uuid5(NAMESPACE, f"{subject}/{event}/{attempt}/{user_id}"))


def job_link(base_url: str, job_id: str | None) -> str:
    """Return the address of the page about a job; of the dashboard for what is not about one."""
    return f"{base_url}/jobs/{job_id}" if job_id else f"{base_url}/"


def event_between(earlier: Job | None, job: Job) -> EventKind | None:
    """Return what the next state of a job is an event of; None for most."""
    if earlier is not None and earlier.status is job.status and earlier.attempt == job.attempt:
        return None
    if job.status is Status.PAUSED and job.pause_reason is not None:
        return EventKind.PAUSED_ITSELF
    return END_OF.get(job.status)


def event_kinds(names: Iterable[str]) -> frozenset[EventKind]:
    """Return the events of these names, without those that another version knows."""
    known = {event.value for event in EventKind}
    return frozenset(EventKind(name) for name in names if name in known)
