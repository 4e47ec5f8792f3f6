"""The keyed hub: the newest state of each job on the dashboard, and the readers that follow it.

A reader that keeps up gets each batch. One that does not, or that comes back, holds only a position and gets the newest
state of each job changed since, in parts where that is much. Memory grows with jobs, never with updates or readers.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import takewhile
from operator import attrgetter
from typing import TypeVar

from backend.delivery.batches import EVERYBODY, Batch, Change, Entry, Removal, View, fitting
from backend.domain.job import Job

MAX_BATCHES = 20
MAX_PARTS = 16
MAX_TOMBSTONES = 10_000
MAX_FINAL_STATES = 1_000
PART_BYTES = 768 * 1024  # of JSON; clients in several languages take no frame of more than 1 MiB
E = TypeVar("E", Change, Removal)
_BY_SEQ = attrgetter("seq")


@dataclass(frozen=True, slots=True)
class CatchUpCursor:
    """The cursor of a reader that is catching up: it has the states up to `position`, the removals up to `removals`.

    In a snapshot `removals` starts at the newest seq: jobs that left the dashboard before it need no removal.
    """

    position: int
    removals: int
    snapshot: bool = False


class ProgressHub:
    """The newest state of each job on the dashboard. One process, one hub.

    `seq` is the newest position that readers get, `stored_seq` the newest that is stored. The final state of a job that
    was removed meanwhile is still sent before its removal, for the newest 1,000 final states of this run of the server.
    The hub keeps `max_batches` batches for readers that are a little behind and `max_tombstones` removals for those
    that come back, and cuts what is more than `part_bytes` of JSON.
    """

    def __init__(
        self,
        *,
        max_batches: int = MAX_BATCHES,
        max_tombstones: int = MAX_TOMBSTONES,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self.max_tombstones = max_tombstones
        self._part_bytes = part_bytes
        self._newest: OrderedDict[str, Change] = OrderedDict()
        self._tombstones: OrderedDict[str, Removal] = OrderedDict()
        self._final_states: OrderedDict[str, Change] = OrderedDict()
        self._min_resumable_seq = 1
        self._batches: deque[Batch] = deque(maxlen=max_batches)
        self._unpublished: dict[int | str, Entry] = {}
        self._parts: dict[tuple[str | None, CatchUpCursor], View] = {}
        self._last_seq_of: dict[str | None, int] = {}
        self._published = asyncio.Event()
        self._last_stored = 0
        self._start_seq = 0
        self.seq = self.stored_seq = 0

    def load(self, jobs: Iterable[Job], removals: Sequence[Removal], *, last_stored: int, start_seq: int) -> None:
        """Begin with what is stored: `jobs` and `removals` in the order of `seq`.

        `last_stored` is the newest stored position, `start_seq` the one below the first of this run of the server.
        """
        self._newest.update((job.id, Change(job)) for job in jobs)
        self._tombstones.update((removal.job_id, removal) for removal in removals)
        if len(self._tombstones) == self.max_tombstones:
            self._min_resumable_seq = next(iter(self._tombstones.values())).seq
        self._last_stored = last_stored
        self.seq = self.stored_seq = self._start_seq = start_seq

    def take(self, lossless: Iterable[Entry], percents: Iterable[Change] = ()) -> None:
        """Take entries that are stored, in the order of their `seq`. Readers get them with the next `publish`.

        Until then a percent is replaced by what comes after it for the same job.
        """
        for entry in lossless:
            self._unpublished.pop(entry.job_id, None)
            self._unpublished[entry.seq] = entry
            self._apply(entry)
        for change in percents:
            self._unpublished.pop(change.job_id, None)
            self._unpublished[change.job_id] = change
            self._apply(change)

    def publish(self) -> None:
        """Let the readers get what was taken, as one batch."""
        if not self._unpublished:
            return
        entries, seq = tuple(self._unpublished.values()), self.stored_seq
        self._unpublished.clear()
        prevs = {owner_id: self._position(owner_id) for owner_id in (*{entry.owner_id for entry in entries}, EVERYBODY)}
        while len(self._tombstones) > self.max_tombstones:
            self._min_resumable_seq = self._tombstones.popitem(last=False)[1].seq
        self._batches.append(Batch(self.seq, seq, entries, prevs, self._part_bytes))
        self.seq = seq
        self._last_seq_of.update(dict.fromkeys(prevs, seq))
        self._parts.clear()
        self._published.set()
        self._published = asyncio.Event()

    def job(self, job_id: str) -> Job | None:
        """Return the newest stored state of a job on the dashboard; None if it is not there."""
        change = self._newest.get(job_id)
        return change.job if change else None

    def jobs(self) -> list[Job]:
        """Return the newest stored states of all jobs on the dashboard."""
        return [change.job for change in self._newest.values()]

    def entry(self, job_id: str) -> Entry | None:
        """Return the newest state of a job, or its removal from the dashboard; None if neither is known."""
        return self._newest.get(job_id) or self._tombstones.get(job_id)

    def reader(self, owner_id: str | None, after: int | None = None) -> Reader:
        """Return a reader of this owner's jobs (None: everybody's).

        It begins after the position `after` if the hub can resume from there, otherwise with a snapshot.
        """
        self.publish()  # a snapshot holds all that is stored, so that nothing of it may follow as a batch
        can_resume = after is not None and self.can_resume_from(after)
        cursor = CatchUpCursor(after, after) if after and can_resume else self._beginning()
        return Reader(self, owner_id, cursor)

    def job_reader(self, job_id: str) -> JobReader:
        """Return a reader of one job. It costs the same however many jobs there are."""
        return JobReader(self, job_id)

    def can_resume_from(self, position: int) -> bool:
        """Return True if everything that happened after `position` can still be sent.

        It cannot if the position is too old, or of a run that the stored data know nothing of (a restored backup).
        """
        return self._min_resumable_seq <= position <= self._last_stored or self._start_seq < position <= self.seq

    def part(self, owner_id: str | None, cursor: CatchUpCursor) -> View:
        """Return what changed or left since the cursor: all of it, or as much as fits into one part.

        Readers with the same cursor share it.
        """
        self.publish()
        key = (owner_id, cursor)
        if key not in self._parts:
            if len(self._parts) >= MAX_PARTS:
                self._parts.clear()
            self._parts[key] = self._part(owner_id, cursor)
        return self._parts[key]

    def batch_after(self, position: int) -> Batch | None:
        """Return the batch that follows this position; None if it is not kept any more."""
        return next((batch for batch in reversed(self._batches) if batch.prev == position), None)

    def reachable(self, cursor: CatchUpCursor) -> CatchUpCursor:
        """Return the same cursor, or the beginning if too many jobs have left since."""
        return cursor if cursor.removals >= self._min_resumable_seq else self._beginning()

    async def wait_past(self, position: int) -> int:
        """Return the newest position, once something was published after `position`."""
        while self.seq <= position:
            await self._published.wait()
        return self.seq

    def _beginning(self) -> CatchUpCursor:
        return CatchUpCursor(0, self.seq, snapshot=True)

    def _part(self, owner_id: str | None, cursor: CatchUpCursor) -> View:
        removed = _newer(self._tombstones, cursor.removals)
        finals = [self._final_states[removal.job_id] for removal in removed if removal.job_id in self._final_states]
        found: list[Entry] = [*_newer(self._newest, cursor.position), *removed]
        found += [final for final in finals if final.seq > cursor.position]  # a removal never replaces the final state
        entries = [entry for entry in sorted(found, key=_BY_SEQ) if owner_id in (EVERYBODY, entry.owner_id)]
        number = fitting(entries, self._part_bytes)
        more = number < len(entries)
        seq = entries[number - 1].seq if more else max(cursor.position, self._position(owner_id))
        return View(cursor.position, seq, cursor.snapshot, tuple(entries[:number]), more)

    def _position(self, owner_id: str | None) -> int:
        """Return the seq of the newest change that readers of this owner can see."""
        return self._last_seq_of.get(owner_id, self._last_stored)

    def _apply(self, entry: Entry) -> None:
        if isinstance(entry, Change):
            self._show(entry)
        else:
            self._remove(entry)
        self.stored_seq = entry.seq

    def _show(self, change: Change) -> None:
        self._newest[change.job_id] = change
        self._newest.move_to_end(change.job_id)
        self._tombstones.pop(change.job_id, None)
        self._final_states.pop(change.job_id, None)

    def _remove(self, removal: Removal) -> None:
        self._tombstones[removal.job_id] = removal
        self._tombstones.move_to_end(removal.job_id)
        if final := self._newest.pop(removal.job_id, None):
            self._final_states[removal.job_id] = final
        if len(self._final_states) > MAX_FINAL_STATES:
            self._final_states.popitem(last=False)


class Reader:
    """The position of one watcher. Neither `next` nor `take` ever blocks anybody else."""

    def __init__(self, hub: ProgressHub, owner_id: str | None, cursor: CatchUpCursor) -> None:
        self.owner_id = owner_id
        self._hub = hub
        self._cursor: CatchUpCursor | None = cursor
        self._read = hub.seq
        self._sent = cursor.position
        self._ready: deque[View] = deque()

    async def next(self) -> View:
        """Return what is there, then each batch as it comes; newest states where the reader fell behind."""
        while (view := self.take()) is None:
            await self._hub.wait_past(self._read)
        return view

    async def follow(self, learn: Callable[[Job], None], forget: Callable[[str], None]) -> None:
        """Pass on each newest state, and the ID of each job that left the dashboard, until cancelled."""
        while True:
            view = await self.next()
            for job in view.updates:
                learn(job)
            for job_id in view.removed:
                forget(job_id)

    def take(self) -> View | None:
        """Return the same without waiting; None if there is nothing new."""
        view = self._ready.popleft() if self._ready else self._look()
        if view is None:
            return None
        if view.prev != self._sent and not view.snapshot:
            view = replace(view, prev=self._sent)
        self._sent = view.seq
        return view

    @property
    def is_in_step(self) -> bool:
        """True if it has everything up to some batch, so that it continues batch by batch."""
        return self._cursor is None and not self._ready

    def is_level_with(self, other: Reader) -> bool:
        """Return True if both will get the very same views."""
        mine, theirs = ((one.owner_id, one._read, one._sent) for one in (self, other))
        return self.is_in_step and other.is_in_step and mine == theirs

    def fork(self) -> Reader:
        """Return another reader at the same position."""
        other = copy(self)
        other._ready = self._ready.copy()
        return other

    def _look(self) -> View | None:
        while self._cursor is None and self._read < self._hub.seq:
            batch = self._hub.batch_after(self._read)
            if batch is None:
                self._cursor = CatchUpCursor(self._sent, self._sent)
                break
            self._read = batch.seq
            if views := batch.views(self.owner_id):
                self._ready.extend(views[1:])
                return views[0]
        return self._catch_up(self._cursor) if self._cursor else None

    def _catch_up(self, cursor: CatchUpCursor) -> View | None:
        cursor = self._hub.reachable(cursor)
        view = self._hub.part(self.owner_id, cursor)
        if view.more:
            self._cursor = CatchUpCursor(view.seq, max(cursor.removals, view.seq))
            return view
        self._cursor, self._read = None, self._hub.seq
        return view if view.snapshot or view.entries else None


class JobReader:
    """The position of one watcher of one job."""

    def __init__(self, hub: ProgressHub, job_id: str) -> None:
        self._hub = hub
        self._job_id = job_id
        self._last: Entry | None = None
        self._is_first = True

    async def next(self) -> Job | None:
        """Return the job's newest state, first as it is, then each time it has changed.

        Returns None for a job that is not on the dashboard, and a second time when it is deleted: read the store then.
        Changes between two calls are conflated.
        """
        while (entry := self._hub.entry(self._job_id)) is self._last and not self._is_first:
            await self._hub.wait_past(self._hub.seq)
        self._last, self._is_first = entry, False
        return entry.job if isinstance(entry, Change) else None


def _newer(entries: OrderedDict[str, E], position: int) -> list[E]:
    """Return the entries after `position`, oldest first; the dictionary is in the order of `seq`."""
    found = list(takewhile(lambda entry: entry.seq > position, reversed(entries.values())))
    return found[::-1]
