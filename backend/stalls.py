"""Which jobs have come to a standstill: one rule for the cards, the pages and REST.

A job is stalled while it is worked on and nothing has come from its videos for 60 s, or for three times as long as
all but the slowest twentieth of its own newest videos took, where that is longer. One that waits for a free slot, or
that was asked to pause or to cancel, is not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from types import MappingProxyType

from backend.clock import Clock
from backend.hub import Reader
from backend.jobs import Job, Status

LEAST_SECONDS = 60.0
TIMES, PERCENT = 3, 95
NEWEST = 200  # videos that a job's own pace is taken from
LOOK_SECONDS = 1.0


@dataclass(slots=True)
class AtWork:
    """A job's newest state, and the seconds between the videos that were seen to end."""

    job: Job
    ended_at: datetime | None = None
    gaps: deque[float] = field(default_factory=lambda: deque(maxlen=NEWEST))
    limit: tuple[tuple[int, int], float] | None = None

    def take(self, job: Job) -> None:
        """The same job, later."""
        if job.current_video > self.job.current_video and job.attempt == self.job.attempt:
            if self.ended_at is not None:
                self.gaps.append((job.updated_at - self.ended_at).total_seconds())
            self.ended_at = job.updated_at
        self.job = job


class Stalls:
    """Watches all jobs while it runs. `took` gives the seconds that a job's newest videos took, at most `NEWEST`."""

    def __init__(
        self, watch: Callable[[], Reader], took: Callable[[str, int], Awaitable[Sequence[float]]], clock: Clock
    ) -> None:
        self._watch = watch
        self._took = took
        self._clock = clock
        self._at_work: dict[str, AtWork] = {}
        self._since: dict[str, datetime] = {}
        self.since: Mapping[str, datetime] = MappingProxyType(self._since)

    async def run(self) -> None:
        """Learn from every state that comes and look once a second, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._learn_all())
            while True:
                await self.run_once()
                await self._clock.sleep(LOOK_SECONDS)

    async def run_once(self) -> None:
        """Find the jobs that stand still now."""
        for job_id, known in list(self._at_work.items()):
            job = known.job
            silence = (self._clock.now() - job.updated_at).total_seconds()
            if silence < LEAST_SECONDS or job_id in self._since:
                continue
            if silence >= await self._limit(known) and self._at_work.get(job_id) is known and known.job is job:
                self._since[job_id] = job.updated_at

    def of(self, job: Job) -> datetime | None:
        """Since when it stands still; None while it moves."""
        since = self._since.get(job.id)
        return since if since == job.updated_at and is_at_work(job) else None

    async def _learn_all(self) -> None:
        reader = self._watch()
        while True:
            view = await reader.next()
            for job in view.updates:
                self.learn(job)
            for job_id in view.removed:
                self._forget(job_id)

    def learn(self, job: Job) -> None:
        """A job's newest state."""
        if not is_at_work(job):
            self._forget(job.id)
            return
        known = self._at_work.get(job.id)
        if known is None:
            self._at_work[job.id] = AtWork(job)
            return
        if job.updated_at != known.job.updated_at:
            self._since.pop(job.id, None)
        known.take(job)

    def _forget(self, job_id: str) -> None:
        self._at_work.pop(job_id, None)
        self._since.pop(job_id, None)

    async def _limit(self, known: AtWork) -> float:
        """Seconds of silence from which on this job stands still; asked for anew when a video has ended."""
        job = known.job
        state = (job.attempt, job.current_video)
        if known.limit is None or known.limit[0] != state:
            took = tuple(known.gaps) if job.is_elsewhere else await self._took(job.id, NEWEST)
            known.limit = state, limit_seconds(took)
        return known.limit[1]


def is_at_work(job: Job) -> bool:
    """Whether something of it is to be expected now."""
    is_moving = job.status is Status.PROCESSING and job.requested is None
    return is_moving and (job.running > 0 or job.is_elsewhere)


def limit_seconds(took: Sequence[float]) -> float:
    """How long a job may be silent whose videos took so many seconds.

    >>> limit_seconds([]), limit_seconds([4.0] * 19 + [500.0]), limit_seconds([600.0] * 5)
    (60.0, 60.0, 1800.0)
    """
    if not took:
        return LEAST_SECONDS
    ordered = sorted(took)
    return max(LEAST_SECONDS, TIMES * ordered[ceil(len(ordered) * PERCENT / 100) - 1])
