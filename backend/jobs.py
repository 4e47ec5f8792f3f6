"""What a job and a video are, and how a job may change: pure values, no clock, no database, no sockets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import unquote_plus, urlsplit

import msgspec

from backend.clock import iso
from backend.errors import Fault, IllegalMove, Invalid, InvalidVideoId


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
        """As a person reads it."""
        return self.value.replace("_", " ")


NEXT: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.PROCESSING, Status.PAUSED, Status.CANCELLED, Status.FAILED}),
    Status.PROCESSING: frozenset(
        {
            Status.PENDING,  # the server stopped: the job goes on where it was
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


CANCEL, PAUSE = "cancel", "pause"  # what may be `requested` of a job that runs


class Action(StrEnum):
    """What a user may ask of a job."""

    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    RETRY_ALL = "retry_all"
    KEEP = "keep"
    DISMISS = "dismiss"
    RUN_NEXT = "run_next"
    RUN_LAST = "run_last"
    CANCEL = "cancel"
    DELETE = "delete"


class VideoStatus(StrEnum):
    """The state of one video of a job."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


OUTCOME_MARKS = {
    VideoStatus.COMPLETED: "o",
    VideoStatus.FAILED: "f",
    VideoStatus.PROCESSING: "r",
    VideoStatus.PENDING: ".",
}
WORKING = "Processing videos..."
ELSEWHERE = "external"  # the processor of a job whose videos another program works on and reports
LONGEST_TEXT, LONGEST_ERROR = 500, 2_000  # characters of what strangers say
SAYABLE = (Status.PROCESSING, Status.COMPLETED, Status.FAILED, Status.COMPLETED_WITH_ERRORS)


class Source(StrEnum):
    """Where a job's files are found."""

    MEDIA = "media"
    DEMO = "demo"


class ProgressUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One job's state as it goes over the wire; the fields are those of the protocol in the README.

    `progress` is an integer percent, `seq` orders all updates of a server, `timestamp` is ISO 8601 in UTC. `error` is
    left out when there is none.
    """

    job_id: str
    status: str
    progress: int
    current_video: int
    total_videos: int
    message: str
    video_id: str | None
    error: str | msgspec.UnsetType = msgspec.UNSET
    failed: int
    attempt: int
    requested: str | None
    name: str
    seq: int
    timestamp: str


class SenderReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the sender of a job that runs elsewhere says; what it leaves out stays as it was.

    `n` is the sender's own growing counter, `status` one of `SAYABLE`, `current_video` counts finished videos. With
    `error` and `video_id` that video failed; with `error` alone it is the job's.
    """

    n: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    status: str | None = None
    progress: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    current_video: Annotated[int, msgspec.Meta(ge=0)] | None = None
    video_id: str | None = None
    message: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which videos of an ended job a retry takes: those that failed, unless `everything`, some IDs or some `groups`.

    Those that were never done always go along. `groups` are fingerprints of errors.
    """

    everything: bool = False
    video_ids: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job's newest state. Every change returns the next state; `seq` is stamped when it is stored.

    `found` counts the videos that had a file at the start, `left_out` the rows of its list that are no videos of it;
    `running` (videos at work) and `doing` (what the current one
    does) are of the moment and not stored. `reported` is the newest counter of its sender, when it runs elsewhere.
    `trouble` is why it paused itself; `resumed` at how many finished videos it went on after a restart; `kept` jobs
    stay on the dashboard until they are dismissed. `started_at` and what is counted are of the current attempt.
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
    left_out: int = 0
    source: Source = Source.MEDIA
    options: Mapping[str, Any] = {}
    status: Status = Status.PENDING
    requested: str | None = None
    attempt: int = 1
    epoch: int = 0
    current_video: int = 0
    failed: int = 0
    running: int = 0
    doing: str | None = None
    progress: int = 0
    message: str = "Waiting to start"
    video_id: str | None = None
    error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    on_dashboard: bool = True
    kept: bool = False
    priority: int = 0
    trouble: str | None = None
    resumed: int | None = None
    reported: int = -1
    seq: int = 0

    def evolve(self, **changes: Any) -> Job:
        """The same job but for these fields."""
        return msgspec.structs.replace(self, **changes)

    @property
    def is_finished(self) -> bool:
        return self.status not in UNFINISHED

    @property
    def is_elsewhere(self) -> bool:
        """Whether another program works on its videos and reports them."""
        return self.processor == ELSEWHERE

    @property
    def succeeded(self) -> int:
        """Videos with a good result."""
        return self.current_video - self.failed

    @property
    def retryable(self) -> int:
        """Videos without a good result: what a retry takes unless it is told otherwise."""
        return self.total_videos - self.succeeded

    @property
    def undone(self) -> int:
        """Videos without any result in this attempt."""
        return self.total_videos - self.current_video

    @property
    def place(self) -> str:
        """How far it got, as in "214/500"."""
        return f"{self.current_video:,}/{self.total_videos:,}"

    def become(self, status: Status, *, at: datetime, **changes: Any) -> Job:
        """The job in the next status; raises `IllegalMove` where `NEXT` does not allow it."""
        if status not in NEXT[self.status]:
            raise IllegalMove(f"A job that is {self.status.words} cannot become {status.words}.")
        return self.evolve(status=status, updated_at=self._moment(at), **changes)

    def claimed(self, *, at: datetime) -> Job:
        """Taken by an executor: a new epoch, so that what an earlier holder still reports is ignored."""
        goes_on = self.resumed == self.current_video
        return self.become(
            Status.PROCESSING,
            at=at,
            epoch=self.epoch + 1,
            started_at=self.started_at or self._moment(at),
            message=f"Resumed at {self.place} after a restart" if goes_on else WORKING,
        )

    def let_go(self, *, at: datetime, message: str) -> Job:
        """Nobody works on it any more: what was requested happens now, or else it is in line again where it was.

        In line again means that the server stops, or was started anew.
        """
        if self.requested == CANCEL:
            return self.cancelled(at=at)
        if self.requested == PAUSE:
            return self.paused(at=at)
        return self._idle(Status.PENDING, at=at, resumed=self.current_video, message=message)

    def asked_to(self, requested: str | None, *, at: datetime, message: str, trouble: str | None = None) -> Job:
        """Something was requested that happens when its running videos have ended; None: taken back."""
        return self.evolve(requested=requested, message=message, trouble=trouble, updated_at=self._moment(at))

    def cancelled(self, *, at: datetime) -> Job:
        """Ended before its end; what was done stays."""
        message = f"Cancelled at {self.place}"
        return self._idle(Status.CANCELLED, at=at, trouble=None, finished_at=self._moment(at), message=message)

    def paused(self, *, at: datetime) -> Job:
        """Out of the line until somebody resumes it."""
        message = f"Paused by itself: {self.trouble}" if self.trouble else f"Paused at {self.place}"
        return self._idle(Status.PAUSED, at=at, message=message)

    def lined_up(self, *, at: datetime) -> Job:
        """Resumed: in line again."""
        return self._idle(Status.PENDING, at=at, trouble=None, resumed=None, message="Waiting to go on")

    def retried(self, videos: int, *, failed: int, error: str | None, at: datetime) -> Job:
        """The next attempt, at so many of its videos; `failed` and `error` are of those that it leaves as they are."""
        done = self.total_videos - videos
        return self._idle(
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
            trouble=None,
            on_dashboard=True,
            message=f"Waiting to try {counted(videos, 'video')} again",
        )

    def moved(
        self, *, fractions: float, running: int, at: datetime, video_id: str | None = None, doing: str | None = None
    ) -> Job:
        """The running videos got on; `fractions` is the sum of their shares, each from 0 to 1."""
        share = int(100 * (self.current_video + fractions) / self.total_videos + 1e-9)
        return self.evolve(
            progress=max(self.progress, min(99, share)),
            running=running,
            video_id=video_id or self.video_id,
            doing=doing,
            updated_at=self._moment(at),
        )

    def with_result(self, *, video_id: str, error: str | None, fractions: float, running: int, at: datetime) -> Job:
        """One more video has its result; the last one also ends the job."""
        job = self.evolve(
            current_video=self.current_video + 1,
            failed=self.failed + (error is not None),
            error=error if error is not None else self.error,
            video_id=video_id,
            updated_at=self._moment(at),
        )
        if job.current_video < job.total_videos:
            return job.moved(fractions=fractions, running=running, at=at)
        return job._ended(at)

    def heard(self, report: SenderReport, *, is_new_failure: bool, at: datetime) -> Job:
        """What the sender of a job that runs elsewhere says, which never takes anything back; a last word ends the job.

        `is_new_failure`: it tells of a failed video that was none before. Raises `IllegalMove` unless processing.
        """
        if self.status is not Status.PROCESSING:
            raise IllegalMove(f"A job that is {self.status.words} takes no reports.")
        failed = self.failed + is_new_failure
        told = report.current_video if report.current_video is not None else self.current_video + is_new_failure
        finished = min(self.total_videos, max(self.current_video, told, failed))
        share = report.progress if report.progress is not None else 100 * finished // self.total_videos
        job = self.evolve(
            reported=report.n,
            current_video=finished,
            failed=failed,
            progress=max(self.progress, min(99, share)),
            video_id=report.video_id or self.video_id,
            message=report.message or self.message,
            error=report.error or self.error,
            updated_at=self._moment(at),
        )
        return job if report.status in (None, Status.PROCESSING) else job._ended_elsewhere(report, at)

    def broken(self, sentence: str, *, at: datetime) -> Job:
        """The job itself failed, not one of its videos."""
        changes = {"error": sentence, "message": sentence, "trouble": None, "finished_at": self._moment(at)}
        return self._idle(Status.FAILED, at=at, **changes)

    def _idle(self, status: Status, *, at: datetime, **changes: Any) -> Job:
        """The next status, in nobody's hands, and nothing requested any more."""
        return self.become(
            status, at=at, **{"epoch": self.epoch + 1, "requested": None, "running": 0, "doing": None, **changes}
        )

    def _moment(self, at: datetime) -> datetime:
        """Not before the last change: history asked for by time must leave nothing out when the clock was set back."""
        return max(self.updated_at, at)

    def _ended_elsewhere(self, report: SenderReport, at: datetime) -> Job:
        if report.status == Status.FAILED:
            words = report.message or report.error or "Its sender reported that it failed"
            ended = self._moment(at)
            return self.become(Status.FAILED, at=at, message=words, error=report.error or words, finished_at=ended)
        job = self.evolve(current_video=self.total_videos)._ended(at)
        if report.status == Status.COMPLETED_WITH_ERRORS and job.failed == 0:
            job = job.evolve(status=Status.COMPLETED_WITH_ERRORS, message="Done, with errors")
        return job.evolve(message=report.message or job.message)

    def _ended(self, at: datetime) -> Job:
        total = f"{self.total_videos:,}"
        if self.failed == 0:
            status, message = Status.COMPLETED, f"All done: {counted(self.total_videos, 'video')}"
        elif self.failed == self.total_videos:
            status, message = (
                Status.FAILED,
                "The video failed" if self.total_videos == 1 else f"All {total} videos failed",
            )
        else:
            status, message = Status.COMPLETED_WITH_ERRORS, f"Done, {self.failed:,} of {total} videos failed"
        return self._idle(
            status, at=at, epoch=self.epoch, message=message, progress=100, trouble=None, finished_at=self._moment(at)
        )

    def update(self) -> ProgressUpdate:
        """The job as a message to clients."""
        return ProgressUpdate(
            job_id=self.id,
            status=self.status.value,
            progress=self.progress,
            current_video=self.current_video,
            total_videos=self.total_videos,
            message=self.message,
            video_id=self.video_id,
            error=self.error if self.error is not None else msgspec.UNSET,
            failed=self.failed,
            attempt=self.attempt,
            requested=self.requested,
            name=self.name,
            seq=self.seq,
            timestamp=iso(self.updated_at),
        )


def offered(job: Job) -> tuple[Action, ...]:
    """What makes sense to ask of the job in its state, the likeliest first."""
    if job.requested == CANCEL:
        return ()
    if job.is_finished:
        retry = () if job.is_elsewhere else (Action.RETRY, Action.RETRY_ALL) if job.retryable else (Action.RETRY_ALL,)
        shown = () if not job.on_dashboard else (Action.DISMISS,) if job.kept else (Action.KEEP, Action.DISMISS)
        return (*retry, *shown, Action.DELETE)
    if job.is_elsewhere:
        return (Action.CANCEL,)
    if job.status is Status.PROCESSING:
        return (Action.RESUME if job.requested == PAUSE else Action.PAUSE, Action.CANCEL)
    first = Action.RESUME if job.status is Status.PAUSED else Action.PAUSE
    return (first, Action.RUN_NEXT, Action.RUN_LAST, Action.CANCEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One row of a job's list with its newest result.

    `position` counts from 0 in the order of the file, `line` is its line in the CSV, `cells` are the row's own cells
    under the job's columns, `attempts` counts stored results, `duration_seconds` is the work's wall time, `tries` how
    often the work began for it, `group` the fingerprint of the error.
    """

    job_id: str
    position: int
    video_id: str
    line: int | None = None
    cells: tuple[str, ...] = ()
    status: VideoStatus = VideoStatus.PENDING
    attempts: int = 0
    error: str | None = None
    traceback: str | None = None
    fault: Fault | None = None
    group: str | None = None
    result: Mapping[str, Any] | None = None
    started_at: datetime | None = None
    duration_seconds: float | None = None
    tries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a video in one attempt of its job; without an error it was good."""

    attempt: int
    error: str | None
    traceback: str | None
    fault: Fault | None
    tries: int
    started_at: datetime
    duration_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Failed videos of a job that failed for the same reason, with one of them: where it stands, and its error."""

    fingerprint: str
    count: int
    error: str
    traceback: str | None
    position: int
    video_id: str
    fault: Fault
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long a job's videos took, by their newest results, in seconds: half of them up to `p50`, 95 % up to `p95`.

    `videos` are those whose time is known, `tried` those with a result of the job's newest attempt.
    """

    videos: int = 0
    p50: float = 0.0
    p95: float = 0.0
    tried: int = 0


class Milestone(msgspec.Struct, frozen=True, kw_only=True):
    """What a job was when its status changed, or an attempt began; its other fields are those of `Job`.

    `heard_at` is when its state before was last heard of, None of a first state.
    """

    job_id: str
    seq: int
    at: datetime
    status: Status
    attempt: int
    current_video: int
    resumed: int | None
    trouble: str | None
    message: str
    heard_at: datetime | None

    @classmethod
    def between(cls, earlier: Job | None, job: Job) -> Milestone | None:
        """What a job's next state adds to its timeline, which is nothing while only its videos get on."""
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
            trouble=job.trouble,
            message=job.message,
            heard_at=earlier.updated_at if earlier else None,
        )


@dataclass(frozen=True, slots=True)
class Timeline:
    """A job's newest milestones, oldest first, and how many there are before them."""

    milestones: tuple[Milestone, ...]
    earlier: int = 0


VIDEO_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}\Z")
USUAL_ADDRESS = re.compile(  # spares a long list of them most of its time
    r"https://(?:www\.)?(?:youtube\.com/watch\?v=([\w-]+)(?=[&#]|\Z)|youtu\.be/([\w-]+)(?=[?#]|\Z))", re.ASCII
)
STRANGER = re.compile(r"[^A-Za-z0-9._-]")
WATCHED = re.compile(r"(?:\A|&)v=([^&]+)")
YOUTUBE_HOSTS = frozenset(
    {"youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com", "youtube-nocookie.com"}
)


def parse_video_id(text: str) -> str:
    """The video ID in `text`, surrounding blanks taken off, a YouTube address reduced to its ID.

    Raises `InvalidVideoId` with the reason.

    >>> parse_video_id(" https://youtu.be/dQw4w9WgXcQ?t=3 ")
    'dQw4w9WgXcQ'
    """
    candidate = text.strip()
    if "/" in candidate:
        candidate = _from_youtube(candidate) or candidate
    if VIDEO_ID.match(candidate):
        return candidate
    raise InvalidVideoId(f"not an ID: {_why_not(candidate)}")


def _from_youtube(address: str) -> str | None:
    if usual := USUAL_ADDRESS.match(address):
        return usual[1] or usual[2]
    if "youtu" not in address.lower():
        return None
    try:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        host = parts.hostname or ""
    except ValueError:
        return None
    path = [piece for piece in parts.path.split("/") if piece]
    if host in ("youtu.be", "www.youtu.be"):
        return path[0] if path else None
    if host not in YOUTUBE_HOSTS:
        return None
    if path[:1] == ["watch"]:
        parameter = WATCHED.search(parts.query)
        return unquote_plus(parameter[1]) if parameter else None
    return path[1] if len(path) >= 2 and path[0] in ("shorts", "embed", "live", "v") else None


def _why_not(candidate: str) -> str:
    if not candidate:
        return "it is empty"
    if len(candidate) > 128:
        return "it is longer than 128 characters"
    if candidate.startswith("."):
        return "it starts with a dot"
    found = STRANGER.search(candidate)
    stranger = found[0] if found else ""
    return "it contains a blank" if stranger.isspace() else f'"{stranger}" is not allowed'


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "video"), counted(1200, "video")
    ('1 video', '1,200 videos')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def checked_text(text: str, what: str, longest: int = LONGEST_TEXT) -> str:
    """`text` without surrounding blanks; raises `Invalid` for characters that no database takes, or when too long."""
    if "\x00" in text or len(text) > longest or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Invalid(f"{what} must be readable text of at most {longest:,} characters.")
    return text.strip()
