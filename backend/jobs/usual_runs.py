"""Which jobs take longer or less than their list usually does (`domain.usual`), as soon as that is known.

A job that runs is said to be slower once, when its time is over; whether an ended one was is told with its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from backend.clock import Clock, repeat
from backend.delivery.hub import Reader
from backend.domain.job import Job
from backend.domain.notification import EventKind
from backend.domain.usual import Usual, seconds_in, verdict
from backend.errors import StoreRefused
from backend.store.composing import ComposingStore
from progress_dashboard.protocol import Status

log = logging.getLogger(__name__)
CHECK_SECONDS = 1.0
RETRY_SECONDS = 1.0


@dataclass(slots=True)
class WatchedRun:
    """A job in its first attempt, how long it may take, and for how long it was processing until `since`."""

    job: Job
    usual: Usual
    worked: float
    since: datetime | None

    def take(self, job: Job) -> None:
        """Take the job's next state."""
        if self.since is not None and job.status is not Status.PROCESSING:
            self.worked, self.since = self.seconds(job.updated_at), None
        elif self.since is None and job.status is Status.PROCESSING:
            self.since = job.updated_at
        self.job = job

    def seconds(self, now: datetime) -> float:
        """Return for how long it was processing until now."""
        return self.worked + (max(0.0, (now - self.since).total_seconds()) if self.since else 0.0)

    @property
    def is_at_work(self) -> bool:
        """True while it could become slower than usual."""
        return self.job.status is Status.PROCESSING and self.job.requested is None


class UsualRuns:
    """Watches the first attempts of all jobs. `on_event` gets each job that becomes slower than usual, once."""

    def __init__(
        self,
        watch: Callable[[], Reader],
        store: ComposingStore,
        clock: Clock,
        *,
        on_event: Callable[[Job, EventKind], None],
    ) -> None:
        self._watch = watch
        self._store = store
        self._clock = clock
        self._on_event = on_event
        self._watched: dict[str, WatchedRun] = {}
        self._newest: dict[str, Job] = {}  # of jobs about which nothing is known yet
        self._wanted: asyncio.Queue[str] = asyncio.Queue()
        self._said: dict[str, tuple[int, EventKind]] = {}

    def remember(self, said: Mapping[str, tuple[int, EventKind]]) -> None:
        """Begin with what was said in earlier runs of the server: (attempt, slower or faster) of jobs."""
        self._said = dict(said)

    async def run(self) -> None:
        """Learn from every state that comes and check once a second, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch().follow(self.learn, self.forget))
            tasks.create_task(self._find_all())
            tasks.create_task(repeat(self.run_once, every=CHECK_SECONDS, clock=self._clock, what="checking runs"))

    async def run_once(self) -> None:
        """Find the jobs that are slower than usual now."""
        now = self._clock.now()
        for run in self._watched.values():
            if run.is_at_work and run.job.id not in self._said and run.seconds(now) > run.usual.slow_after:
                self._said[run.job.id] = run.job.attempt, EventKind.SLOWER
                self._on_event(run.job, EventKind.SLOWER)

    def of(self, job: Job) -> EventKind | None:
        """Return if the job is, or was, slower or faster than usual; None for one that left the dashboard."""
        attempt, said = self._said.get(job.id, (0, None))
        if said is not None:
            return said if attempt == job.attempt else None
        run = self._watched.get(job.id)
        if run is None or not job.is_finished or job.attempt != run.job.attempt:
            return None
        return verdict(run.usual, run.seconds(job.updated_at), job.update())

    def usual(self, job: Job) -> Usual | None:
        """Return how long runs of the job's list usually take; None if that is unknown, or it is a later attempt."""
        run = self._watched.get(job.id)
        return run.usual if run is not None and job.attempt == run.job.attempt else None

    def learn(self, job: Job) -> None:
        """Learn a job's newest state."""
        if job.attempt > 1:
            self.forget(job.id)
        elif run := self._watched.get(job.id):
            if job.is_finished and not run.job.is_finished:
                said = verdict(run.usual, run.seconds(job.updated_at), job.update())
                if said is not None:
                    self._said.setdefault(job.id, (job.attempt, said))
            run.take(job)
        elif job.id in self._newest:
            self._newest[job.id] = job
        elif job.status is Status.PROCESSING:
            self._newest[job.id] = job
            self._wanted.put_nowait(job.id)

    def forget(self, job_id: str) -> None:
        """Forget a job that is gone."""
        for known in (self._watched, self._newest, self._said):
            known.pop(job_id, None)

    async def _find_all(self) -> None:
        """Find out how long jobs usually take that have begun, one after the other."""
        while True:
            job_id = await self._wanted.get()
            if job_id not in self._newest:
                continue
            try:
                await self._find(self._newest[job_id])
            except StoreRefused as error:
                extra = {"action": "usual_refused", "job_id": job_id}
                log.warning("earlier runs are read again later: %s", error.sentence, extra=extra)
                await self._clock.sleep(RETRY_SECONDS)
                self._wanted.put_nowait(job_id)

    async def _find(self, job: Job) -> None:
        usual, steps = await self._store.usual(job)
        newest = self._newest.pop(job.id, None)
        if usual is None or newest is None or not steps:
            return
        last = steps[-1]
        worked = seconds_in(Status.PROCESSING, steps, job.attempt, until=last.at)
        since = last.at if last.status is Status.PROCESSING else None
        self._watched[job.id] = WatchedRun(job, usual, worked, since)
        self.learn(newest)
