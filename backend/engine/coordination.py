"""The server's side of the work on several machines: its parts, and the worker in its own process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Set
from contextlib import aclosing
from itertools import cycle
from typing import Any

from backend.clock import Clock
from backend.database_url import DatabaseUrl
from backend.domain.os_errors import quoted, reason_of
from backend.engine.joining import Identity, NameTaken
from backend.engine.marker import leave_marker
from backend.engine.registry import WorkerRegistry
from backend.engine.remote_runs import RemoteRuns
from backend.engine.sweep import Sweep
from backend.engine.worker import Worker
from backend.errors import CannotStart
from backend.executors.runs import LocalRuns, machine_name
from backend.executors.slots import Slots
from backend.processors.child import ChildRunner
from backend.settings import Settings
from backend.store.database import Database
from backend.store.listening import notifications
from backend.store.runs import RunStore
from backend.store.workers import WorkerStore
from progress_dashboard.tasks import first_completed

log = logging.getLogger(__name__)
AGAIN_SECONDS = 1.0  # before the own worker tries again to join
LEAVE_SECONDS = 6.0  # for the last words of the own worker
MakeRuns = Callable[[str], LocalRuns]
"""Returns the runs in processes of this machine, under this name."""


class Coordination:
    """Hands videos to workers, one of which is in this process unless it may run no videos."""

    def __init__(
        self,
        settings: Settings,
        url: DatabaseUrl,
        database: Database,
        slots: Slots,
        clock: Clock,
        *,
        children: ChildRunner,
        make_runs: MakeRuns,
    ) -> None:
        self._settings = settings
        self._url = url
        self._clock = clock
        self._children = children
        self._make_runs = make_runs
        self._store = RunStore(database)
        self.registry = WorkerRegistry(WorkerStore(database), slots, lease_seconds=settings.worker_lease_seconds)
        self.runs = RemoteRuns(self._store, self.registry, clock)
        self._sweep = Sweep(self._store, self.registry, self.runs, clock)
        self._own: Worker | None = None
        self._own_ended = asyncio.Event()
        self._is_draining = False

    async def jobs_in_flight(self, job_ids: Iterable[str]) -> Set[str]:
        """Return those of the jobs that have runs which may be at work."""
        return await self._store.jobs_in_flight(job_ids)

    async def leave_marker(self) -> None:
        """Let workers see whose outputs these are. Raises `CannotStart`."""
        outputs, database_id = self._settings.outputs, await self._store.database_id()
        try:
            await asyncio.to_thread(leave_marker, outputs, database_id)
        except OSError as error:
            raise CannotStart(
                f"The output directory {quoted(outputs)} cannot be written ({reason_of(error)}); check the directory."
            ) from None

    def works(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """Return what has to run, by name."""
        return {
            "orders of runs": self.runs.give_orders(),
            "news of runs": self.runs.look_at_news(),
            "notifications": self._listen(),
            "sweep": self._sweep.run(),
            "own worker": self._work(),
        }

    async def drain(self, grace: float) -> None:
        """Take no further videos on this machine, and leave the runs alone: those of this machine after `grace`."""
        self._is_draining = True
        if self._own is not None:
            self._own.drain()
        await self.runs.leave(grace, own=self.registry.own_name)
        if self._own is not None:
            await first_completed(self._own_ended.wait(), self._clock.sleep(LEAVE_SECONDS))

    async def _listen(self) -> None:
        looks = {"runs": self.runs.look, "workers": self._sweep.soon}
        async with aclosing(notifications(self._url, *looks)) as channels:
            async for channel in channels:
                looks[channel]()

    async def _work(self) -> None:
        """Be a worker, too, under the second name if a worker on this machine has the first one."""
        names = cycle((machine_name(), f"{machine_name()}-server"))
        name = next(names)
        try:
            while self._settings.max_running_videos and not self._is_draining:
                try:
                    await self._work_as(name)
                except CannotStart as error:
                    extra = {"action": "no_worker"}
                    log.warning("the server does not work as %s: %s", name, error.sentence, extra=extra)
                    name = next(names) if isinstance(error, NameTaken) else name
                    await self._clock.sleep(AGAIN_SECONDS)
        finally:
            self._own_ended.set()

    async def _work_as(self, name: str) -> None:
        """Be a worker of this name until `drain`. Raises `CannotStart`."""
        self._own = worker = self._worker(name)
        try:
            if await worker.join():
                self.registry.own_name = name
                await worker.run(grace_seconds=self._settings.shutdown_grace_seconds)
        finally:
            await worker.close()

    def _worker(self, name: str) -> Worker:
        return Worker(
            self._url,
            Identity.of_process(slots=self._settings.max_running_videos, name=name),
            self._make_runs(name),
            self._settings.outputs,
            self._clock,
            lease_seconds=self._settings.worker_lease_seconds,
            set_alarm=self._children.set_alarm,
        )
