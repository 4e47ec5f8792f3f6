"""What earlier results of a processor tell about how long a video of a given size will take.

A video takes a part that is the same for all and a part that grows with its file. Both are fitted to the means of
groups of similar sizes, each group weighing by its videos and not by its seconds, so that a few large films do not
decide alone. Means are arithmetic: their sum over a list is what the list takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import log, log2, sqrt
from typing import Any, NamedTuple

import msgspec

from backend.domain.job import Job, Source
from backend.domain.video import MIN_WORK_SECONDS

MIN_BASE = 1e-9  # seconds
MIN_RESULTS = 5  # fewer tell nothing
USUAL_BASE = 0.3  # the share of the seconds that is the same for all, while nothing else is known
USUAL_SPREAD, USUAL_RESULTS = 0.5, 6  # of the logarithm of real to expected seconds, as if so many had been seen
MAX_SPREAD = 2.0


class Work(NamedTuple):
    """What is done with each video of a job; where that is the same, earlier results tell how long it takes."""

    processor: str
    source: Source
    options: Mapping[str, Any]

    @classmethod
    def of(cls, job: Job) -> Work:
        """Return the work of a job."""
        return cls(job.processor, job.source, job.options)


class PastResult(msgspec.Struct, frozen=True):
    """A video that was worked on: the size of its file (None if unknown), and the seconds that it took."""

    size: float | None
    seconds: float


class Habit(msgspec.Struct, frozen=True):
    """A video of `size` takes about `base` + `slope` * size seconds; `usual_size` stands for one of unknown size.

    `spread` is the standard deviation of the logarithm of real to expected seconds, `results` how many it was learned
    from.
    """

    base: float
    slope: float
    usual_size: float
    spread: float = USUAL_SPREAD
    results: int = 0

    def __post_init__(self) -> None:
        if self.base < MIN_BASE:  # nothing takes no time at all, not even an empty file
            msgspec.structs.force_setattr(self, "base", MIN_BASE)

    def seconds(self, size: float | None) -> float:
        """Return the seconds that a video of this size is expected to take."""
        return self.base + self.slope * (self.usual_size if size is None else size)

    def times(self, factor: float) -> Habit:
        """Return the habit of a machine that is slower by this factor."""
        return msgspec.structs.replace(self, base=self.base * factor, slope=self.slope * factor)


def assumed(sizes: Iterable[float | None]) -> Habit:
    """Return what is assumed of videos of these sizes before any result: one of the mean size takes a second."""
    known = [size for size in sizes if size]
    if not known:
        return Habit(1.0, 0.0, 0.0)
    mean = sum(known) / len(known)
    return Habit(USUAL_BASE, (1 - USUAL_BASE) / mean, mean)


def learned(results: Iterable[PastResult]) -> Habit | None:
    """Return the habit that these results show; None if there are too few.

    >>> habit = learned([PastResult(1e6 * n, 2 + 3 * n) for n in range(1, 30)])
    >>> round(habit.seconds(10e6), 1), round(habit.seconds(1e9)), habit.results
    (32.0, 3002, 29)
    """
    worked_on = _worked_on([result for result in results if result.seconds > 0])
    if len(worked_on) < MIN_RESULTS:
        return None
    sized = [(result.size, result.seconds) for result in worked_on if result.size]
    if len(sized) < MIN_RESULTS:
        mean = sum(result.seconds for result in worked_on) / len(worked_on)
        flat = Habit(mean, 0.0, 0.0)
        return _with_spread(flat, worked_on)
    base, slope = _line(_groups(sized))
    usual = sum(size for size, _ in sized) / len(sized)
    return _with_spread(Habit(base, slope, usual), [PastResult(*result) for result in sized])


def _worked_on(results: Sequence[PastResult]) -> Sequence[PastResult]:
    """Return the results without those that were passed over; where most are quick, being quick is the work."""
    slow = [result for result in results if result.seconds >= MIN_WORK_SECONDS]
    return slow if 2 * len(slow) >= len(results) else results


def spread_of(habit: Habit, results: Iterable[PastResult]) -> float:
    """Return the standard deviation of the logarithm of real to expected seconds, as these results change it.

    It is that between one result and the next: a machine that becomes slower does not count.
    """
    ratios = [log(result.seconds / habit.seconds(result.size)) for result in results if result.seconds > 0]
    squares = sum((after - before) ** 2 for before, after in pairwise(ratios)) / 2
    number = max(0, len(ratios) - 1)
    return min(MAX_SPREAD, sqrt((squares + habit.spread**2 * USUAL_RESULTS) / (number + USUAL_RESULTS)))


def _with_spread(habit: Habit, results: Sequence[PastResult]) -> Habit:
    return msgspec.structs.replace(habit, spread=spread_of(habit, results), results=len(results))


def _groups(results: Iterable[tuple[float, float]]) -> list[tuple[int, float, float]]:
    """Return (videos, mean size, mean seconds) of videos whose sizes differ by less than a factor of two."""
    sums: dict[int, list[float]] = {}
    for size, seconds in results:
        group = sums.setdefault(int(log2(size)), [0, 0.0, 0.0])
        group[0] += 1
        group[1] += size
        group[2] += seconds
    return [(int(videos), size / videos, seconds / videos) for videos, size, seconds in sums.values()]


def _line(groups: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
    """Return base and slope of the line through the groups, neither of them negative, by relative least squares."""
    weighted = [(videos / seconds**2, size, seconds) for videos, size, seconds in groups]
    w = sum(weight for weight, _, _ in weighted)
    x = sum(weight * size for weight, size, _ in weighted)
    y = sum(weight * seconds for weight, _, seconds in weighted)
    xx = sum(weight * size * size for weight, size, _ in weighted)
    xy = sum(weight * size * seconds for weight, size, seconds in weighted)
    determinant = w * xx - x * x
    if determinant > 1e-9 * w * xx:
        slope = (w * xy - x * y) / determinant
        base = (y - slope * x) / w
        if base >= 0 and slope >= 0:
            return base, slope
        if slope < 0:
            return y / w, 0.0
    return 0.0, xy / xx
