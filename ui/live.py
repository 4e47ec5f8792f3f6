"""From the backend to the browser: one reader and one broadcast for everybody who sees the same jobs.

A frame is `{prev, seq, resume, snapshot, now, jobs, removed, headline, done, pulse, state}`: `now` is the server's
clock in milliseconds, `done` when all will be done ([about, from, to], null if that is not known), `pulse` the videos
of the last minutes, `jobs` has, of each card that changed, its ID and the facts that differ. A tab that joins gets a
snapshot: all cards, whole. A tab that comes back sends the position `resume` that it has, and gets only what changed
since, if that is still known. A tab tells which jobs it shows; `audience` says what depends on that.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from nicegui.events import GenericEventArguments

from backend.clock import Clock, to_millis
from backend.delivery.batches import View
from backend.domain.auth import User
from backend.domain.job import Job
from ui.audience import Audience, Card, CardFacts
from ui.components.dashboard.dashboard_view import DashboardView
from ui.components.dashboard.job_grid import JobGrid, job_order
from ui.nicegui_internals import Broadcast
from ui.text import Totals

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
CHECK_SECONDS = 1.0
FRAME_SECONDS = 0.020  # between frames: a browser paints hardly more often
CARDS_AT_ONCE = 200  # made before other tasks get a turn
FIRST_CARDS = 30
LOOK_SECONDS = 0.1
MAX_SHOWN, MAX_ID_LENGTH = 1_000, 64


class StateReader(Protocol):
    """The position of one watcher among the live states."""

    async def next(self) -> View:
        """Return what is there, then what changed as soon as something did."""

    def take(self) -> View | None:
        """Return the same without waiting; None if there is nothing new."""


Watch = Callable[[User, int | None], StateReader]


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

        async def show(event: GenericEventArguments) -> None:
            if isinstance(event.args, list):
                await self._show(grid, frozenset(filter(_is_id, event.args[:MAX_SHOWN])))

        def leave() -> None:
            if client.is_deleted or not client.has_socket_connection:  # it may be back before its old socket is closed
                self._leave(grid)

        grid.on("watch", subscribe)
        grid.on("look", show, throttle=LOOK_SECONDS)
        client.on_disconnect(leave)
        client.on_delete(leave)

    def first_frame(self, view: DashboardView, user: User) -> Mapping[str, Any] | None:
        """Return what a new page draws before it is connected: the first cards, and how many jobs have each status.

        None for a search, which is the browser's, and without jobs: that there are none is said once it is connected.
        """
        jobs = [] if view.q else self._known(user)
        if not jobs:
            return None
        selected, key = job_order(view, self._facts.stalled_since)
        first = heapq.nsmallest(FIRST_CARDS, filter(selected, jobs), key=key)
        totals, stalled = Totals.of(jobs), sum(self._facts.stalled_since(job) is not None for job in jobs)
        return {
            "now": to_millis(self._clock.now()),
            "jobs": [self._facts.card(job, user) for job in first],
            "counts": Counter(job.status.value for job in jobs),
            "headline": totals.headline(stalled),
            "done": self._facts.all_done(jobs),
            "pulse": self._facts.pulse(user),
            "state": totals.tab_state,
        }

    @property
    def watchers(self) -> int:
        """How many open pages are fed."""
        return sum(len(audience.grids) for audience in self._audiences.values())

    async def aclose(self) -> None:
        """Stop all readers and wait until they have ended."""
        tasks = [audience.task for audience in self._audiences.values() if audience.task]
        self._audiences.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _known(self, user: User) -> list[Job]:
        """Return the jobs that a user sees now."""
        audience = self._audiences.get(user.sees_jobs_of)
        if audience is not None and audience.is_complete:
            return list(audience.jobs.values())
        reader, jobs = self._watch(user, None), dict[str, Job]()
        while (view := reader.take()) is not None:
            jobs |= {job.id: job for job in view.updates}
            for job_id in view.removed:
                jobs.pop(job_id, None)
        return list(jobs.values())

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
        audience.grids.setdefault(grid, frozenset())
        async with audience.sending:
            if grid in audience.grids:  # it may have left meanwhile
                audience.waiting[grid] = after
                await self._admit_waiting(audience)

    async def _show(self, grid: JobGrid, ids: frozenset[str]) -> None:
        """Send at once what the tab begins to show, where that is not up to date."""
        for audience in list(self._audiences.values()):
            if grid in audience.grids and audience.show(grid, ids, self._facts):
                async with audience.sending:
                    await self._send(audience)

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
        audience.leave(grid)
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
            view: View | None = await reader.next()
            async with audience.sending:
                while view is not None:
                    audience.take(view)
                    view = reader.take() if audience.is_complete else None
                await self._send(audience)
                await self._admit_waiting(audience)
            if audience.is_complete:
                await self._clock.sleep(FRAME_SECONDS)

    async def _check(self, audience: Audience) -> None:
        """Send once a second what only time has changed, and what has waited."""
        while True:
            await self._clock.sleep(CHECK_SECONDS)
            async with audience.sending:
                if audience.is_complete:
                    audience.age(self._facts)
                    audience.done = self._facts.all_done(audience.jobs.values())
                    audience.pulse = self._facts.pulse(audience.user)
                    await self._send(audience)

    async def _admit_waiting(self, audience: Audience) -> None:
        """Let the waiting tabs join: each gets what changed since it was here, or everything if that is unknown."""
        snapshot: Mapping[str, Any] | None = None
        while audience.is_complete and audience.waiting:
            grid, after = audience.waiting.popitem()
            await audience.broadcast.join(grid)
            removed = self._removed_since(audience, after)
            if after is None or removed is None:
                cards = audience.cards.values()
                snapshot = snapshot or self._frame(audience, audience.sent_seq, cards, snapshot=True)
                await audience.broadcast.send_to(grid, snapshot)
            else:
                await audience.broadcast.send_to(grid, self._frame(audience, after, audience.since(after), removed))

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

    async def _send(self, audience: Audience) -> None:
        """Send the next frame, unless there is nothing to say."""
        due, cards = audience.due(self._clock.monotonic()), list[Card]()
        for first in range(0, len(due), CARDS_AT_ONCE):
            cards += audience.renew(due[first : first + CARDS_AT_ONCE], self._facts)
            if first + CARDS_AT_ONCE < len(due):
                await asyncio.sleep(0)
        differing, removed = [card for card in cards if len(card) > 1], audience.removed()
        says = audience.headline, audience.tab_state, audience.done, audience.pulse
        if not (differing or removed or audience.has_restarted or says != audience.said):
            return
        prev, audience.sent_seq, audience.said = audience.sent_seq, audience.seq, says
        frame = self._frame(audience, prev, differing, removed, snapshot=audience.has_restarted)
        audience.has_restarted = False
        await audience.broadcast.send(frame)

    def _frame(
        self,
        audience: Audience,
        prev: int,
        cards: Iterable[Card],
        removed: Iterable[str] = (),
        *,
        snapshot: bool = False,
    ) -> Mapping[str, Any]:
        headline, state, done, pulse = audience.said
        return {
            "prev": prev,
            "seq": audience.sent_seq,
            "resume": min(audience.resumable, audience.sent_seq),
            "snapshot": snapshot,
            "now": to_millis(self._clock.now()),
            "jobs": list(cards),
            "removed": list(removed),
            "headline": headline,
            "done": done,
            "pulse": pulse,
            "state": state,
        }


def _is_id(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_ID_LENGTH
