"""What the server looks after each second, for whatever reason it happened: lost workers, forgotten runs, leftovers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable

from backend.clock import Clock
from backend.engine.registry import WorkerRegistry
from backend.engine.remote_runs import RemoteRuns
from backend.errors import StoreRefused
from backend.store.runs import Round, RunStore, Stray
from progress_dashboard.tasks import first_completed

log = logging.getLogger(__name__)
SWEEP_SECONDS = 1.0


class Twice:
    """Lets through what was there at the last look, too: all else may be on its way."""

    def __init__(self) -> None:
        self._before: set[int] = set()

    def of(self, found: Iterable[int]) -> list[int]:
        """Return those that were found the last time, too."""
        before, self._before = self._before, set(found)
        return sorted(before & self._before)


class Sweep:
    """Looks at workers and runs each second, and puts right what was lost on the way."""

    def __init__(self, store: RunStore, registry: WorkerRegistry, runs: RemoteRuns, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._runs = runs
        self._clock = clock
        self._unscheduled, self._leftovers, self._strays = Twice(), Twice(), Twice()
        self._soon = asyncio.Event()

    def soon(self) -> None:
        """Look at once: a worker has come."""
        self._soon.set()

    async def run(self) -> None:
        """Sweep each second, until cancelled; a database that is away is asked again."""
        while True:
            self._soon.clear()
            try:
                await self.run_once()
            except StoreRefused:  # the journal says so
                self._registry.look_away()
            await first_completed(self._clock.sleep(SWEEP_SECONDS), self._soon.wait())

    async def run_once(self) -> None:
        """Look once, and do what follows from it."""
        found = await self._store.look_round(self._runs.awaited)
        self._registry.look(found.workers, found.holders, self._clock.monotonic())
        self._runs.look()
        await self._registry.decide()
        await self._lose(self._registry.lost(found.holders))
        if ids := self._unscheduled.of(found.unscheduled):
            await self._store.schedule(ids)
        await self._tidy(found)
        if ids := self._leftovers.of(found.leftovers):
            await self._store.drop_leftovers(ids)

    async def _lose(self, workers: Collection[str]) -> None:
        if not workers:
            return
        ids = await self._store.lose(list(workers))
        log.warning(
            "%d videos of lost workers begin again", len(ids), extra={"action": "runs_lost", "workers": sorted(workers)}
        )
        self._runs.look()

    async def _tidy(self, found: Round) -> None:
        """End and delete the runs that nobody waits for, and that no job will ask for.

        A job asks for how a run ended also if it was stopped after too many losses; what is not wanted is made again.
        """
        known = {stray.id: stray for stray in found.strays}
        strays = [known[run_id] for run_id in self._strays.of(known)]
        if unwanted := [stray.id for stray in strays if stray.wanted and not stray.is_due and not _is_over(stray)]:
            await self._store.withdraw(unwanted)
        if over := [stray.id for stray in strays if _is_over(stray) and not (stray.wanted and stray.is_due)]:
            await self._store.delete(over)


def _is_over(stray: Stray) -> bool:
    return stray.state in ("ended", "stopped")
