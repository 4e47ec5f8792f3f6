"""What the routes take and give, as types: they check requests, make answers, and become the OpenAPI schema.

The comment above a field is its description there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from backend.app import Backend
from backend.clock import iso
from backend.domain.auth import User
from backend.domain.job import Job
from backend.domain.usual import Usual
from backend.domain.video import Cause, Outcome, Video, VideoStatus
from backend.errors import Fault
from backend.executors.machines import Machine, MachineState
from backend.jobs.external import MAX_REPORTS
from backend.jobs.manager import MAX_PRIORITY, MAX_RETRIED_GROUPS, MAX_RETRIED_IDS
from backend.jobs.submission import Submission
from backend.jobs.waiting_line import Wait
from backend.lists.csv_files import MAX_ROWS, VideoList
from backend.settings import MAX_SLOTS
from progress_dashboard.protocol import EXTERNAL, ProgressUpdate, SenderReport, Status

Timestamp = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class ProblemOut(msgspec.Struct):
    """An error."""

    # What went wrong and what to do, in one sentence.
    detail: str


class EtaOut(msgspec.Struct):
    """How long the remaining videos will take, and how fast the job gets on."""

    # Seconds from now.
    seconds: float
    # It will likely take longer than this.
    low: float
    # It will likely take less than this.
    high: float
    videos_per_minute: float


class WaitingOut(msgspec.Struct):
    """What a job waits for."""

    # Its place among the jobs that wait to begin, from 1.
    place: int | None = None
    # In words: what runs, and what is before it; or why no machine takes its videos.
    reason: str | None = None
    # When it is likely to begin.
    starts_at: Timestamp | None = None

    @classmethod
    def of(cls, wait: Wait | None) -> WaitingOut | None:
        """Return the answer for a job that waits; None for one that does not."""
        return None if wait is None else cls(wait.place, wait.reason, _timestamp(wait.starts_at))


class UsualOut(msgspec.Struct):
    """How long runs of a list usually take: nine in ten from `low` to `high` seconds."""

    low: float
    high: float
    # Number of earlier runs with the same name, processor and owner that this is taken from.
    runs: int

    @classmethod
    def of(cls, usual: Usual | None) -> UsualOut | None:
        """Return the answer for what is usual; None while that is unknown."""
        return None if usual is None else cls(usual.low, usual.high, usual.runs)


class JobOut(ProgressUpdate, frozen=True, kw_only=True):
    """A job: the fields of a progress update, and what else is known about it."""

    status: Status
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    processor: str
    on_dashboard: bool
    # Name of the user who owns the job.
    owner: str
    # Number of videos that had a file when the job was created.
    found: int
    # Among the waiting jobs of its owner; higher first.
    priority: int
    # True if the job stays on the dashboard until it is dismissed.
    kept: bool
    # Why the job paused itself.
    trouble: str | None
    # Number of finished videos at which the job continued after a restart.
    resumed: int | None
    # While the job is processing, after 5 videos and 10 s of it were seen.
    eta: EtaOut | None
    # Time of the last progress, while the job is stalled.
    stalled_since: Timestamp | None
    # While the job waits for its turn, or for a machine.
    waiting: WaitingOut | None
    # While the job is on the dashboard: "slower" or "faster" if it is, or was, in comparison with earlier runs.
    unusual: str | None
    # How long earlier runs of the same list took, of five or more, while the job is in its first attempt.
    usual: UsualOut | None

    @classmethod
    def of(cls, job: Job, backend: Backend, by: User, **more: Any) -> JobOut:
        """Return the answer for a job to this user; `more` are the fields of a subclass."""
        job = _with_its_wait(job, backend)
        estimate = backend.forecasts.of(job)
        fields = msgspec.structs.asdict(job.update()) | {
            "status": job.status,
            "created_at": iso(job.created_at),
            "started_at": _timestamp(job.started_at),
            "finished_at": _timestamp(job.finished_at),
            "processor": job.processor,
            "on_dashboard": job.on_dashboard,
            "owner": job.owner,
            "found": job.found,
            "priority": job.priority,
            "kept": job.pinned,
            "trouble": job.pause_reason,
            "resumed": job.resumed,
            "eta": EtaOut(**msgspec.structs.asdict(estimate)) if estimate else None,
            "stalled_since": _timestamp(backend.stalls.of(job)),
            "waiting": WaitingOut.of(backend.line.of(job, by)),
            "unusual": backend.usual_runs.of(job),
            "usual": UsualOut.of(backend.usual_runs.usual(job)),
        }
        return cls(**fields, **more)


class JobPage(msgspec.Struct):
    """A part of a list of jobs."""

    items: list[JobOut]
    # Where the next part begins; null for the last one.
    next_cursor: str | None
    # Number of jobs of the whole list, if it was asked for; null for very many, or if that would take too long.
    count: int | None = None


class DuplicateOut(msgspec.Struct):
    """A row that repeats an earlier one and was taken once."""

    line: int
    value: str


class InvalidOut(msgspec.Struct):
    """A row that was left out."""

    line: int
    value: str
    # Why it was left out.
    reason: str


class SubmittedOut(JobOut, frozen=True, kw_only=True):
    """A new job, and the rows of its list that are not videos of it."""

    duplicates: list[DuplicateOut]
    invalid: list[InvalidOut]
    # Number of videos without a file in the media directory.
    missing: int
    # Found and missing files in words.
    files: str
    # Name of the column that the IDs were taken from; null without a header.
    column: str | None
    # What was decided about the list, in sentences: lines above the header, sums that were left out, …
    notes: list[str]

    @classmethod
    def of_submission(cls, submission: Submission, videos: VideoList, backend: Backend, by: User) -> JobOut:
        """Return the answer for a submission."""
        return cls.of(
            submission.job,
            backend,
            by,
            duplicates=[DuplicateOut(row.line, row.value) for row in submission.duplicates],
            invalid=[InvalidOut(row.line, row.value, row.reason) for row in submission.invalid],
            missing=submission.missing,
            files=_files(submission, str(backend.sources.media.root)),
            column=videos.column,
            notes=list(videos.notes),
        )


class VideoOut(msgspec.Struct):
    """One video of a job with its newest result."""

    # From 0, in the order of the list.
    position: int
    video_id: str
    # Line in the CSV.
    line: int | None
    status: VideoStatus
    # Number of stored results.
    attempts: int
    error: str | None
    # Fingerprint of the error: videos with the same one failed for one cause.
    group: str | None
    # Where the failure lies: with the file (permanent), in passing (transient), or with the machine.
    fault: Fault | None
    traceback: str | None
    result: dict[str, Any] | None
    started_at: Timestamp | None
    # Seconds of work on the newest result.
    duration: float | None
    # How often the work began for the newest result.
    tries: int | None
    # Name of the machine that the newest result is from.
    machine: str | None

    @classmethod
    def of(cls, video: Video) -> VideoOut:
        """Return the answer for a video."""
        return cls(
            position=video.position,
            video_id=video.video_id,
            line=video.line,
            status=video.status,
            attempts=video.attempts,
            error=video.error,
            group=video.group,
            fault=video.fault,
            traceback=video.traceback,
            result=dict(video.result) if video.result is not None else None,
            started_at=_timestamp(video.started_at),
            duration=video.duration_seconds,
            tries=video.tries,
            machine=video.machine,
        )


class VideoPage(msgspec.Struct):
    """A part of a job's list of videos."""

    items: list[VideoOut]
    # Where the next part begins; null for the last one.
    next_cursor: str | None


class AttemptOut(msgspec.Struct):
    """The result of a video in one attempt of its job; without an error it is a good one."""

    # The job's attempt.
    attempt: int
    error: str | None
    traceback: str | None
    # Where the failure lies: with the file (permanent), in passing (transient), or with the machine.
    fault: Fault | None
    # How often the work began.
    tries: int
    started_at: Timestamp
    # Seconds of work.
    duration: float | None
    # Name of the machine.
    machine: str | None

    @classmethod
    def of(cls, outcome: Outcome) -> AttemptOut:
        """Return the answer for a result."""
        return cls(
            attempt=outcome.attempt,
            error=outcome.error,
            traceback=outcome.traceback,
            fault=outcome.fault,
            tries=outcome.tries,
            started_at=iso(outcome.started_at),
            duration=outcome.duration_seconds,
            machine=outcome.machine,
        )


class CauseOut(msgspec.Struct):
    """The videos of a job that failed for one cause."""

    # The `group` of these videos.
    fingerprint: str
    # Number of these videos.
    count: int
    # The error of one of them.
    error: str
    # That one.
    video_id: str
    # Where the failure lies: with the file (permanent), in passing (transient), or with the machine.
    fault: Fault
    # True if another try may succeed.
    transient: bool
    first_seen: Timestamp
    last_seen: Timestamp

    @classmethod
    def of(cls, cause: Cause) -> CauseOut:
        """Return the answer for a cause."""
        return cls(
            fingerprint=cause.fingerprint,
            count=cause.count,
            error=cause.error,
            video_id=cause.video_id,
            fault=cause.fault,
            transient=cause.fault.is_transient,
            first_seen=iso(cause.first_seen),
            last_seen=iso(cause.last_seen),
        )


class TokenOut(msgspec.Struct):
    """A token for `Authorization: Bearer`."""

    access_token: str
    token_type: str
    # Seconds until the token ends.
    expires_in: int


class CallerOut(msgspec.Struct):
    """The user who asks."""

    id: str
    name: str
    is_admin: bool


class NewList(msgspec.Struct, forbid_unknown_fields=True):
    """A new job as JSON."""

    video_ids: Annotated[list[str], msgspec.Meta(extra_json_schema={"maxItems": MAX_ROWS})]
    name: str = "Video IDs"
    # What is done with each video; external: another program processes the videos and reports on them.
    processor: str = "probe"
    # Options of the processor.
    options: dict[str, Any] = {}


class RetryBody(msgspec.Struct, forbid_unknown_fields=True):
    """The videos that a retry takes: one of these fields, or the failed ones."""

    # "failed" (the default) or "all".
    only: str | None = None
    video_ids: Annotated[list[str], msgspec.Meta(extra_json_schema={"maxItems": MAX_RETRIED_IDS})] | None = None
    # Fingerprint of one of the job's causes, or of several.
    group: str | Annotated[list[str], msgspec.Meta(extra_json_schema={"maxItems": MAX_RETRIED_GROUPS})] | None = None


class PriorityBody(msgspec.Struct, forbid_unknown_fields=True):
    """A job's new place among the waiting jobs of its owner."""

    priority: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY})]


class SlotsBody(msgspec.Struct, forbid_unknown_fields=True):
    """How many videos may run at once, on all machines together."""

    slots: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": MAX_SLOTS})]


class SlotsOut(msgspec.Struct):
    """How many videos may run at once, on all machines together; 0 while no machine is connected."""

    slots: int


class WorkerOut(msgspec.Struct):
    """A machine that works on videos."""

    name: str
    # What the machine calls itself.
    node: str
    state: MachineState
    # Number of videos that it may work on at once.
    slots: int
    # Number of videos that it offers to work on; administrators may allow fewer.
    own_slots: int
    # Number of videos that it works on now.
    running: int
    # True if it starts no further videos.
    draining: bool
    # Why it takes no videos for a while.
    resting: str | None
    # Version of its program.
    version: str
    # Names of its processors; it gets the videos of no others.
    processors: list[str]
    last_seen: Timestamp | None

    @classmethod
    def of(cls, machine: Machine) -> WorkerOut:
        """Return the answer for a machine."""
        return cls(
            name=machine.name,
            node=machine.node,
            state=machine.state,
            slots=machine.limit,
            own_slots=machine.slots,
            running=machine.running,
            draining=machine.is_draining,
            resting=machine.resting,
            version=machine.version,
            processors=list(machine.processors),
            last_seen=_timestamp(machine.last_seen),
        )


class WorkerBody(msgspec.Struct, forbid_unknown_fields=True):
    """What changes about a machine; a field that is left out stays."""

    # Number of videos that it may work on at once.
    slots: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": MAX_SLOTS})] | None = None
    # True: it starts no further videos, and its running ones end. False: it takes videos again.
    drain: bool | None = None


ReportsBody = SenderReport | Annotated[list[SenderReport], msgspec.Meta(extra_json_schema={"maxItems": MAX_REPORTS})]


def _with_its_wait(job: Job, backend: Backend) -> Job:
    """Return the job with the reason for which it waits: one that was read from the store does not have it."""
    live = backend.hub.job(job.id)
    is_same = live is not None and (live.status, live.requested) == (job.status, job.requested)
    return job.evolve(waiting_reason=live.waiting_reason) if live is not None and is_same else job


def _files(submission: Submission, media_dir: str) -> str:
    if submission.job.processor == EXTERNAL:
        return "an external job needs no files here"
    return f"{submission.found:,} of {submission.job.total_videos:,} found in {media_dir}"


def _timestamp(value: datetime | None) -> str | None:
    return None if value is None else iso(value)
