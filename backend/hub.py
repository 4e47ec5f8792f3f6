"""The tick and the keyed hub: what changed is stored in one transaction, and only then shown.

Changes are staged in memory. A tick (2 ms after the first change when idle, then every 50 ms) stamps them with a
growing `seq`, commits them, and publishes them as one batch. The hub keeps the newest state of each job on the
dashboard and a short run of batches. A reader that keeps up gets each batch; one that does not, or that comes back,
holds only a position and gets the newest state of each job changed since. Memory grows with jobs, never with updates
or readers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import count, takewhile
from typing import TypeVar

import msgspec

from backend.clock import Clock
from backend.errors import StoreRefused
from backend.jobs import Job
from backend.store import JobStore, NewJob, Tick, VideoChange
from backend.store.jobs import TOMBSTONES

log = logging.getLogger(__name__)
LEAD_SECONDS = 0.002
INTERVAL_SECONDS = 0.050
RETRY_SECONDS = 1.0
KEPT_BATCHES = 64
THIN_SECONDS = 1.0
EVERYBODY = None
Entry = TypeVar("Entry", "Job", "Removal")


@dataclass(frozen=True)
class View:
    """What one reader gets: jobs in order, then the IDs of those that left the dashboard.

    `prev` is the position that this follows on; `snapshot` means: forget what you knew.
    """

    prev: int
    seq: int
    snapshot: bool
    updates: tuple[Job, ...]
    removed: tuple[str, ...]

    @cached_property
    def frames(self) -> tuple[bytes, ...]:
        """One JSON object an update; encoded once, whoever receives it."""
        return tuple(msgspec.json.encode(job.update()) for job in self.updates)

    @cached_property
    def batch_frame(self) -> bytes:
        """All of it as one JSON object."""
        updates = [msgspec.Raw(frame) for frame in self.frames]
        return msgspec.json.encode(
            {
                "type": "updates",
                "prev": self.prev,
                "seq": self.seq,
                "snapshot": self.snapshot,
                "updates": updates,
                "removed": self.removed,
            }
        )


@dataclass(frozen=True)
class Removal:
    """A job left the dashboard at `seq`."""

    job_id: str
    owner_id: str
    seq: int


@dataclass
class Batch:
    """What one tick published: kept updates, then percents; each owner's part is made when first asked for.

    `prevs`: for each owner who has a part in it, the position of the part before.
    """

    prev: int
    seq: int
    kept: tuple[Job, ...]
    percents: tuple[Job, ...]
    removals: tuple[Removal, ...]
    prevs: dict[str | None, int]
    _views: dict[str | None, View] = field(default_factory=dict)

    @property
    def jobs(self) -> tuple[Job, ...]:
        return self.kept + self.percents

    def view(self, owner_id: str | None) -> View | None:
        """The part of this owner; None when nothing of theirs changed."""
        if owner_id not in self.prevs:
            return None
        if owner_id not in self._views:
            jobs = tuple(job for job in self.jobs if owner_id in (EVERYBODY, job.owner_id))
            removed = tuple(gone.job_id for gone in self.removals if owner_id in (EVERYBODY, gone.owner_id))
            self._views[owner_id] = View(self.prevs[owner_id], self.seq, False, jobs, removed)
        return self._views[owner_id]


@dataclass
class Staged:
    """What waits for the next tick."""

    entries: list[Job | Removal] = field(default_factory=list)
    percents: dict[str, Job] = field(default_factory=dict)
    new: list[NewJob] = field(default_factory=list)
    videos: list[VideoChange] = field(default_factory=list)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.entries or self.percents or self.new or self.videos or self.waiters)


class ProgressHub:
    """The newest state of each job on the dashboard, and the only way for a state to become visible.

    `seq` is the newest position. One process, one hub.
    """

    def __init__(self, store: JobStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._staged = Staged()
        self._work = asyncio.Event()
        self._closing = False
        self._broken = False
        self._newest: OrderedDict[str, Job] = OrderedDict()
        self._gone: OrderedDict[str, Removal] = OrderedDict()
        self._floor = 0
        self._batches: deque[Batch] = deque(maxlen=KEPT_BATCHES)
        self._last_of: dict[str | None, int] = {}
        self._published = asyncio.Event()
        self._told: dict[str, tuple[int, datetime]] = {}
        self._born = 0
        self.seq = 0
        self.is_storing = True

    async def load(self) -> None:
        """Take up what is stored; this life's positions lie above all earlier ones."""
        for job in await self._store.on_dashboard():
            self._newest[job.id] = job
        for job_id, owner_id, seq in await self._store.removals():
            self._gone[job_id] = Removal(job_id, owner_id, seq)
        if len(self._gone) == TOMBSTONES:
            self._floor = next(iter(self._gone.values())).seq
        last = await self._store.last_seq()
        self.seq = max(last, int(self._clock.now().timestamp() * 1_000_000) - 1)
        self._born = self.seq

    def stage(self, job: Job, *, kept: bool, videos: Sequence[VideoChange] = ()) -> None:
        """Have `job` stored and shown by the next tick.

        `kept`: a status change or a failed video, which is sent and stored for itself; otherwise a percent, of which
        only the newest counts.
        """
        if kept:
            self._staged.percents.pop(job.id, None)
            self._staged.entries.append(job)
        else:
            self._staged.percents[job.id] = job
        self._staged.videos.extend(videos)
        self._work.set()

    def stage_new(self, new: NewJob) -> None:
        """Have a job appear with the next tick; its first state counts as a status change."""
        self._staged.new.append(new)
        self._staged.entries.append(new.job)
        self._work.set()

    def stage_removal(self, job: Job) -> None:
        """Have the job leave the dashboard, after everything that was staged for it before."""
        self._staged.entries.append(Removal(job.id, job.owner_id, 0))
        self._work.set()

    async def durable(self) -> None:
        """Return when everything staged so far is stored; raises `StoreRefused` when it never will be."""
        if self._broken:
            raise StoreRefused
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._staged.waiters.append(waiter)
        self._work.set()
        await waiter

    async def run(self) -> None:
        """Tick until `close`; the last tick takes what is left."""
        while not self._closing:
            await self._work.wait()
            await self._clock.sleep(LEAD_SECONDS)
            await self.tick()
            await self._clock.sleep(INTERVAL_SECONDS)
        await self.tick()

    def close(self) -> None:
        """End `run` after a last tick."""
        self._closing = True
        self._work.set()

    async def tick(self) -> None:
        """Store and publish what is staged; a database that refuses is tried again until it takes it.

        Raises what no trying again can mend: then nothing is shown any more, and the server has to start anew.
        """
        staged, self._staged = self._staged, Staged()
        if not self._closing:
            self._work.clear()
        if not staged:
            return
        batch = self._stamp(staged)
        try:
            await self._store_surely(self._transaction(staged, batch))
        except Exception:
            self.is_storing, self._broken = False, True
            _tell(staged.waiters, StoreRefused())
            raise
        self._publish(batch)
        _tell(staged.waiters, None)

    def seq_of(self, job_id: str) -> int:
        """The position of the newest state of a job on the dashboard."""
        return self._newest[job_id].seq

    def reader(self, owner_id: str | None, after: int | None = None) -> Reader:
        """A reader of this owner's jobs (None: everybody's), from a position it knows or from the beginning."""
        return Reader(self, owner_id, after)

    def snapshot(self, owner_id: str | None) -> View:
        """Every job of this owner that is on the dashboard."""
        jobs = tuple(job for job in self._newest.values() if owner_id in (EVERYBODY, job.owner_id))
        return View(0, self._position(owner_id), True, jobs, ())

    def changed_since(self, position: int, owner_id: str | None) -> View:
        """Newest state of each job changed after `position`; a snapshot when the position is too old or not ours."""
        if not self._floor <= position <= self.seq:
            return self.snapshot(owner_id)
        jobs = tuple(job for job in _newer(self._newest, position) if owner_id in (EVERYBODY, job.owner_id))
        gone = tuple(
            removal.job_id for removal in _newer(self._gone, position) if owner_id in (EVERYBODY, removal.owner_id)
        )
        return View(position, max(position, self._position(owner_id)), False, jobs, gone)

    def following(self, position: int, owner_id: str | None) -> tuple[View | None, int]:
        """This owner's part of the batch after `position`, and the position behind it.

        Where that batch is no longer kept: the newest state of each job changed since.
        """
        for batch in reversed(self._batches):
            if batch.prev == position:
                return batch.view(owner_id), batch.seq
        return self.changed_since(position, owner_id), self.seq

    async def beyond(self, position: int) -> None:
        """Return when something was published after `position`."""
        while self.seq <= position:
            await self._published.wait()

    def _position(self, owner_id: str | None) -> int:
        """Where this owner's newest part ends: the position that all of their readers share."""
        return self._last_of.get(owner_id, self._born)

    def _stamp(self, staged: Staged) -> Batch:
        numbers = count(self.seq + 1)
        stamped = [replace(entry, seq=next(numbers)) for entry in staged.entries]
        percents = tuple(replace(job, seq=next(numbers)) for job in staged.percents.values())
        owners = {entry.owner_id for entry in (*stamped, *percents)}
        return Batch(
            prev=self.seq,
            seq=next(numbers) - 1,
            kept=tuple(entry for entry in stamped if isinstance(entry, Job)),
            percents=percents,
            removals=tuple(entry for entry in stamped if isinstance(entry, Removal)),
            prevs={owner_id: self._position(owner_id) for owner_id in (*owners, EVERYBODY)},
        )

    def _transaction(self, staged: Staged, batch: Batch) -> Tick:
        newest = {job.id: job for job in batch.jobs}
        return Tick(
            new=[replace(new, job=newest.pop(new.job.id)) for new in staged.new],
            jobs=list(newest.values()),
            events=[*batch.kept, *(job for job in batch.percents if self._is_news(job))],
            removed=[(removal.job_id, removal.seq) for removal in batch.removals],
            videos=staged.videos,
        )

    def _is_news(self, job: Job) -> bool:
        progress, at = self._told.get(job.id, (-1, job.updated_at))
        if job.progress == progress and (job.updated_at - at).total_seconds() < THIN_SECONDS:
            return False
        self._told[job.id] = (job.progress, job.updated_at)
        return True

    async def _store_surely(self, tick: Tick) -> None:
        while True:
            try:
                await self._store.commit(tick)
            except StoreRefused:
                if self._closing:
                    raise
                self.is_storing = False
                log.exception("the database refused a tick; it is tried again", extra={"action": "tick_refused"})
                await self._clock.sleep(RETRY_SECONDS)
            else:
                self.is_storing = True
                return

    def _publish(self, batch: Batch) -> None:
        for job in batch.jobs:
            self._newest[job.id] = job
            self._newest.move_to_end(job.id)
            self._gone.pop(job.id, None)
            if job.is_finished:
                self._told.pop(job.id, None)
        for removal in batch.removals:
            self._newest.pop(removal.job_id, None)
            self._gone[removal.job_id] = removal
        while len(self._gone) > TOMBSTONES:
            self._floor = self._gone.popitem(last=False)[1].seq
        self.seq = batch.seq
        self._last_of.update(dict.fromkeys(batch.prevs, batch.seq))
        self._batches.append(batch)
        self._published.set()
        self._published = asyncio.Event()


class Reader:
    """One watcher's position. `next` never blocks anybody else."""

    def __init__(self, hub: ProgressHub, owner_id: str | None, after: int | None) -> None:
        self._hub = hub
        self._owner_id = owner_id
        self._read = hub.seq
        self._first: View | None = hub.snapshot(owner_id) if after is None else hub.changed_since(after, owner_id)
        self._sent = self._first.prev
        if not (self._first.snapshot or self._first.updates or self._first.removed):
            self._first = None

    async def next(self) -> View:
        """The first time what is there, then each batch as it comes; newest states where the reader fell behind."""
        view, self._first = self._first, None
        while view is None:
            await self._hub.beyond(self._read)
            view, self._read = self._hub.following(self._read, self._owner_id)
        if view.prev != self._sent and not view.snapshot:
            view = replace(view, prev=self._sent)
        self._sent = view.seq
        return view


def _tell(waiters: Iterable[asyncio.Future[None]], error: StoreRefused | None) -> None:
    for waiter in waiters:
        if waiter.done():  # whoever waited has gone
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)


def _newer(entries: OrderedDict[str, Entry], position: int) -> list[Entry]:
    """The entries after `position`, oldest first; the dictionary is in the order of `seq`."""
    found = list(takewhile(lambda entry: entry.seq > position, reversed(entries.values())))
    return found[::-1]
