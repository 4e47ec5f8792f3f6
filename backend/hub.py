"""The tick and the keyed hub: what changed is stored in one transaction, and only then shown.

Changes are staged in memory. A tick (2 ms after the first change when idle, then every 50 ms) stamps them with a
growing `seq`, commits them, and publishes them as one batch. The hub keeps the newest state of each job on the
dashboard and a short run of batches. A reader that keeps up gets each batch; one that does not, or that comes back,
holds only a position and gets the newest state of each job changed since, in parts where that is much. Memory grows
with jobs, never with updates or readers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import count, takewhile
from operator import attrgetter
from typing import TypeVar

import msgspec

from backend.clock import Clock
from backend.errors import StoreRefused
from backend.jobs import Job, Milestone
from backend.store import JobStore, NewJob, Reset, Tick, VideoChange

log = logging.getLogger(__name__)
LEAD_SECONDS = 0.002
INTERVAL_SECONDS = 0.050
RETRY_SECONDS = 1.0
KEPT_BATCHES = 20
KEPT_PARTS = 16
KEPT_REMOVALS = 10_000
KEPT_ENDS = 1_000
PART_BYTES = 768 * 1024  # of JSON; clients in several languages take no frame of more than 1 MiB
LARGEST_UPDATE_BYTES = 28 * 1024  # its texts are bounded; 500 bytes are usual
THIN_SECONDS = 1.0
EVERYBODY = None
_BY_SEQ = attrgetter("seq")


class Change:
    """A job's state at its `seq`. Its JSON is made once, for the store and for whoever receives it."""

    __slots__ = ("_body", "job")

    def __init__(self, job: Job) -> None:
        self.job = job
        self._body = b""

    @property
    def job_id(self) -> str:
        return self.job.id

    @property
    def owner_id(self) -> str:
        return self.job.owner_id

    @property
    def seq(self) -> int:
        return self.job.seq

    @property
    def body(self) -> bytes:
        """The update on the wire."""
        if not self._body:
            self._body = msgspec.json.encode(self.job.update())
        return self._body


@dataclass(frozen=True, slots=True)
class Removal:
    """A job left the dashboard at `seq`."""

    job_id: str
    owner_id: str
    seq: int


Entry = Change | Removal
Kind = TypeVar("Kind", Change, Removal)


@dataclass(frozen=True, eq=False)
class View:
    """What one reader gets: states and removals in the order of their `seq`.

    `prev` is the position that this follows on; `snapshot` means: forget what you knew; `more`: the next part follows.
    """

    prev: int
    seq: int
    snapshot: bool
    entries: tuple[Entry, ...]
    more: bool = False

    @cached_property
    def updates(self) -> tuple[Job, ...]:
        return tuple(entry.job for entry in self.entries if isinstance(entry, Change))

    @cached_property
    def removed(self) -> tuple[str, ...]:
        """The jobs that are gone after all of this."""
        return _gone_after(self.entries)

    @cached_property
    def frames(self) -> tuple[bytes, ...]:
        """One JSON object an update."""
        return tuple(entry.body for entry in self.entries if isinstance(entry, Change))

    @cached_property
    def batch_frame(self) -> bytes:
        """All of it as one JSON object."""
        frame = {
            "type": "updates",
            "prev": self.prev,
            "seq": self.seq,
            "snapshot": self.snapshot,
            "updates": [msgspec.Raw(frame) for frame in self.frames],
            "removed": self.removed,
        }
        return msgspec.json.encode(frame | {"more": True} if self.more else frame)


@dataclass(eq=False)
class Batch:
    """What one tick published, in the order of `seq`: status changes, failed videos and removals, then percents.

    `prevs`: for each owner who has a share in it, the position of the share before.
    """

    prev: int
    seq: int
    kept: tuple[Entry, ...]
    percents: tuple[Change, ...]
    prevs: dict[str | None, int]
    part_bytes: int
    _views: dict[str | None, tuple[View, ...]] = field(default_factory=dict)

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self.kept + self.percents

    def views(self, owner_id: str | None) -> tuple[View, ...]:
        """What this owner sees of it, usually in one part; () when nothing of theirs changed."""
        if owner_id not in self.prevs:
            return ()
        if owner_id not in self._views:
            entries = [entry for entry in self.entries if owner_id in (EVERYBODY, entry.owner_id)]
            self._views[owner_id] = tuple(_in_parts(self.prevs[owner_id], self.seq, entries, self.part_bytes))
        return self._views[owner_id]


@dataclass(frozen=True, slots=True)
class Waiter:
    """Somebody who waits until what was staged is stored; an impatient one only while the database takes it."""

    told: asyncio.Future[None]
    patient: bool


@dataclass
class Staged:
    """What waits for the next tick."""

    kept: list[Job | Removal] = field(default_factory=list)
    percents: dict[str, Callable[[], Job]] = field(default_factory=dict)
    new: list[NewJob] = field(default_factory=list)
    videos: list[VideoChange] = field(default_factory=list)
    resets: list[Reset] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    waiters: list[Waiter] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.kept or self.percents or self.new or self.videos or self.waiters)

    def refuse_impatient(self, sentence: str) -> None:
        """Tell those who do not want to wait until the database takes things again."""
        _tell([waiter for waiter in self.waiters if not waiter.patient], StoreRefused(sentence))
        self.waiters = [waiter for waiter in self.waiters if waiter.patient]


@dataclass(frozen=True, slots=True)
class CatchingUp:
    """How far a reader got that is not in step: states up to `position` were told, and removals up to `removals`.

    Within a snapshot the two differ: what left the dashboard before it began was never shown.
    """

    position: int
    removals: int
    snapshot: bool = False


class ProgressHub:
    """The newest state of each job on the dashboard, and the only way for a state to become visible.

    `seq` is the newest position. One process, one hub. A removal never replaces the end before it, for the newest 1,000
    ends of this life. It keeps `kept_batches` ticks for readers that are a little
    behind and `kept_removals` for those that come back, and cuts what is more than `part_bytes` of JSON.
    """

    def __init__(
        self,
        store: JobStore,
        clock: Clock,
        *,
        kept_batches: int = KEPT_BATCHES,
        kept_removals: int = KEPT_REMOVALS,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._store = store
        self._clock = clock
        self._kept_removals = kept_removals
        self._part_bytes = part_bytes
        self._staged = Staged()
        self._work = asyncio.Event()
        self._closing = False
        self._broken = False
        self._newest: OrderedDict[str, Change] = OrderedDict()
        self._gone: OrderedDict[str, Removal] = OrderedDict()
        self._ends: OrderedDict[str, Change] = OrderedDict()
        self._floor = 1
        self._batches: deque[Batch] = deque(maxlen=kept_batches)
        self._parts: dict[tuple[str | None, CatchingUp], View] = {}
        self._last_of: dict[str | None, int] = {}
        self._published = asyncio.Event()
        self._told: dict[str, tuple[int, datetime]] = {}
        self._last_stored = 0
        self._born = 0
        self._refusal: str | None = None
        self._storing = asyncio.Event()
        self._storing.set()
        self.seq = 0

    @property
    def is_storing(self) -> bool:
        """Whether the database took the last tick."""
        return self._storing.is_set()

    async def until_storing(self) -> None:
        """Return when the database takes what it is given."""
        await self._storing.wait()

    async def load(self) -> None:
        """Take up what is stored; this life's positions lie above all earlier ones."""
        for job in await self._store.on_dashboard():
            self._newest[job.id] = Change(job)
        for job_id, owner_id, seq in await self._store.removals(self._kept_removals):
            self._gone[job_id] = Removal(job_id, owner_id, seq)
        if len(self._gone) == self._kept_removals:
            self._floor = next(iter(self._gone.values())).seq
        self._last_stored = await self._store.last_seq()
        self.seq = max(self._last_stored, int(self._clock.now().timestamp() * 1_000_000) - 1)
        self._born = self.seq

    def stage(self, job: Job, *, kept: bool, videos: Sequence[VideoChange] = (), resets: Sequence[Reset] = ()) -> None:
        """Have `job` stored and shown by the next tick.

        `kept`: a status change or a failed video, which is sent and stored for itself; otherwise a percent, of which
        only the newest counts. `resets` come after all `videos` of their tick.
        """
        if kept:
            self._staged.percents.pop(job.id, None)
            self._staged.kept.append(job)
        else:
            self._staged.percents[job.id] = lambda: job
        self._staged.videos.extend(videos)
        self._staged.resets.extend(resets)
        self._work.set()

    def stage_newest(self, job_id: str, state: Callable[[], Job], *, videos: Sequence[VideoChange] = ()) -> None:
        """A percent whose `state` is only made when the next tick takes it: most are overtaken before."""
        self._staged.percents[job_id] = state
        self._staged.videos.extend(videos)
        self._work.set()

    def stage_new(self, new: NewJob) -> None:
        """Have a job appear with the next tick; its first state counts as a status change."""
        self._staged.new.append(new)
        self._staged.kept.append(new.job)
        self._work.set()

    def stage_removal(self, job: Job) -> None:
        """Have the job leave the dashboard, after everything that was staged for it before."""
        self._staged.percents.pop(job.id, None)
        self._staged.kept.append(Removal(job.id, job.owner_id, 0))
        self._work.set()

    def stage_deletion(self, job: Job) -> None:
        """Have the job leave the dashboard and the records; of its rows only who it was stays, for who comes back."""
        self.stage_removal(job)
        self._staged.deleted.add(job.id)

    async def durable(self, *, patient: bool = True) -> None:
        """Return when everything staged so far is stored; raises `StoreRefused` when it never will be.

        Impatient, also when the database refuses it now; what was staged is stored once it takes it again.
        """
        if self._broken or not (patient or self.is_storing):
            raise StoreRefused(self._refusal)
        waiter = Waiter(asyncio.get_running_loop().create_future(), patient)
        self._staged.waiters.append(waiter)
        self._work.set()
        await waiter.told

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
        try:
            batch = self._stamp(staged)
            await self._store_surely(self._transaction(staged, batch), staged)
        except Exception:
            self._broken = True
            self._storing.clear()
            _tell((*staged.waiters, *self._staged.waiters), StoreRefused())
            raise
        if batch.entries:
            self._publish(batch)
        _tell(staged.waiters, None)

    def seq_of(self, job_id: str) -> int:
        """The position of the newest state of a job on the dashboard."""
        return self._newest[job_id].seq

    def reader(self, owner_id: str | None, after: int | None = None) -> Reader:
        """A reader of this owner's jobs (None: everybody's), from a position it knows or from the beginning."""
        known = after is not None and self.knows(after)
        return Reader(self, owner_id, CatchingUp(after, after) if after and known else self._beginning())

    def knows(self, position: int) -> bool:
        """Whether everything that happened after `position` can still be told.

        Not when it is too old, or of a life of the server that the stored data know nothing of (a restored backup).
        """
        return self._floor <= position <= self._last_stored or self._born < position <= self.seq

    def part(self, owner_id: str | None, behind: CatchingUp) -> View:
        """The newest state of each job changed since, and what left: all of it, or as much as fits into one part.

        Readers that are at the same point share one.
        """
        key = (owner_id, behind)
        if key not in self._parts:
            if len(self._parts) >= KEPT_PARTS:
                self._parts.clear()
            self._parts[key] = self._part(owner_id, behind)
        return self._parts[key]

    def following(self, position: int) -> Batch | None:
        """The batch after this position; None when it is no longer kept."""
        return next((batch for batch in reversed(self._batches) if batch.prev == position), None)

    def reachable(self, behind: CatchingUp) -> CatchingUp:
        """The same point, or the beginning when too many jobs have left since."""
        return behind if behind.removals >= self._floor else self._beginning()

    async def beyond(self, position: int) -> int:
        """The newest position, once something was published after `position`."""
        while self.seq <= position:
            await self._published.wait()
        return self.seq

    def _beginning(self) -> CatchingUp:
        return CatchingUp(0, self.seq, snapshot=True)

    def _part(self, owner_id: str | None, behind: CatchingUp) -> View:
        gone = _newer(self._gone, behind.removals)
        ends = [self._ends[removal.job_id] for removal in gone if removal.job_id in self._ends]
        told: list[Entry] = [*_newer(self._newest, behind.position), *gone]
        told += [end for end in ends if end.seq > behind.position]  # a removal never replaces the end before it
        entries = [entry for entry in sorted(told, key=_BY_SEQ) if owner_id in (EVERYBODY, entry.owner_id)]
        fitting = _fitting(entries, self._part_bytes)
        more = fitting < len(entries)
        seq = entries[fitting - 1].seq if more else max(behind.position, self._position(owner_id))
        return View(behind.position, seq, behind.snapshot, tuple(entries[:fitting]), more)

    def _position(self, owner_id: str | None) -> int:
        """Where this owner's newest share ends: the position that all of their readers have in common."""
        return self._last_of.get(owner_id, self._last_stored)

    def _stamp(self, staged: Staged) -> Batch:
        numbers = count(self.seq + 1)
        kept = tuple(_stamped(entry, next(numbers)) for entry in staged.kept)
        percents = tuple(Change(state().evolve(seq=next(numbers))) for state in staged.percents.values())
        owners = {entry.owner_id for entry in (*kept, *percents)}
        prevs = {owner_id: self._position(owner_id) for owner_id in (*owners, EVERYBODY)}
        return Batch(self.seq, next(numbers) - 1, kept, percents, prevs, self._part_bytes)

    def _transaction(self, staged: Staged, batch: Batch) -> Tick:
        newest = {entry.job_id: entry.job for entry in batch.entries if isinstance(entry, Change)}
        kept = [entry for entry in batch.kept if isinstance(entry, Change)]
        told = (*kept, *(change for change in batch.percents if self._is_news(change.job)))
        last = {entry.job_id: entry for entry in batch.kept}
        removals = [entry for entry in last.values() if isinstance(entry, Removal)]
        return Tick(
            new=[replace(new, job=newest.pop(new.job.id)) for new in staged.new],
            jobs=list(newest.values()),
            events=told,
            removed=[(entry.job_id, entry.seq) for entry in removals],
            deleted=[(entry.job_id, entry.owner_id, entry.seq) for entry in removals if entry.job_id in staged.deleted],
            videos=staged.videos,
            resets=staged.resets,
            milestones=list(self._milestones(change.job for change in kept)),
        )

    def _milestones(self, states: Iterable[Job]) -> Iterator[Milestone]:
        """What these states, one after the other, add to their jobs' timelines."""
        before: dict[str, Job] = {}
        for job in states:
            shown = self._newest.get(job.id)
            milestone = Milestone.between(before.get(job.id, shown.job if shown else None), job)
            before[job.id] = job
            if milestone is not None:
                yield milestone

    def _is_news(self, job: Job) -> bool:
        progress, at = self._told.get(job.id, (-1, job.updated_at))
        if job.progress == progress and (job.updated_at - at).total_seconds() < THIN_SECONDS:
            return False
        self._told[job.id] = (job.progress, job.updated_at)
        return True

    async def _store_surely(self, tick: Tick, staged: Staged) -> None:
        while True:
            try:
                await self._store.commit(tick)
            except StoreRefused as error:
                if self._closing:
                    raise
                self._refusal = error.sentence
                self._storing.clear()
                staged.refuse_impatient(error.sentence)
                self._staged.refuse_impatient(error.sentence)
                log.exception("the database refused a tick; it is tried again", extra={"action": "tick_refused"})
                await self._clock.sleep(RETRY_SECONDS)
            else:
                self._storing.set()
                return

    def _publish(self, batch: Batch) -> None:
        for entry in batch.entries:
            if isinstance(entry, Change):
                self._show(entry)
            else:
                self._take_away(entry)
        while len(self._gone) > self._kept_removals:
            self._floor = self._gone.popitem(last=False)[1].seq
        self.seq = batch.seq
        self._last_of.update(dict.fromkeys(batch.prevs, batch.seq))
        self._batches.append(batch)
        self._parts.clear()
        self._published.set()
        self._published = asyncio.Event()

    def _show(self, change: Change) -> None:
        self._newest[change.job_id] = change
        self._newest.move_to_end(change.job_id)
        self._gone.pop(change.job_id, None)
        self._ends.pop(change.job_id, None)
        if change.job.is_finished:
            self._told.pop(change.job_id, None)

    def _take_away(self, removal: Removal) -> None:
        self._gone[removal.job_id] = removal
        self._gone.move_to_end(removal.job_id)
        if end := self._newest.pop(removal.job_id, None):
            self._ends[removal.job_id] = end
        if len(self._ends) > KEPT_ENDS:
            self._ends.popitem(last=False)


class Reader:
    """One watcher's position. Neither `next` nor `take` ever blocks anybody else."""

    def __init__(self, hub: ProgressHub, owner_id: str | None, behind: CatchingUp) -> None:
        self.owner_id = owner_id
        self._hub = hub
        self._behind: CatchingUp | None = behind
        self._read = hub.seq
        self._sent = behind.position
        self._ready: deque[View] = deque()

    async def next(self) -> View:
        """The first time what is there, then each batch as it comes; newest states where the reader fell behind."""
        while (view := self.take()) is None:
            await self._hub.beyond(self._read)
        return view

    def take(self) -> View | None:
        """The same without waiting; None when there is nothing new."""
        view = self._ready.popleft() if self._ready else self._look()
        if view is None:
            return None
        if view.prev != self._sent and not view.snapshot:
            view = replace(view, prev=self._sent)
        self._sent = view.seq
        return view

    @property
    def is_in_step(self) -> bool:
        """Whether it had everything up to some batch, so that it goes on batch by batch."""
        return self._behind is None and not self._ready

    def is_level_with(self, other: Reader) -> bool:
        """Whether both will get the very same views."""
        mine, theirs = ((one.owner_id, one._read, one._sent) for one in (self, other))
        return self.is_in_step and other.is_in_step and mine == theirs

    def fork(self) -> Reader:
        """Another reader at the same position."""
        other = copy(self)
        other._ready = self._ready.copy()
        return other

    def _look(self) -> View | None:
        while self._behind is None and self._read < self._hub.seq:
            batch = self._hub.following(self._read)
            if batch is None:
                self._behind = CatchingUp(self._sent, self._sent)
                break
            self._read = batch.seq
            if views := batch.views(self.owner_id):
                self._ready.extend(views[1:])
                return views[0]
        return self._catch_up(self._behind) if self._behind else None

    def _catch_up(self, behind: CatchingUp) -> View | None:
        behind = self._hub.reachable(behind)
        view = self._hub.part(self.owner_id, behind)
        if view.more:
            self._behind = CatchingUp(view.seq, max(behind.removals, view.seq))
            return view
        self._behind, self._read = None, self._hub.seq
        return view if view.snapshot or view.entries else None


def _stamped(entry: Job | Removal, seq: int) -> Entry:
    return Change(entry.evolve(seq=seq)) if isinstance(entry, Job) else replace(entry, seq=seq)


def _in_parts(prev: int, seq: int, entries: Sequence[Entry], part_bytes: int) -> Iterator[View]:
    while (fitting := _fitting(entries, part_bytes)) < len(entries):
        part, entries = entries[:fitting], entries[fitting:]
        yield View(prev, part[-1].seq, False, tuple(part), more=True)
        prev = part[-1].seq
    yield View(prev, seq, False, tuple(entries))


def _fitting(entries: Sequence[Entry], part_bytes: int) -> int:
    """How many of them make a part; at least one."""
    if len(entries) * LARGEST_UPDATE_BYTES <= part_bytes:
        return len(entries)
    size = 0
    for number, entry in enumerate(entries):
        size += len(entry.body) if isinstance(entry, Change) else len(entry.job_id)
        if number and size > part_bytes:
            return number
    return len(entries)


def _gone_after(entries: Iterable[Entry]) -> tuple[str, ...]:
    last = {entry.job_id: entry for entry in entries}
    return tuple(job_id for job_id, entry in last.items() if isinstance(entry, Removal))


def _tell(waiters: Iterable[Waiter], error: StoreRefused | None) -> None:
    for told in (waiter.told for waiter in waiters):
        if told.done():  # whoever waited has gone
            continue
        if error is None:
            told.set_result(None)
        else:
            told.set_exception(error)


def _newer(entries: OrderedDict[str, Kind], position: int) -> list[Kind]:
    """The entries after `position`, oldest first; the dictionary is in the order of `seq`."""
    found = list(takewhile(lambda entry: entry.seq > position, reversed(entries.values())))
    return found[::-1]
