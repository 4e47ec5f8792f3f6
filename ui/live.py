"""From the backend to the browser: one reader and one broadcast for everybody who sees the same jobs.

A frame is `{prev, seq, snapshot, now, jobs, removed, headline, state}`: `now` is the server's clock in milliseconds,
`jobs` has, of each card that changed, its ID and the facts that differ. A tab that joins gets a snapshot: all cards,
whole. A tab that comes back sends the `seq` it has, and gets only what changed since, if that is still known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from nicegui.events import GenericEventArguments

from backend.clock import Clock, to_millis
from backend.delivery.batches import View
from backend.domain.auth import User
from backend.domain.job import Job
from backend.domain.pace import Estimate
from progress_dashboard.protocol import Status
from ui.components.dashboard.job_grid import JobGrid, card
from ui.nicegui_internals import Broadcast
from ui.text import headline, outlook, pace, tab_state

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
CHECK_SECONDS = 1.0
TIME_DEPENDENT = ("id", "pace", "stalled", "rank")  # the facts of a card that change without a new state of its job
Card = Mapping[str, Any]


class StateReader(Protocol):
    """The position of one watcher among the live states."""

    async def next(self) -> View:
        """Return what is there, then what changed as soon as something did."""

    def take(self) -> View | None:
        """Return the same without waiting; None if there is nothing new."""


Watch = Callable[[User, int | None], StateReader]


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card shows beyond its job: when it leaves, its pace, and since when it is stalled."""

    leaves_at: Callable[[Job], datetime | None]
    estimate: Callable[[Job], Estimate | None]
    stalled_since: Callable[[Job], datetime | None]

    def card(self, job: Job) -> Card:
        """Return the job's card as it is now."""
        return card(job, self.leaves_at(job), self.pace(job), self.stalled_since(job))

    def pace(self, job: Job) -> str:
        """Return in words how fast the job progresses and when it will be done; "" while that is unknown."""
        estimate = self.estimate(job)
        return pace(estimate) if estimate else ""


@dataclass(eq=False)
class Audience:
    """The tabs that see the same jobs (those `user` may see), and what they have been sent.

    `waiting` are tabs that wait until all jobs are known (`is_complete`), with the `seq` that each has. `outlook` says
    when all jobs will be done.
    """

    user: User
    broadcast: Broadcast
    grids: set[JobGrid] = field(default_factory=set)
    waiting: dict[JobGrid, int | None] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    cards: dict[str, Card] = field(default_factory=dict)
    outlook: str = ""
    seq: int = 0
    is_complete: bool = False
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    task: asyncio.Task[None] | None = None

    @property
    def owner_id(self) -> str | None:
        return self.user.sees_jobs_of

    def take(self, view: View) -> Iterable[Job]:
        """Apply the view, and return the newest state of each job that changed."""
        changed = {job.id: job for job in view.updates}
        if view.snapshot:
            self.jobs.clear()
            self.cards.clear()
        self.jobs.update(changed)
        for job_id in view.removed:
            self.jobs.pop(job_id, None)
            self.cards.pop(job_id, None)
            changed.pop(job_id, None)
        self.seq, self.is_complete = view.seq, not view.more
        return changed.values()

    def renew(self, jobs: Iterable[Job], facts: CardFacts) -> list[Card]:
        """Make the cards of these jobs again, and return what differs from before."""
        differing: list[Card] = []
        for job in jobs:
            before, self.cards[job.id] = self.cards.get(job.id, {}), facts.card(job)
            differing.append({**_differences(before, self.cards[job.id]), "id": job.id})
        return differing

    def is_stale(self, job: Job, facts: CardFacts) -> bool:
        """Return True if the card is stale because time passed: the job stalled or its ETA changed."""
        shown = self.cards[job.id]
        is_stalled = facts.stalled_since(job) is not None
        return (shown["stalled"] is not None) != is_stalled or shown["pace"] != facts.pace(job)

    def since(self, after: int) -> list[Card]:
        """Return the cards that changed after a position; of other processing jobs what time may have changed."""
        changed = [self.cards[job.id] for job in self.jobs.values() if job.seq > after]
        processing = (job for job in self.jobs.values() if job.seq <= after and job.status is Status.PROCESSING)
        return changed + [{name: self.cards[job.id][name] for name in TIME_DEPENDENT} for job in processing]

    @property
    def headline(self) -> str:
        """All of it in a sentence or two."""
        stalled = sum(card["stalled"] is not None for card in self.cards.values())
        return " ".join(filter(None, (headline(self.jobs.values(), stalled=stalled), self.outlook)))


class LiveJobs:
    """Feeds the grids of all pages. The reader of an audience runs only while a tab watches.

    `watch` returns a reader of what a user sees, from a position on; `broadcast` makes a broadcast by its name.
    """

    def __init__(self, watch: Watch, broadcast: Callable[[str], Broadcast], clock: Clock, facts: CardFacts) -> None:
        self._watch = watch
        self._broadcast = broadcast
        self._clock = clock
        self._facts = facts
        self._audiences: dict[str | None, Audience] = {}
        self._owner_of: WeakKeyDictionary[JobGrid, str | None] = WeakKeyDictionary()  # whose jobs it was sent

    def feed(self, grid: JobGrid, viewer: Callable[[], User]) -> None:
        """Feed the grid while its page is connected. `viewer` returns the user, asked at each subscription."""
        client = grid.client

        async def subscribe(event: GenericEventArguments) -> None:
            await self._subscribe(grid, viewer(), event.args if isinstance(event.args, int) else None)

        def leave() -> None:
            if client.is_deleted or not client.has_socket_connection:  # it may be back before its old socket is closed
                self._leave(grid)

        grid.on("watch", subscribe)
        client.on_disconnect(leave)
        client.on_delete(leave)

    async def aclose(self) -> None:
        """Stop all readers and wait until they have ended."""
        tasks = [audience.task for audience in self._audiences.values() if audience.task]
        self._audiences.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _subscribe(self, grid: JobGrid, user: User, after: int | None) -> None:
        owner_id = user.sees_jobs_of
        if self._owner_of.get(grid, owner_id) != owner_id:
            after = None  # a position among the jobs of an earlier role
        self._owner_of[grid] = owner_id
        await self._leave_others(grid, owner_id)
        audience = self._audiences.get(owner_id)
        if audience is None:
            audience = Audience(user, self._broadcast(f"jobs of {owner_id or 'everybody'}"))
            self._audiences[owner_id] = audience
            audience.task = asyncio.create_task(self._follow(audience), name="live jobs")
        audience.grids.add(grid)
        async with audience.sending:
            if grid in audience.grids:  # it may have left meanwhile
                audience.waiting[grid] = after
                await self._admit_waiting(audience)

    async def _leave_others(self, grid: JobGrid, owner_id: str | None) -> None:
        """Leave the audience of an earlier role: a user who became an administrator, or no longer is one."""
        for audience in [audience for audience in self._audiences.values() if audience.owner_id != owner_id]:
            if grid in audience.grids:
                self._remove(audience, grid)
                await audience.broadcast.leave(grid)

    def _leave(self, grid: JobGrid) -> None:
        for audience in list(self._audiences.values()):
            self._remove(audience, grid)

    def _remove(self, audience: Audience, grid: JobGrid) -> None:
        audience.grids.discard(grid)
        audience.waiting.pop(grid, None)
        if not audience.grids:
            self._audiences.pop(audience.owner_id, None)
            if audience.task:
                audience.task.cancel()

    async def _follow(self, audience: Audience) -> None:
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._relay(audience))
                    tasks.create_task(self._check(audience))
            except Exception:
                log.exception("the live view stopped and starts again", extra={"action": "live_view_failed"})
                await self._clock.sleep(RETRY_SECONDS)

    async def _relay(self, audience: Audience) -> None:
        """Send what happens."""
        reader = self._watch(audience.user, None)
        while True:
            view = await reader.next()
            async with audience.sending:
                cards = audience.renew(audience.take(view), self._facts)
                frame = self._frame(audience, view.prev, cards, view.removed, snapshot=view.snapshot)
                await audience.broadcast.send(frame)
                await self._admit_waiting(audience)

    async def _check(self, audience: Audience) -> None:
        """Send once a second what only time has changed."""
        while True:
            await self._clock.sleep(CHECK_SECONDS)
            async with audience.sending:
                if not audience.is_complete:
                    continue
                processing = [job for job in audience.jobs.values() if job.status is Status.PROCESSING]
                stale = [job for job in processing if audience.is_stale(job, self._facts)]
                cards = audience.renew(stale, self._facts)
                before, audience.outlook = audience.outlook, outlook(audience.jobs.values(), self._facts.estimate)
                if cards or audience.outlook != before:
                    await audience.broadcast.send(self._frame(audience, audience.seq, cards))

    async def _admit_waiting(self, audience: Audience) -> None:
        """Let the waiting tabs join: each gets what changed since it was here, or everything if that is unknown."""
        while audience.is_complete and audience.waiting:
            grid, after = audience.waiting.popitem()
            await audience.broadcast.join(grid)
            await audience.broadcast.send_to(grid, self._missed_frame(audience, after))

    def _missed_frame(self, audience: Audience, after: int | None) -> Mapping[str, Any]:
        removed = self._removed_since(audience, after)
        if after is None or removed is None:
            return self._frame(audience, audience.seq, audience.cards.values(), snapshot=True)
        return self._frame(audience, after, audience.since(after), removed)

    def _removed_since(self, audience: Audience, after: int | None) -> list[str] | None:
        """Return the jobs that left after a position; None if the position cannot be resumed from."""
        if after is None or after > audience.seq:
            return None
        view = self._watch(audience.user, after).take()
        if view is None:
            return []
        if view.snapshot or view.more:
            return None
        return [job_id for job_id in view.removed if job_id not in audience.jobs]

    def _frame(
        self,
        audience: Audience,
        prev: int,
        cards: Iterable[Card],
        removed: Iterable[str] = (),
        *,
        snapshot: bool = False,
    ) -> Mapping[str, Any]:
        return {
            "prev": prev,
            "seq": audience.seq,
            "snapshot": snapshot,
            "now": to_millis(self._clock.now()),
            "jobs": list(cards),
            "removed": list(removed),
            "headline": audience.headline,
            "state": tab_state(audience.jobs.values()),
        }


def _differences(before: Card, now: Card) -> Card:
    return {name: value for name, value in now.items() if name not in before or before[name] != value}
