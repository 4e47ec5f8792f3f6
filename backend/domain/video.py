"""One video of a job, its results, and why videos failed: pure values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from backend.errors import Fault

MAX_CAUSES = 200  # of a job, the commonest ones
MIN_WORK_SECONDS = 1.0  # a video that took less, above all one that has no file, says nothing about the others


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
"""One character for each status: the alphabet of `VideoStore.outcome_strip`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One row of a job's list with its newest result.

    `position` counts from 0 in the order of the file, `line` is the line in the CSV, `cells` are the row's cells under
    the job's columns, `attempts` counts the stored results, `duration_seconds` is the wall time of the work, `tries`
    counts how often the work began for the newest result, `group` is the fingerprint of the error, `machine` worked on
    it (None: unknown, or no result).
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
    machine: str | None = None


class ExportedVideo(NamedTuple):
    """What an export of a job says about a video."""

    video_id: str
    cells: Sequence[str]
    status: VideoStatus
    error: str | None
    attempts: int
    duration_seconds: float | None
    machine: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a video in one attempt of its job, by `machine`; without an error it is a good one."""

    attempt: int
    error: str | None
    traceback: str | None
    fault: Fault | None
    tries: int
    started_at: datetime
    duration_seconds: float | None
    machine: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The failed videos of a job that failed for the same reason, with one of them as the example."""

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
class VideoTimes:
    """How long a job's videos took by their newest results, in seconds: half of them up to `p50`, 95 % up to `p95`.

    `videos` counts those whose time is known, `tried` those with a result of the job's newest attempt.
    """

    videos: int = 0
    p50: float = 0.0
    p95: float = 0.0
    tried: int = 0
