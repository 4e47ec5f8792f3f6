"""What a job is and how it may change: pure values, no clock, no database, no sockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from backend.clock import iso
from backend.domain import messages
from backend.domain.words import folded, folded_unless_ascii, sort_key
from backend.errors import IllegalMove
from progress_dashboard.protocol import CANCEL, EXTERNAL, NEXT, PAUSE, UNFINISHED, ProgressUpdate, SenderReport, Status


class Action(StrEnum):
    """What a user may ask of a job."""

    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    RETRY_ALL = "retry_all"
    KEEP = "keep"
    DISMISS = "dismiss"
    PRIORITISE = "priority"
    RUN_NEXT = "run_next"
    RUN_LAST = "run_last"
    CANCEL = "cancel"
    DELETE = "delete"


class Source(StrEnum):
    """Where the files of a job are found."""

    MEDIA = "media"
    DEMO = "demo"


@dataclass(frozen=True, slots=True)
class Selection:
    """The videos of an ended job that a retry takes: the failed ones, unless `everything`, some IDs or some `groups`.

    Videos without a result always go along. `groups` are fingerprints of errors.
    """

    everything: bool = False
    video_ids: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The newest state of a job. Every change returns the next state; `seq` is stamped when it is stored.

    `found` counts the videos that had a file at the start, `skipped_rows` the rows of the list that are no videos
    of the job. `running` (number of videos that run), `doing` (what the current one does) and `waiting_reason` (why
    no machine takes its videos, said in place of `message`) are momentary and not stored. `reported` is the newest
    counter of the sender of an external job. `pause_reason` says why the job paused itself. `resumed` is the number
    of finished videos at which it continued after a restart. A `pinned` job stays on the dashboard until a user
    dismisses it. `lease_id` grows with every claim and every release. `started_at` and the counts belong to the
    current attempt.
    """

    id: str
    owner_id: str
    owner: str
    name: str
    processor: str
    created_at: datetime
    updated_at: datetime
    total_videos: int
    found: int = 0
    skipped_rows: int = 0
    source: Source = Source.MEDIA
    options: Mapping[str, Any] = {}
    status: Status = Status.PENDING
    requested: str | None = None
    attempt: int = 1
    lease_id: int = 0
    current_video: int = 0
    failed: int = 0
    running: int = 0
    doing: str | None = None
    waiting_reason: str | None = None
    progress: int = 0
    message: str = messages.WAITING_TO_START
    video_id: str | None = None
    error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    on_dashboard: bool = True
    pinned: bool = False
    priority: int = 0
    pause_reason: str | None = None
    resumed: int | None = None
    reported: int = -1
    seq: int = 0

    @property
    def name_folded(self) -> str:
        """The name as it is searched."""
        return folded(self.name)

    @property
    def name_key(self) -> str:
        """The name as it is sorted."""
        return sort_key(self.name)

    @property
    def error_folded(self) -> str | None:
        """The error as it is searched; None for ASCII."""
        return folded_unless_ascii(self.error)

    def evolve(self, **changes: Any) -> Job:
        """Return the same job with these fields changed."""
        return msgspec.structs.replace(self, **changes)

    @property
    def is_finished(self) -> bool:
        return self.status not in UNFINISHED

    @property
    def is_external(self) -> bool:
        """True if another program processes its videos and reports on them."""
        return self.processor == EXTERNAL

    @property
    def succeeded(self) -> int:
        """Number of videos with a good result."""
        return self.current_video - self.failed

    @property
    def retryable(self) -> int:
        """Number of videos without a good result, which a retry takes by default."""
        return self.total_videos - self.succeeded

    @property
    def undone(self) -> int:
        """Number of videos without any result in this attempt."""
        return self.total_videos - self.current_video

    @property
    def place(self) -> str:
        """The finished videos of all, as in "214/500"."""
        return f"{self.current_video:,}/{self.total_videos:,}"

    def become(self, status: Status, *, at: datetime, **changes: Any) -> Job:
        """Return the job in the next status. Raises `IllegalMove` where `NEXT` does not allow it."""
        if status not in NEXT[self.status]:
            raise IllegalMove(f"A job that is {self.status.words} cannot become {status.words}.")
        return self.evolve(status=status, updated_at=self._not_before_last_change(at), **changes)

    def claimed(self, *, at: datetime) -> Job:
        """Return the job under a new lease, so that reports of an earlier holder are ignored."""
        continues = self.resumed == self.current_video
        return self.become(
            Status.PROCESSING,
            at=at,
            lease_id=self.lease_id + 1,
            started_at=self.started_at or self._not_before_last_change(at),
            message=messages.resumed(self.place) if continues else messages.PROCESSING,
        )

    def released(self, *, at: datetime, message: str) -> Job:
        """Return the job without a holder: a pending cancel or pause is applied, otherwise it waits to continue.

        It waits because the server stops, or was started again.
        """
        if self.requested == CANCEL:
            return self.cancelled(at=at)
        if self.requested == PAUSE:
            return self.paused(at=at)
        return self._without_holder(Status.PENDING, at=at, resumed=self.current_video, message=message)

    def with_request(
        self, requested: str | None, *, at: datetime, message: str, pause_reason: str | None = None
    ) -> Job:
        """Return the job with a request that is applied when its running videos have ended; None withdraws it."""
        at = self._not_before_last_change(at)
        said = {"message": message, "pause_reason": pause_reason, "waiting_reason": None}
        return self.evolve(requested=requested, updated_at=at, **said)

    def waiting_for(self, reason: str | None, *, at: datetime) -> Job:
        """Return the unfinished job that waits for a machine, with the reason; None: it no longer does."""
        return self.evolve(waiting_reason=reason, updated_at=self._not_before_last_change(at))

    def cancelled(self, *, at: datetime) -> Job:
        """Return the job ended before all its videos were done. Their results stay."""
        ended = self._not_before_last_change(at)
        message = messages.cancelled(self.place)
        return self._without_holder(Status.CANCELLED, at=at, pause_reason=None, finished_at=ended, message=message)

    def paused(self, *, at: datetime) -> Job:
        """Return the job out of the queue until it is resumed."""
        message = messages.paused(self.place, self.pause_reason)
        return self._without_holder(Status.PAUSED, at=at, message=message)

    def enqueued(self, *, at: datetime) -> Job:
        """Return the resumed job, waiting again."""
        message = messages.WAITING_TO_CONTINUE
        return self._without_holder(Status.PENDING, at=at, pause_reason=None, resumed=None, message=message)

    def retried(self, videos: int, *, failed: int, error: str | None, at: datetime) -> Job:
        """Return the next attempt at this many videos; `failed` and `error` are of those that it does not take."""
        done = self.total_videos - videos
        return self._without_holder(
            Status.PENDING,
            at=at,
            attempt=self.attempt + 1,
            current_video=done,
            failed=failed,
            error=error,
            progress=100 * done // self.total_videos,
            video_id=None,
            started_at=None,
            finished_at=None,
            resumed=None,
            pause_reason=None,
            on_dashboard=True,
            message=messages.waiting_to_retry(videos),
        )

    def progressed(
        self, *, fractions: float, running: int, at: datetime, video_id: str | None = None, doing: str | None = None
    ) -> Job:
        """Return the job after its running videos made progress; `fractions` sums their shares, each from 0 to 1."""
        share = int(100 * (self.current_video + fractions) / self.total_videos + 1e-9)
        return self.evolve(
            progress=max(self.progress, min(99, share)),
            running=running,
            video_id=video_id or self.video_id,
            doing=doing,
            waiting_reason=None,
            updated_at=self._not_before_last_change(at),
        )

    def with_result(self, *, video_id: str, error: str | None, fractions: float, running: int, at: datetime) -> Job:
        """Return the job with the result of one more video; the last result also ends the job."""
        job = self.evolve(
            current_video=self.current_video + 1,
            failed=self.failed + (error is not None),
            error=error if error is not None else self.error,
            video_id=video_id,
            updated_at=self._not_before_last_change(at),
        )
        if job.current_video < job.total_videos:
            return job.progressed(fractions=fractions, running=running, at=at)
        return job._ended(at)

    def with_report(self, report: SenderReport, *, is_new_failure: bool, at: datetime) -> Job:
        """Return the external job after a report of its sender, which never takes anything back.

        `is_new_failure` is True for a failed video that had not failed before. Raises `IllegalMove` unless processing.
        """
        if self.status is not Status.PROCESSING:
            raise IllegalMove(f"A job that is {self.status.words} takes no reports.")
        failed = self.failed + is_new_failure
        counted = report.current_video if report.current_video is not None else self.current_video + is_new_failure
        finished = min(self.total_videos, max(self.current_video, counted, failed))
        share = report.progress if report.progress is not None else 100 * finished // self.total_videos
        job = self.evolve(
            reported=report.n,
            current_video=finished,
            failed=failed,
            progress=max(self.progress, min(99, share)),
            video_id=report.video_id or self.video_id,
            message=report.message or self.message,
            error=report.error or self.error,
            updated_at=self._not_before_last_change(at),
        )
        return job if report.status in (None, Status.PROCESSING) else job._ended_by_sender(report, at)

    def with_job_error(self, sentence: str, *, at: datetime) -> Job:
        """Return the job failed by an error of its own, not of one of its videos."""
        ended = self._not_before_last_change(at)
        return self._without_holder(
            Status.FAILED, at=at, error=sentence, message=sentence, pause_reason=None, finished_at=ended
        )

    def update(self) -> ProgressUpdate:
        """Return the job as a message to clients."""
        return ProgressUpdate(
            job_id=self.id,
            status=self.status.value,
            progress=self.progress,
            current_video=self.current_video,
            total_videos=self.total_videos,
            message=self.waiting_reason or self.message,
            video_id=self.video_id,
            error=self.error if self.error is not None else msgspec.UNSET,
            failed=self.failed,
            attempt=self.attempt,
            requested=self.requested,
            name=self.name,
            seq=self.seq,
            timestamp=iso(self.updated_at),
        )

    def _without_holder(self, status: Status, *, at: datetime, **changes: Any) -> Job:
        """Return the job in the next status, without a holder and with nothing requested."""
        idle = {"lease_id": self.lease_id + 1, "requested": None, "running": 0, "doing": None, "waiting_reason": None}
        return self.become(status, at=at, **{**idle, **changes})

    def _not_before_last_change(self, at: datetime) -> datetime:
        """Return `at`, or the last change if the clock was set back: history by time must leave nothing out."""
        return max(self.updated_at, at)

    def _ended_by_sender(self, report: SenderReport, at: datetime) -> Job:
        if report.status == Status.FAILED:
            words = report.message or report.error or messages.SENDER_FAILED
            ended = self._not_before_last_change(at)
            return self.become(Status.FAILED, at=at, message=words, error=report.error or words, finished_at=ended)
        job = self.evolve(current_video=self.total_videos)._ended(at)
        if report.status == Status.COMPLETED_WITH_ERRORS and job.failed == 0:
            job = job.evolve(status=Status.COMPLETED_WITH_ERRORS, message=messages.DONE_WITH_ERRORS)
        return job.evolve(message=report.message or job.message)

    def _ended(self, at: datetime) -> Job:
        if self.failed == 0:
            status, message = Status.COMPLETED, messages.completed(self.total_videos)
        elif self.failed == self.total_videos:
            status, message = Status.FAILED, messages.all_failed(self.total_videos)
        else:
            status, message = Status.COMPLETED_WITH_ERRORS, messages.some_failed(self.failed, self.total_videos)
        ended = self._not_before_last_change(at)
        return self._without_holder(
            status, at=at, lease_id=self.lease_id, message=message, progress=100, pause_reason=None, finished_at=ended
        )


class ExportedJob(NamedTuple):
    """What an export of the history says about a job; its times are ISO 8601."""

    job_id: str
    name: str
    owner: str
    status: str
    total_videos: int
    failed: int
    error: str | None
    attempt: int
    processor: str
    created_at: str
    started_at: str | None
    finished_at: str | None

    @classmethod
    def of(cls, job: Job) -> ExportedJob:
        """Return what an export says about the job."""
        times = [None if at is None else iso(at) for at in (job.started_at, job.finished_at)]
        about = (job.id, job.name, job.owner, job.status.value, job.total_videos, job.failed, job.error, job.attempt)
        return cls(*about, job.processor, iso(job.created_at), *times)


def offered_actions(job: Job) -> tuple[Action, ...]:
    """Return the actions that make sense for the job in its state, the likeliest first."""
    if job.requested == CANCEL:
        return ()
    if job.is_finished:
        retry = () if job.is_external else (Action.RETRY, Action.RETRY_ALL) if job.retryable else (Action.RETRY_ALL,)
        shown = () if not job.on_dashboard else (Action.DISMISS,) if job.pinned else (Action.KEEP, Action.DISMISS)
        return (*retry, *shown, Action.DELETE)
    if job.is_external:
        return (Action.CANCEL,)
    if job.status is Status.PROCESSING:
        return (Action.RESUME if job.requested == PAUSE else Action.PAUSE, Action.CANCEL)
    first = Action.RESUME if job.status is Status.PAUSED else Action.PAUSE
    return (first, Action.RUN_NEXT, Action.RUN_LAST, Action.CANCEL)
