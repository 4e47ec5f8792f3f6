"""The workers as machines that administrators see and change, and the slots that follow them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace

from backend.domain.causes import fingerprint
from backend.engine.watch import Watch
from backend.executors.machines import Machine
from backend.executors.slots import Slots
from backend.store.workers import WorkerRow, WorkerStore

log = logging.getLogger(__name__)


class WorkerRegistry:
    """Decides what each worker may run, and says so in its row."""

    keeps_changes = True

    def __init__(self, store: WorkerStore, slots: Slots, *, lease_seconds: float) -> None:
        self._store = store
        self._slots = slots
        self.own_name: str | None = None
        self._watch = Watch(lease_seconds)
        self._fit()

    def list(self) -> Sequence[Machine]:
        """Return the workers that are known, in the order of their names."""
        return [self._machine(row) for row in self._watch.rows()]

    async def change(self, name: str, *, slots: int | None = None, drain: bool | None = None) -> None:
        """Let the worker use so many of its slots, or start no further videos; None leaves that as it is."""
        changed = await self._store.change(name, cap=slots, draining=drain)
        if changed is not None:
            self._watch.take(changed)
            await self.decide()

    def look(self, rows: Collection[WorkerRow], holders: Collection[str], now: float) -> None:
        """Take what is there at the monotonic time `now`; `holders` are the workers at which runs are at work."""
        connected = {name for name in self._names() if self._watch.is_connected(name)}
        self._watch.look(self._offered(rows), holders, now)
        for name in self._names():
            if self._watch.is_connected(name) != (name in connected):
                state = "silent" if name in connected else "connected"
                log.info("worker %s", state, extra={"action": f"worker_{state}", "worker": name})
        self._fit()

    def look_away(self) -> None:
        """Count no time until the next look: the database does not answer."""
        self._watch.look_away()

    def lost(self, names: Collection[str]) -> Sequence[str]:
        """Return those of the workers that are lost: their processes have ended."""
        return self._watch.lost(names)

    async def decide(self) -> None:
        """Say to workers what they may run, where that has changed, and forget those that are long gone."""
        self._fit()
        decisions = [
            (row.name, self._watch.may_run(row), self._watch.resting(row.name))
            for row in self._watch.rows()
            if (row.may_run, row.resting) != (self._watch.may_run(row), self._watch.resting(row.name))
        ]
        if decisions:
            await self._store.allow(decisions)
        if forgotten := self._watch.forgotten():
            await self._store.forget(forgotten)

    def counts_fault(self, name: str, *, error: str, video_id: str, processor: str) -> bool:
        """Take a fault of a worker's machine; True if it counts for the job, False if the video goes elsewhere."""
        counts = self._watch.counts_fault(name, fingerprint(error, video_id), error, processor)
        if not counts:
            log.warning("worker rests: %s", error, extra={"action": "worker_rests", "worker": name})
            self._fit()
        return counts

    def succeeded(self, name: str) -> None:
        """Take a success of this worker: whatever was wrong with its machine is over."""
        self._watch.succeeded(name)

    def _offered(self, rows: Collection[WorkerRow]) -> Collection[WorkerRow]:
        """Return the workers with their slots. A server that works alone offers as many as it was asked to."""
        if len(rows) != 1 or self._slots.asked is None:
            return rows
        [alone] = rows
        return [replace(alone, slots=max(alone.slots, self._slots.asked))] if alone.name == self.own_name else rows

    def _fit(self) -> None:
        by_processor = {name: self._watch.capacity(name) for name in self._watch.processors()}
        self._slots.fit(self._watch.capacity(), by_processor)

    def _names(self) -> Sequence[str]:
        return [row.name for row in self._watch.rows()]

    def _machine(self, row: WorkerRow) -> Machine:
        return Machine(
            name=row.name,
            node=row.node,
            slots=row.slots,
            cap=row.cap,
            running=row.running,
            version=row.version,
            processors=row.processors,
            last_seen=row.seen_at,
            since=row.since,
            resting=self._watch.resting(row.name),
            is_draining=row.draining,
            is_connected=self._watch.is_connected(row.name),
        )
