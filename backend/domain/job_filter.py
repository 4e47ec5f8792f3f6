"""Which jobs of History are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backend.domain.moments import parse_moment
from backend.domain.texts import checked_text
from backend.errors import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """What the jobs have in common; None: anything.

    `begin` (inclusive) and `end` (exclusive) are about the end of an ended job, and about the creation of another one.
    `min_seconds` (inclusive) and `max_seconds` (exclusive) are about the time that an ended job took. `owner` is a
    name.
    """

    begin: datetime | None = None
    end: datetime | None = None
    min_seconds: float | None = None
    max_seconds: float | None = None
    owner: str | None = None
    processor: str | None = None

    def __bool__(self) -> bool:
        return self != ANY_JOB

    @property
    def has_range(self) -> bool:
        """True if it is about a time."""
        return self.begin is not None or self.end is not None


ANY_JOB = JobFilter()


def job_filter(
    *,
    begin: str = "",
    end: str = "",
    min_seconds: str = "",
    max_seconds: str = "",
    owner: str = "",
    processor: str = "",
) -> JobFilter:
    """Return the filter of an address, whose texts are empty where anything is wanted. Raises `Invalid`.

    >>> job_filter(min_seconds="60", owner="ana")
    JobFilter(begin=None, end=None, min_seconds=60.0, max_seconds=None, owner='ana', processor=None)
    """
    return JobFilter(
        begin=parse_moment(begin, "from") if begin else None,
        end=parse_moment(end, "to") if end else None,
        min_seconds=_seconds(min_seconds, "min_seconds"),
        max_seconds=_seconds(max_seconds, "max_seconds"),
        owner=checked_text(owner, "owner") or None,
        processor=checked_text(processor, "processor") or None,
    )


def _seconds(text: str, name: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e12:
        raise Invalid(f"{name} must be a number of seconds, 0 or more.")
    return seconds
