"""The words on the wire: the status of a job, its state machine, and the messages that client and server exchange.

The server imports them from here, so that both sides spell the protocol once.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec


class Status(StrEnum):
    """The state of a job; the same words in the API, the CSV and (with spaces) on the pages."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    PAUSED = "paused"
    CANCELLED = "cancelled"

    @property
    def words(self) -> str:
        """The status as a person reads it."""
        return self.value.replace("_", " ")


NEXT: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.PROCESSING, Status.PAUSED, Status.CANCELLED, Status.FAILED}),
    Status.PROCESSING: frozenset(
        {
            Status.PENDING,  # the server stopped, and the job continues after the restart
            Status.COMPLETED,
            Status.FAILED,
            Status.COMPLETED_WITH_ERRORS,
            Status.PAUSED,
            Status.CANCELLED,
        }
    ),
    Status.PAUSED: frozenset({Status.PENDING, Status.CANCELLED}),
    Status.COMPLETED: frozenset({Status.PENDING}),  # a retry
    Status.FAILED: frozenset({Status.PENDING}),
    Status.COMPLETED_WITH_ERRORS: frozenset({Status.PENDING}),
    Status.CANCELLED: frozenset({Status.PENDING}),
}
UNFINISHED = frozenset({Status.PENDING, Status.PROCESSING, Status.PAUSED})
WITH_FAILURES = frozenset({Status.FAILED, Status.COMPLETED_WITH_ERRORS})
REPORTABLE = (Status.PROCESSING, Status.COMPLETED, Status.FAILED, Status.COMPLETED_WITH_ERRORS)
"""The statuses that the sender of an external job may report."""

CANCEL, PAUSE = "cancel", "pause"  # the values of `requested`
EXTERNAL = "external"  # the processor of a job whose videos another program processes and reports
MAX_TEXT_LENGTH, MAX_ERROR_LENGTH = 500, 2_000  # characters


class ProgressUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one job at one moment."""

    # ID of the job, a UUID.
    job_id: str
    # One of `Status`.
    status: str  # not the enumeration, so that a client survives a status that it does not know
    # Percent of the work done, an integer from 0 to 100; 100 only after the last result is stored.
    progress: int
    # Number of finished videos, good or bad.
    current_video: int
    # Number of videos in the job.
    total_videos: int
    # One sentence about what the job does now.
    message: str
    # The video that was worked on last; None before the first one.
    video_id: str | None
    # The newest error of a failed video or of the job itself; absent when there is none.
    error: str | msgspec.UnsetType = msgspec.UNSET
    # Number of videos whose newest result is a failure.
    failed: int
    # Number of the attempt, from 1; each retry of the job starts the next one.
    attempt: int
    # "cancel" or "pause" while that was requested and has not happened yet; else None.
    requested: str | None
    # Name of the job, usually the file name of its list.
    name: str
    # Position of this state; it grows over all jobs of a server and over its restarts.
    seq: int
    # When the job changed, by the server's clock: ISO 8601 in UTC with milliseconds.
    timestamp: str


class SenderReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the sender of an external job reports; a field that is left out changes nothing.

    With `error` and `video_id` that video failed; with `error` alone the error is the job's own.
    """

    # The sender's own counter, growing; the server ignores repeated and older reports.
    n: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    # One of `REPORTABLE`; all of them but processing end the job.
    status: str | None = None
    # Percent of the work done; by default the share of the finished videos.
    progress: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    # Number of finished videos, good or bad.
    current_video: Annotated[int, msgspec.Meta(ge=0)] | None = None
    # ID of one of the job's videos.
    video_id: str | None = None
    # One sentence about what the job does now, at most `MAX_TEXT_LENGTH` characters.
    message: str | None = None
    # Why the video or the job failed, at most `MAX_ERROR_LENGTH` characters.
    error: str | None = None
