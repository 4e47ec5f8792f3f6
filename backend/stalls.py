"""Which jobs have come to a standstill: one rule for the cards, the pages and REST.

A job is stalled while it is worked on and nothing has come from its videos for 60 s, or for three times as long as
all but the slowest twentieth of its own newest videos took, where that is longer. One that waits for a free slot, or
that was asked to pause or to cancel, is not. What somebody asks of a job is no progress of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil

from backend.clock import Clock, repeat
from backend.hub import Reader
from backend.jobs import Job, Status

LEAST_SECONDS = 60.0
TIMES, PERCENT = 3, 95
NEWEST = 200  # videos that a job's own pace is taken from
LOOK_SECONDS = 1.0


@dataclass(slots=True)
class Watched:
    """A processing job's newest state, its last progress, and the seconds between the videos that were seen to end."""

    job: Job
    moved_at: datetime
    is_stalled: bool = False
    ended_at: datetime | None = None
    gaps: deque[float] = field(default_factory=lambda: deque(maxlen=NEWEST))
    limit: tuple[tuple[int, int], float] | None = None

    @property
    def is_at_work(self) -> bool:
        """Whether something of it is to be expected now."""
        return self.job.requested is None and (self.job.running > 0 or self.job.is_elsewhere)

    def take(self, job: Job) -> None:
        """The same job, later."""
        if job.current_video > self.job.current_video and job.attempt == self.job.attempt:
            if self.ended_at is not None:
                self.gaps.append((job.updated_at - self.ended_at).total_seconds())
            self.ended_at = job.updated_at
        if job.updated_at > self.job.updated_at and job.requested == self.job.requested:
            self.moved_at, self.is_stalled = job.updated_at, False
        self.job = job


class Stalls:
    """Watches all jobs while it runs. `took` gives the seconds that a job's newest videos took, at most `NEWEST`.

    A job that was processing before has its time from when it is first seen: nobody could report to a server that was
    down.
    """

    def __init__(
        self, watch: Callable[[], Reader], took: Callable[[str, int], Awaitable[Sequence[float]]], clock: Clock
    ) -> None:
        self._watch = watch
        self._took = took
        self._clock = clock
        self._watched: dict[str, Watched] = {}

    async def run(self) -> None:
        """Learn from every state that comes and look once a second, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._learn_all())
            tasks.create_task(repeat(self.run_once, every=LOOK_SECONDS, clock=self._clock, what="stall detection"))

    async def run_once(self) -> None:
        """Find the jobs that stand still now."""
        for watched in list(self._watched.values()):
            if watched.is_at_work and not watched.is_stalled:
                await self._look_at(watched)

    def of(self, job: Job) -> datetime | None:
        """Its last progress, if it stands still; None while it moves. The job may be one that was read from the store.

        Such a one does not know what runs of it, so that the newest state that was seen decides.
        """
        watched = self._watched.get(job.id)
        if watched is None or not watched.is_stalled or not watched.is_at_work:
            return None
        is_news = job.updated_at > watched.job.updated_at
        return None if is_news else watched.moved_at

    async def _learn_all(self) -> None:
        reader = self._watch()
        while True:
            view = await reader.next()
            for job in view.updates:
                self.learn(job)
            for job_id in view.removed:
                self._watched.pop(job_id, None)

    def learn(self, job: Job) -> None:
        """A job's newest state."""
        if job.status is not Status.PROCESSING:
            self._watched.pop(job.id, None)
        elif watched := self._watched.get(job.id):
            watched.take(job)
        else:
            self._watched[job.id] = Watched(job, max(job.updated_at, self._clock.now()))  # it may have been set back

    async def _look_at(self, watched: Watched) -> None:
        moved_at = watched.moved_at
        silence = (self._clock.now() - moved_at).total_seconds()
        if silence >= LEAST_SECONDS and silence >= await self._limit(watched):
            watched.is_stalled = watched.moved_at == moved_at  # it may have moved while its pace was read

    async def _limit(self, watched: Watched) -> float:
        """Seconds of silence from which on this job stands still; asked for anew when a video has ended."""
        job = watched.job
        state = (job.attempt, job.current_video)
        if watched.limit is None or watched.limit[0] != state:
            took = tuple(watched.gaps) if job.is_elsewhere else await self._took(job.id, NEWEST)
            watched.limit = state, limit_seconds(took)
        return watched.limit[1]


def limit_seconds(took: Sequence[float]) -> float:
    """How long a job may be silent whose videos took so many seconds.

    >>> limit_seconds([]), limit_seconds([4.0] * 19 + [500.0]), limit_seconds([600.0] * 5)
    (60.0, 60.0, 1800.0)
    """
    if not took:
        return LEAST_SECONDS
    ordered = sorted(took)
    return max(LEAST_SECONDS, TIMES * ordered[ceil(len(ordered) * PERCENT / 100) - 1])
