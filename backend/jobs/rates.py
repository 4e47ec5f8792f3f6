"""How many videos were finished in each of the last thirty minutes, for the heading of the dashboard."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta

from backend.clock import Clock, from_millis
from backend.delivery.hub import Reader
from backend.domain.job import Job
from backend.store.forecasts import ForecastStore

MINUTES = 30
MINUTE = 60
Minute = int  # since 1970


class Rates:
    """Watches all jobs. What was finished before this start of the server is read once from the results."""

    def __init__(self, watch: Callable[[], Reader], store: ForecastStore, clock: Clock) -> None:
        self._watch = watch
        self._store = store
        self._clock = clock
        self._finished: dict[str, dict[Minute, int]] = defaultdict(lambda: defaultdict(int))
        self._seen: dict[str, tuple[int, int]] = {}

    async def run(self) -> None:
        """Count from every state that comes, until cancelled."""
        reader = self._watch()
        first = await reader.next()
        await self._recall()
        self._learn(first.updates)
        while True:
            view = await reader.next()
            self._learn(view.updates)
            for job_id in view.removed:
                self._seen.pop(job_id, None)

    def of(self, owner_id: str | None) -> list[int]:
        """Return the videos of each of the last whole minutes, oldest first; of everybody for None."""
        now = int(self._clock.now().timestamp()) // MINUTE
        owners = list(self._finished) if owner_id is None else [owner_id]
        counts = [self._finished[owner] for owner in owners if owner in self._finished]
        return [sum(count.get(minute, 0) for count in counts) for minute in range(now - MINUTES, now)]

    async def _recall(self) -> None:
        now = self._clock.now()
        for owner_id, millis in await self._store.ends_since(now - timedelta(minutes=MINUTES + 1)):
            if (ended := from_millis(millis)) <= now:  # what ends from now on is seen
                self._count(owner_id, int(ended.timestamp()) // MINUTE, 1)

    def _learn(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            attempt, finished = self._seen.get(job.id, (0, 0))
            if attempt == job.attempt and job.current_video > finished:
                minute = int(job.updated_at.timestamp()) // MINUTE
                self._count(job.owner_id, minute, job.current_video - finished)
            self._seen[job.id] = job.attempt, job.current_video

    def _count(self, owner_id: str, minute: Minute, videos: int) -> None:
        counts = self._finished[owner_id]
        counts[minute] += videos
        for old in [known for known in counts if known < minute - 2 * MINUTES]:
            del counts[old]


def per_minute(rates: Sequence[int]) -> float:
    """Return the videos a minute since the first of these minutes in which one was finished; 0 without one.

    >>> per_minute([0] * 20 + [6, 0, 9] + [0] * 7), per_minute([0] * 30)
    (1.5, 0.0)
    """
    first = next((place for place, videos in enumerate(rates) if videos), len(rates))
    return sum(rates) / max(1, len(rates) - first)
