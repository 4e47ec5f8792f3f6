"""Which jobs are stalled: one rule for the cards, the pages and REST.

A job is stalled while it is processing and none of its videos has made progress for 60 s, or for three times the 95th
percentile of its own newest videos, whichever is longer. Videos that took less than a second do not count: those that
fail at once, because they have no file, say nothing about the others. A job that waits for a free slot, or that was
asked to pause or to cancel, is not stalled. A request is no progress.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil

from backend.clock import Clock, repeat
from backend.delivery.hub import Reader
from backend.domain.job import Job
from backend.domain.notification import EventKind
from backend.domain.video import MIN_WORK_SECONDS
from progress_dashboard.protocol import Status

MIN_SILENCE_SECONDS = 60.0
TIMES, PERCENT = 3, 95
MAX_VIDEOS = 200  # the newest ones, which a job's own pace is taken from
CHECK_SECONDS = 1.0


@dataclass(slots=True)
class WatchedJob:
    """The newest state of a processing job, its last progress, and the seconds between videos that were seen to end."""

    job: Job
    progressed_at: datetime
    is_stalled: bool = False
    ended_at: datetime | None = None
    gaps: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_VIDEOS))
    limit: tuple[tuple[int, int], float] | None = None

    @property
    def is_at_work(self) -> bool:
        """True if progress is to be expected now."""
        return self.job.requested is None and (self.job.running > 0 or self.job.is_external)

    def take(self, job: Job) -> bool:
        """Take the job's next state, and return True if it is progress."""
        if job.current_video > self.job.current_video and job.attempt == self.job.attempt:
            if self.ended_at is not None:
                self._note_gap((job.updated_at - self.ended_at).total_seconds())
            self.ended_at = job.updated_at
        has_progressed = job.updated_at > self.job.updated_at and job.requested == self.job.requested
        if has_progressed:
            self.progressed_at, self.is_stalled = job.updated_at, False
        self.job = job
        return has_progressed

    def _note_gap(self, seconds: float) -> None:
        if seconds >= MIN_WORK_SECONDS:
            self.gaps.append(seconds)


class Stalls:
    """Watches all jobs.

    `durations` returns the seconds that a job's newest videos took, at most `MAX_VIDEOS`, of those it worked on.
    The time of a job that was processing before starts when it is first seen: nobody could report to a server that was
    down. `on_event` gets each job that stalls, and each one that goes on after that.
    """

    def __init__(
        self,
        watch: Callable[[], Reader],
        durations: Callable[[str, int], Awaitable[Sequence[float]]],
        clock: Clock,
        *,
        on_event: Callable[[Job, EventKind], None] = lambda job, event: None,
    ) -> None:
        self._watch = watch
        self._durations = durations
        self._clock = clock
        self._on_event = on_event
        self._watched: dict[str, WatchedJob] = {}
        self._alarmed: dict[str, int] = {}

    def remember(self, alarmed: Mapping[str, int]) -> None:
        """Begin with the jobs that were said to be stalled in an earlier run of the server, each with its attempt."""
        self._alarmed = dict(alarmed)

    async def run(self) -> None:
        """Learn from every state that comes and check once a second, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch().follow(self.learn, self._forget))
            tasks.create_task(repeat(self.run_once, every=CHECK_SECONDS, clock=self._clock, what="stall detection"))

    async def run_once(self) -> None:
        """Find the jobs that are stalled now."""
        for watched in list(self._watched.values()):
            if watched.is_at_work and not watched.is_stalled:
                await self._check(watched)

    def of(self, job: Job) -> datetime | None:
        """Return the last progress of the job if it is stalled, else None.

        The job may be read from the store, where what runs is unknown: the newest state that was seen decides.
        """
        watched = self._watched.get(job.id)
        if watched is None or not watched.is_stalled or not watched.is_at_work:
            return None
        is_news = job.updated_at > watched.job.updated_at
        return None if is_news else watched.progressed_at

    def learn(self, job: Job) -> None:
        """Learn a job's newest state."""
        if job.is_finished:
            self._forget(job.id)
        elif job.status is not Status.PROCESSING:
            self._watched.pop(job.id, None)
        elif watched := self._watched.get(job.id):
            if watched.take(job) and job.requested is None and self._alarmed.get(job.id) == job.attempt:
                del self._alarmed[job.id]
                self._on_event(job, EventKind.RECOVERED)
        else:
            self._watched[job.id] = WatchedJob(job, max(job.updated_at, self._clock.now()))  # it may have been set back

    async def _check(self, watched: WatchedJob) -> None:
        progressed_at = watched.progressed_at
        silence = (self._clock.now() - progressed_at).total_seconds()
        if silence >= MIN_SILENCE_SECONDS and silence >= await self._limit(watched):
            # The job may have progressed while its durations were read.
            watched.is_stalled = watched.progressed_at == progressed_at
            if watched.is_stalled and self._watched.get(watched.job.id) is watched:  # it may have ended, too
                self._alarmed[watched.job.id] = watched.job.attempt
                self._on_event(watched.job, EventKind.STALLED)

    def _forget(self, job_id: str) -> None:
        self._watched.pop(job_id, None)
        self._alarmed.pop(job_id, None)

    async def _limit(self, watched: WatchedJob) -> float:
        """Return the seconds of silence from which on the job is stalled; read again after a video has ended."""
        job = watched.job
        state = (job.attempt, job.current_video)
        if watched.limit is None or watched.limit[0] != state:
            durations = tuple(watched.gaps) if job.is_external else await self._durations(job.id, MAX_VIDEOS)
            watched.limit = state, limit_seconds(durations)
        return watched.limit[1]


def limit_seconds(durations: Sequence[float]) -> float:
    """Return how many seconds a job may be silent whose videos took this long.

    >>> limit_seconds([]), limit_seconds([4.0] * 19 + [500.0]), limit_seconds([600.0] * 5 + [0.01] * 195)
    (60.0, 60.0, 1800.0)
    """
    ordered = sorted(seconds for seconds in durations if seconds >= MIN_WORK_SECONDS)
    if not ordered:
        return MIN_SILENCE_SECONDS
    return max(MIN_SILENCE_SECONDS, TIMES * ordered[ceil(len(ordered) * PERCENT / 100) - 1])
