"""The journal and the hub over a real store; each step returns after the journal's tick."""

from __future__ import annotations

from dataclasses import dataclass

from backend.clock import Clock
from backend.delivery.hub import ProgressHub
from backend.delivery.journal import Journal
from backend.domain.job import Job
from backend.store import Store
from backend.store.changes import NewJob
from tests.support.clock import VirtualClock
from tests.support.jobs import a_job

TIMEOUT_SECONDS = 10


@dataclass
class Progress:
    """A job that makes progress, for `Journal.stage_progress`. Counts how often its state was made."""

    job: Job
    snapshots: int = 0

    @property
    def id(self) -> str:
        return self.job.id

    def snapshot(self) -> Job:
        self.snapshots += 1
        return self.job


@dataclass(frozen=True)
class Delivery:
    """One run of the journal and the hub. It ticks only when the test says so."""

    store: Store
    hub: ProgressHub
    journal: Journal

    async def add(self, **given: object) -> Job:
        """Return a new job, stored and shown."""
        job = a_job(**given)
        self.journal.stage_new(NewJob(job=job, columns=("video_id",)))
        await self.journal.tick()
        return job

    async def publish(self, job: Job) -> None:
        """Store and show a state that is sent for itself."""
        self.journal.stage(job)
        await self.journal.tick()

    async def progress(self, job: Job) -> None:
        """Store and show a state that differs only in its percent."""
        self.journal.stage_progress(Progress(job))
        await self.journal.tick()

    async def remove(self, *jobs: Job) -> None:
        """Remove the jobs from the dashboard."""
        for job in jobs:
            self.journal.stage_removal(job)
        await self.journal.tick()


async def start_delivery(store: Store, clock: Clock | None = None, **hub_limits: int) -> Delivery:
    """Return a run of the journal and the hub that has loaded what is stored."""
    hub = ProgressHub(**hub_limits)
    journal = Journal(store, hub, clock or VirtualClock())
    await journal.load()
    return Delivery(store, hub, journal)
