"""What happened to a job as a whole: its changes of status and its attempts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from backend.domain.job import Action, Job
from backend.domain.notification import ChannelKind, DeliveryState, EventKind
from progress_dashboard.protocol import Status


class Milestone(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a job when its status changed or an attempt began; its other fields are those of `Job`.

    `previous_at` is the time of the state before, None for a first state.
    """

    job_id: str
    seq: int
    at: datetime
    status: Status
    attempt: int
    current_video: int
    resumed: int | None
    pause_reason: str | None
    message: str
    previous_at: datetime | None

    @classmethod
    def between(cls, earlier: Job | None, job: Job) -> Milestone | None:
        """Return what the next state of a job adds to its timeline; None while only its videos make progress."""
        if earlier is not None and earlier.status is job.status and earlier.attempt == job.attempt:
            return None
        return cls(
            job_id=job.id,
            seq=job.seq,
            at=job.updated_at,
            status=job.status,
            attempt=job.attempt,
            current_video=job.current_video,
            resumed=job.resumed,
            pause_reason=job.pause_reason,
            message=job.message,
            previous_at=earlier.updated_at if earlier else None,
        )


@dataclass(frozen=True, slots=True)
class SharedAction:
    """What a user asked of this job together with others; `jobs` is the number of all of them."""

    job_id: str
    at: datetime
    action: Action
    user_name: str
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelDelivery:
    """What has become of an event of a job on a channel; `at` is the time of the event.

    `together` is how many events the message told of, `error` why it was not taken, or not sent.
    """

    event: EventKind
    attempt: int
    channel_name: str
    kind: ChannelKind
    state: DeliveryState
    tries: int
    at: datetime
    sent_at: datetime | None = None
    error: str | None = None
    together: int = 1


@dataclass(frozen=True, slots=True)
class Timeline:
    """The newest milestones and shared actions of a job, oldest first, and the number of milestones before them."""

    milestones: tuple[Milestone, ...]
    earlier: int = 0
    actions: tuple[SharedAction, ...] = ()
