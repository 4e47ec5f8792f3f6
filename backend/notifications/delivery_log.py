"""What has become of a job's events on channels, for its timeline, as it changes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence

from backend.domain.auth import User
from backend.domain.timeline import ChannelDelivery
from backend.jobs.queries import JobQueries
from backend.store.deliveries import DeliveryStore


class DeliveryLog:
    """The deliveries of jobs. Whoever sees a job sees where its events were sent, not the addresses."""

    def __init__(self, store: DeliveryStore, queries: JobQueries) -> None:
        self._store = store
        self._queries = queries
        self._followers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    async def of(self, job_id: str, *, by: User) -> Sequence[ChannelDelivery]:
        """Return the job's deliveries, oldest first. Raises `JobNotFound`, also for another user's job."""
        await self._queries.find(job_id, by=by)
        return await self._store.of_job(job_id)

    async def changes(self, job_id: str) -> AsyncIterator[None]:
        """Yield now, and each time that something of the job's deliveries may have changed."""
        changed = asyncio.Event()
        self._followers[job_id].add(changed)
        try:
            while True:
                changed.clear()
                yield
                await changed.wait()
        finally:
            self._followers[job_id].discard(changed)
            if not self._followers[job_id]:
                del self._followers[job_id]

    def note(self, job_ids: Iterable[str | None]) -> None:
        """Let those who follow these jobs look again."""
        for job_id in job_ids:
            for changed in self._followers.get(job_id or "", ()):
                changed.set()
