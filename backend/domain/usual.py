"""How long runs of a list usually take, and whether one took longer or less.

A run is the first attempt of a job; runs of one list have its name, its processor and its owner. Only the time counts
in which a job was processing: pauses, and the time until a restarted server continues, say nothing about the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil, floor
from typing import NamedTuple

from backend.domain.durations import elapsed
from backend.domain.notification import EventKind
from progress_dashboard.protocol import ProgressUpdate, Status

MIN_RUNS, MAX_RUNS = 5, 50  # fewer tell nothing, older ones not how it is now
MAX_SIZE_RATIO = 2  # a list that has become so much longer or shorter has no usual time yet
GOOD_ENDS = frozenset({Status.COMPLETED, Status.COMPLETED_WITH_ERRORS})
LOW, HIGH = 5, 95  # percent
MARGIN_SHARE, MARGIN_SECONDS = (
    0.1,
    1.0,
)  # by which a run must lie outside: of five equal runs, one is always the longest


class Step(NamedTuple):
    """What counts of a milestone of a job (`domain.timeline`)."""

    at: datetime
    status: Status
    attempt: int
    pause_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Usual:
    """How long so many earlier runs took, in seconds: nine in ten from `low` to `high`."""

    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Usual | None:
        """Return what is usual after runs of these lengths; None if they are fewer than `MIN_RUNS`.

        >>> Usual.of([60, 70, 80, 90, 100])
        Usual(low=60, high=100, runs=5)
        """
        if len(seconds) < MIN_RUNS:
            return None
        ordered = sorted(seconds)
        last = len(ordered) - 1
        return cls(ordered[floor(last * LOW / 100)], ordered[ceil(last * HIGH / 100)], len(ordered))

    @property
    def slow_after(self) -> float:
        """The seconds after which a run is slower than usual."""
        return self.high + max(self.high * MARGIN_SHARE, MARGIN_SECONDS)

    @property
    def fast_below(self) -> float:
        """The seconds below which a run was faster than usual."""
        return self.low - max(self.low * MARGIN_SHARE, MARGIN_SECONDS)

    def verdict(self, seconds: float) -> EventKind | None:
        """Return if a run that took so long was slower or faster than usual; None if it was neither."""
        if seconds > self.slow_after:
            return EventKind.SLOWER
        return EventKind.FASTER if seconds < self.fast_below else None

    @property
    def words(self) -> str:
        """How long it takes.

        >>> Usual(4800, 6000, 5).words, Usual(59.8, 60.2, 9).words
        ('1 h 20 min to 1 h 40 min', '1 min')
        """
        low, high = elapsed(self.low), elapsed(self.high)
        return low if low == high else f"{low} to {high}"


def verdict(usual: Usual | None, seconds: float, update: ProgressUpdate) -> EventKind | None:
    """Return if a job that ended by itself was slower or faster than usual; None if it was neither.

    What is left out or fails is soon done, so that a run with many failures is not called fast.
    """
    if usual is None or update.attempt > 1 or update.status not in GOOD_ENDS:
        return None
    said = usual.verdict(seconds)
    return None if said is EventKind.FASTER and update.failed * 2 >= update.total_videos else said


def seconds_in(status: Status, steps: Iterable[Step], attempt: int, *, until: datetime) -> float:
    """Return for how long a job had this status in an attempt, by its steps in order, up to a moment."""
    seconds, since = 0.0, None
    for step in steps:
        if step.attempt != attempt or step.at > until:
            continue
        if since is not None:
            seconds += (step.at - since).total_seconds()
        since = step.at if step.status is status else None
    return seconds if since is None else seconds + (until - since).total_seconds()
