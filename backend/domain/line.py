"""Who is next in line, and about when: one rule for the executor that starts jobs and for what is said about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import msgspec


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job in the queue; `turn` grows with every submission."""

    job_id: str
    user: str
    priority: int
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What runs and what waits. `served` has the last turn of each user; at most so many run, and of one user."""

    running: Sequence[QueuedJob]
    waiting: Sequence[QueuedJob]
    served: Mapping[str, int]
    max_running: int
    max_running_per_user: int

    def next(self) -> QueuedJob | None:
        """Return the job that may start now; None if none may.

        Users with fewer running jobs come first, then who was served longest ago; among a user's own jobs the higher
        priority, then age. A job that still runs does not start again.
        """
        return _Line(self).next()


class _Line:
    """A queue while it moves on."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._served = dict(queue.served)
        self._last = max(self._served.values(), default=0)
        self.running = {job.job_id: job for job in queue.running}
        self._busy = Counter(job.user for job in queue.running)
        self._waiting: dict[str, list[QueuedJob]] = {}
        for job in queue.waiting:
            if job.job_id not in self.running:
                self._waiting.setdefault(job.user, []).append(job)
        self._first = {user: min(jobs, key=_place) for user, jobs in self._waiting.items()}
        self._is_sorted = False

    def next(self) -> QueuedJob | None:
        """Return the job that may start now."""
        if len(self.running) >= self._queue.max_running:
            return None
        ready = (job for user, job in self._first.items() if self._busy[user] < self._queue.max_running_per_user)
        return min(
            ready, key=lambda job: (self._busy[job.user], self._served.get(job.user, -1), *_place(job)), default=None
        )

    def start(self, job: QueuedJob) -> None:
        """Let a job begin."""
        self._sort()
        own = self._waiting[job.user]
        own.pop()
        if own:
            self._first[job.user] = own[-1]
        else:
            del self._first[job.user]
        self._last += 1
        self._served[job.user] = self._last
        self._busy[job.user] += 1
        self.running[job.job_id] = job

    def end(self, job_id: str) -> None:
        """Let a running job end."""
        self._busy[self.running.pop(job_id).user] -= 1

    def _sort(self) -> None:
        """Put the first job of each user last, where it is taken from."""
        if not self._is_sorted:
            self._is_sorted = True
            for jobs in self._waiting.values():
                jobs.sort(key=_place, reverse=True)


def _place(job: QueuedJob) -> tuple[int, int]:
    return -job.priority, job.turn


class SecondsRange(msgspec.Struct, frozen=True):
    """About `seconds`, probably between `low` and `high`."""

    seconds: float
    low: float
    high: float

    def __add__(self, other: SecondsRange) -> SecondsRange:
        return SecondsRange(self.seconds + other.seconds, self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> SecondsRange:
        """Return so many times as much."""
        return SecondsRange(self.seconds * factor, self.low * factor, self.high * factor)


NOW = SecondsRange(0.0, 0.0, 0.0)


class Turn(msgspec.Struct, frozen=True):
    """The `place` of a waiting job (from 1; 0 for one that runs), and when it begins and ends, if that is known."""

    place: int
    begins: SecondsRange | None
    ends: SecondsRange | None


def turns(queue: Queue, alone: Mapping[str, SecondsRange | None]) -> dict[str, Turn]:
    """Return the turn of each job, but of those that wait to run once more.

    `alone` is how long a job still takes with all slots for itself, if that is known. Running jobs share the slots
    evenly. Nobody knows what comes after a job of which nothing is known, but the order is that in which they are
    likely to end.
    """
    line = _Line(queue)
    left = {job_id: alone.get(job_id) for job_id in line.running}
    found = {job_id: Turn(0, NOW, None) for job_id in left}
    now: SecondsRange | None = NOW
    place = 0
    while True:
        while (job := line.next()) is not None:
            place += 1
            found[job.job_id] = Turn(place, now, None)
            left[job.job_id] = alone.get(job.job_id)
            line.start(job)
        if not left:
            return found
        first = _first_to_end(left)
        now = _passed(now, left, first)
        found[first] = msgspec.structs.replace(found[first], ends=now)
        del left[first]
        line.end(first)


def _first_to_end(left: Mapping[str, SecondsRange | None]) -> str:
    return min(left, key=lambda job_id: inf if (span := left[job_id]) is None else span.seconds)


def _passed(now: SecondsRange | None, left: dict[str, SecondsRange | None], first: str) -> SecondsRange | None:
    """Return the moment at which the first one ends, and take what was done until then from the others."""
    took = left[first]
    if took is None or now is None:
        return None
    for job_id, span in left.items():
        if span is not None:
            rest = max(0.0, span.seconds - took.seconds)
            left[job_id] = span.times(rest / span.seconds if span.seconds > 0 else 0.0)
    return now + took.times(len(left))


def last(ends: Iterable[SecondsRange | None]) -> SecondsRange | None:
    """Return when all have ended; None if one of them is not known, or there is none."""
    known = list(ends)
    spans = [span for span in known if span is not None]
    if not spans or len(spans) < len(known):
        return None
    latest = max(spans, key=lambda span: span.seconds)
    return SecondsRange(latest.seconds, max(span.low for span in spans), max(span.high for span in spans))


def ordinal(number: int) -> str:
    """Return a place in words.

    >>> [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)]
    ['1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '102nd', '111th']
    """
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"
