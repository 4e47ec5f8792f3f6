"""What the routes say, as types: the OpenAPI document is made from these."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from pydantic import BaseModel, Field

from backend.clock import iso
from backend.jobs import Job, Status, Video, VideoStatus
from backend.manager import Submission


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


class JobOut(UpdateOut):
    """A job: the fields of a progress update and what is known about it besides."""

    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    processor: str
    on_dashboard: bool
    owner: str
    found: int = Field(description="videos that had a file when the job was made")


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
    traceback: str | None
    result: dict[str, Any] | None
    started_at: datetime | None
    duration: float | None = Field(description="seconds of work on the newest result")


class VideoPage(BaseModel):
    """Videos, and where the next page begins."""

    items: list[VideoOut]
    next_cursor: str | None


class ProblemOut(BaseModel):
    """What went wrong and what to do, in one sentence."""

    detail: str


def job_out(job: Job) -> dict[str, Any]:
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
    }


def submitted_out(submission: Submission, media_dir: str) -> dict[str, Any]:
    """The JSON of `SubmittedOut`."""
    return {
        **job_out(submission.job),
        "duplicates": [{"line": row.line, "value": row.value} for row in submission.duplicates],
        "invalid": [{"line": row.line, "value": row.value, "reason": row.reason} for row in submission.invalid],
        "missing": submission.missing,
        "files": _files(submission, media_dir),
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
        "traceback": video.traceback,
        "result": dict(video.result) if video.result is not None else None,
        "started_at": _moment(video.started_at),
        "duration": video.duration_seconds,
    }


def _moment(value: datetime | None) -> str | None:
    return None if value is None else iso(value)
