"""What the routes say, as types: the OpenAPI document is made from these."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from pydantic import BaseModel, Field

from backend.app import Backend
from backend.clock import iso
from backend.errors import Fault
from backend.jobs import Cause, Job, Outcome, Status, Video, VideoStatus
from backend.manager import MOST_PRIORITY, Submission

FAULT = "where a failure lies: permanent (with the file), transient, or machine (every video would meet it)"


class UpdateOut(BaseModel):
    """A progress update, as on the WebSocket."""

    job_id: str
    name: str
    status: Status
    requested: str | None = Field(description="asked for but not happened yet")
    progress: int = Field(ge=0, le=100, description="percent")
    current_video: int = Field(description="finished videos, good or bad")
    total_videos: int
    failed: int = Field(description="videos whose newest result is a failure")
    message: str
    video_id: str | None = Field(description="the video that was worked on last")
    error: str | None = Field(None, description="the newest error; left out when there is none")
    attempt: int
    seq: int = Field(description="position of this state; grows over the whole server")
    timestamp: datetime


class EtaOut(BaseModel):
    """How long the videos that are left will take, in seconds from now, and how fast they get on."""

    seconds: float
    low: float = Field(description="it will likely take longer than that")
    high: float = Field(description="and less than that")
    videos_per_minute: float


class JobOut(UpdateOut):
    """A job: the fields of a progress update and what is known about it besides."""

    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    processor: str
    on_dashboard: bool
    owner: str
    found: int = Field(description="videos that had a file when the job was made")
    priority: int = Field(
        ge=-MOST_PRIORITY, le=MOST_PRIORITY, description="among the waiting jobs of its owner; higher first"
    )
    kept: bool = Field(description="stays on the dashboard until it is dismissed")
    trouble: str | None = Field(description="why it paused itself")
    resumed: int | None = Field(description="finished videos at which it went on after a restart")
    eta: EtaOut | None = Field(description="while it is worked on, once 5 videos and 10 s of it were seen")
    stalled_since: datetime | None = Field(description="its last progress, while it stands still for too long")


class JobPage(BaseModel):
    """Jobs, and where the next page begins."""

    items: list[JobOut]
    next_cursor: str | None


class DuplicateOut(BaseModel):
    """A row that repeats an earlier one and was taken once."""

    line: int
    value: str


class InvalidOut(BaseModel):
    """A row that was left out, and why."""

    line: int
    value: str
    reason: str


class SubmittedOut(JobOut):
    """A new job and what its list had besides."""

    duplicates: list[DuplicateOut]
    invalid: list[InvalidOut]
    missing: int = Field(description="videos without a file in the media directory")
    files: str = Field(description="found and missing in words")


class VideoOut(BaseModel):
    """One video of a job with its newest result."""

    position: int = Field(description="from 0, in the order of the list")
    video_id: str
    line: int | None = Field(description="line in the CSV")
    status: VideoStatus
    attempts: int = Field(description="stored results")
    error: str | None
    group: str | None = Field(description="fingerprint of the error: videos with the same one failed for one cause")
    fault: Fault | None = Field(description=FAULT)
    traceback: str | None
    result: dict[str, Any] | None
    started_at: datetime | None
    duration: float | None = Field(description="seconds of work on the newest result")
    tries: int | None = Field(description="how often the work began for the newest result")


class VideoPage(BaseModel):
    """Videos, and where the next page begins."""

    items: list[VideoOut]
    next_cursor: str | None


class AttemptOut(BaseModel):
    """What came of a video in one attempt of its job; without an error it was good."""

    attempt: int = Field(description="the job's attempt")
    error: str | None
    traceback: str | None
    fault: Fault | None = Field(description=FAULT)
    tries: int = Field(description="how often the work began")
    started_at: datetime
    duration: float | None = Field(description="seconds of work")


class CauseOut(BaseModel):
    """Videos of a job that failed for one cause."""

    fingerprint: str = Field(description="the `group` of these videos")
    count: int = Field(description="videos")
    error: str = Field(description="of one of them")
    video_id: str = Field(description="that one")
    fault: Fault = Field(description=FAULT)
    transient: bool = Field(description="it may go well another time")
    first_seen: datetime
    last_seen: datetime


class SlotsOut(BaseModel):
    """How many videos may run at once."""

    slots: int


class ProblemOut(BaseModel):
    """What went wrong and what to do, in one sentence."""

    detail: str


def refusals(words: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of the errors that a route answers with: the status of each, and when it comes."""
    return {status: {"model": ProblemOut, "description": when} for status, when in words.items()}


OF_A_JOB: Mapping[int, str] = {
    401: "not signed in",
    404: "no such job among yours",
    422: "a value is not valid",
}


def job_out(job: Job, backend: Backend) -> dict[str, Any]:
    """The JSON of `JobOut`; `error` only when there is one."""
    return {
        **msgspec.to_builtins(job.update()),
        "created_at": iso(job.created_at),
        "started_at": _moment(job.started_at),
        "finished_at": _moment(job.finished_at),
        "processor": job.processor,
        "on_dashboard": job.on_dashboard,
        "owner": job.owner,
        "found": job.found,
        "priority": job.priority,
        "kept": job.kept,
        "trouble": job.trouble,
        "resumed": job.resumed,
        "eta": msgspec.to_builtins(backend.forecasts.of(job)),
        "stalled_since": _moment(backend.stalls.of(job)),
    }


def submitted_out(submission: Submission, backend: Backend) -> dict[str, Any]:
    """The JSON of `SubmittedOut`."""
    return {
        **job_out(submission.job, backend),
        "duplicates": [{"line": row.line, "value": row.value} for row in submission.duplicates],
        "invalid": [{"line": row.line, "value": row.value, "reason": row.reason} for row in submission.invalid],
        "missing": submission.missing,
        "files": _files(submission, str(backend.media.root)),
    }


def _files(submission: Submission, media_dir: str) -> str:
    if submission.job.is_elsewhere:
        return "no files are needed here"
    return f"{submission.found:,} of {submission.job.total_videos:,} found in {media_dir}"


def video_out(video: Video) -> dict[str, Any]:
    """The JSON of `VideoOut`."""
    return {
        "position": video.position,
        "video_id": video.video_id,
        "line": video.line,
        "status": video.status.value,
        "attempts": video.attempts,
        "error": video.error,
        "group": video.group,
        "fault": video.fault,
        "traceback": video.traceback,
        "result": dict(video.result) if video.result is not None else None,
        "started_at": _moment(video.started_at),
        "duration": video.duration_seconds,
        "tries": video.tries,
    }


def attempt_out(outcome: Outcome) -> dict[str, Any]:
    """The JSON of `AttemptOut`."""
    return {
        "attempt": outcome.attempt,
        "error": outcome.error,
        "traceback": outcome.traceback,
        "fault": outcome.fault,
        "tries": outcome.tries,
        "started_at": iso(outcome.started_at),
        "duration": outcome.duration_seconds or None,  # 0 stands for work elsewhere, whose time nobody told
    }


def cause_out(cause: Cause) -> dict[str, Any]:
    """The JSON of `CauseOut`."""
    return {
        "fingerprint": cause.fingerprint,
        "count": cause.count,
        "error": cause.error,
        "video_id": cause.video_id,
        "fault": cause.fault,
        "transient": cause.fault.is_transient,
        "first_seen": iso(cause.first_seen),
        "last_seen": iso(cause.last_seen),
    }


def _moment(value: datetime | None) -> str | None:
    return None if value is None else iso(value)
