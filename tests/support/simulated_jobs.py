"""Jobs whose videos take known times, so that each estimate on the way can be compared with what was really left."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from backend.domain.pace import Estimate, Pace, share_of_work
from tests.support.clock import NOON

TICK_SECONDS = 0.05  # what finishes within one is seen together
TOLERANCE_SECONDS = 2.5


@dataclass(frozen=True)
class Work:
    """One video: the seconds that it takes, and whether it fails."""

    seconds: float
    fails: bool = False


@dataclass(frozen=True)
class Saying:
    """What was said at a moment, and the seconds that were really left then."""

    at: float
    left: float
    estimate: Estimate | None

    @property
    def is_true(self) -> bool:
        """True if the range contains what was left, or nothing was said."""
        if self.estimate is None:
            return True
        return self.estimate.low - TOLERANCE_SECONDS <= self.left <= self.estimate.high + TOLERANCE_SECONDS


def sayings(
    videos: Sequence[Work], *, slots: int, every: float, found: int | None = None, done: int = 0
) -> Iterator[Saying]:
    """Yield what is said every so many seconds while so many slots work through the videos in their order.

    `found` is how many videos had a file at the start, `done` how many were done in earlier attempts.
    """
    ends = _ends(videos, slots)
    total, end = done + len(ends), ends[-1][0]
    pace, finished, failed, ask_at = Pace.starting(NOON, done), done, 0, every
    while finished < total:
        tick = (int(ends[finished - done][0] / TICK_SECONDS) + 1.5) * TICK_SECONDS
        while ask_at < min(tick, end):
            share = 1.0
            if found is not None:
                share = share_of_work(found=found, total=total, finished=finished, failed=failed)
            yield Saying(ask_at, end - ask_at, pace.estimate(total - finished, _moment(ask_at), share))
            ask_at += every
        while finished < total and ends[finished - done][0] < tick:
            failed += ends[finished - done][1]
            finished += 1
        pace = pace.reached(finished, _moment(tick), failed)


def clips(rng: Random, count: int, seconds: float) -> list[Work]:
    """Return videos that take about so long each."""
    return [Work(seconds * rng.uniform(0.9, 1.1)) for _ in range(count)]


def missing(rng: Random, count: int) -> list[Work]:
    """Return videos that fail at once, because they have no file."""
    return [Work(rng.uniform(0.005, 0.03), fails=True) for _ in range(count)]


def _ends(videos: Sequence[Work], slots: int) -> list[tuple[float, bool]]:
    free, ends = [0.0] * slots, []
    for video in videos:
        ends.append((heapq.heappop(free) + video.seconds, video.fails))
        heapq.heappush(free, ends[-1][0])
    return sorted(ends)


def _moment(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)
