"""Why videos fail, over all jobs that a user sees, and what users say about a cause: pure values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from backend.domain.job import Job
from backend.errors import Fault

MAX_PROBLEMS = 200  # causes of a list, those of most videos
MAX_JOBS_OF_CAUSE = 20  # named under a cause, those where it was met last
MAX_NOTE_LENGTH = 2_000


class ProblemPeriod(StrEnum):
    """When the newest result of a failing video came."""

    NIGHT = "night"
    WEEK = "7d"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseNote:
    """What users say about a cause: a note, until when it is known and no news, and who deals with it; with names."""

    fingerprint: str
    note: str | None = None
    noted_by: str | None = None
    noted_at: datetime | None = None
    known_until: datetime | None = None
    known_by: str | None = None
    claimed_by: str | None = None
    claimed_at: datetime | None = None

    def is_known(self, now: datetime) -> bool:
        """Return True if nobody needs to be told of it now."""
        return self.known_until is not None and self.known_until > now


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseHistory:
    """What is known of a cause from all jobs that there ever were: in how many, since when, and if retries helped."""

    jobs: int = 0
    since: datetime | None = None
    retried: int = 0
    helped: int = 0


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job, and the number of its videos that fail for a cause."""

    job: Job
    videos: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """The video that failed last for a cause."""

    job_id: str
    job_name: str
    video_id: str
    position: int
    error: str
    traceback: str | None
    fault: Fault
    is_external: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A cause for which videos fail; `jobs` is the number of their jobs, the times are those of their failures.

    `can_be_retried` is False if all the jobs are external ones.
    """

    fingerprint: str
    videos: int
    jobs: int
    first_seen: datetime
    last_seen: datetime
    example: Example
    history: CauseHistory
    said: CauseNote
    can_be_retried: bool = True


@dataclass(frozen=True, slots=True)
class Problems:
    """A list of problems, those of most videos first; `has_more`: there are others."""

    items: tuple[Problem, ...]
    has_more: bool = False

    def unknown(self, now: datetime) -> int:
        """Return the number of causes that are not known."""
        return sum(not problem.said.is_known(now) for problem in self.items)
