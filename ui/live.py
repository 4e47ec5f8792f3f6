"""From the manager to the browser: one reader and one shared Socket.IO room for everybody who sees the same jobs.

A frame is encoded once and sent to all tabs of a room: `{prev, seq, snapshot, now, jobs, removed, headline, state}`,
`now` being the server's clock in milliseconds, and `jobs` of each card that changed its id and what is other on it. A
tab that joins, or that missed a frame, gets a snapshot: all cards, whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from nicegui import Client, core

from backend.auth import User
from backend.clock import Clock, to_millis
from backend.hub import View
from backend.jobs import Job, Status
from backend.manager import seen_by
from backend.pace import Estimate
from ui.components.job_grid import JobGrid, card
from ui.text import headline, outlook, pace, tab_state

log = logging.getLogger(__name__)
EVENT = "jobs"
RETRY_SECONDS = 1.0
LOOK_SECONDS = 1.0
Card = Mapping[str, Any]


class Reader(Protocol):
    """One watcher's position among the live states."""

    async def next(self) -> View:
        """The first time a snapshot, then what changed, as soon as something did."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is to be said of a job besides what is in it: when it leaves, how it gets on, since when it stands still."""

    leaves_at: Callable[[Job], datetime | None]
    estimate: Callable[[Job], Estimate | None]
    stalled_since: Callable[[Job], datetime | None]

    def card(self, job: Job) -> Card:
        """The job's card as it is now."""
        return card(job, self.leaves_at(job), self.pace(job), self.stalled_since(job))

    def pace(self, job: Job) -> str:
        """How fast it gets on and when it will be done, in words; "" while that is not known."""
        estimate = self.estimate(job)
        return pace(estimate) if estimate else ""


@dataclass
class Room:
    """What the tabs of one room have seen so far, and which clients they are; it sees what `user` may see.

    `outlook` is when all will be done, in words.
    """

    user: User
    viewers: set[str] = field(default_factory=set)
    jobs: dict[str, Job] = field(default_factory=dict)
    cards: dict[str, Card] = field(default_factory=dict)
    outlook: str = ""
    seq: int | None = None
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    task: asyncio.Task[None] | None = None

    @property
    def owner_id(self) -> str | None:
        return seen_by(self.user)

    @property
    def name(self) -> str:
        return f"jobs of {self.owner_id or 'everybody'}"

    def take(self, view: View) -> Iterable[Job]:
        """Bring the room up to the view; returns the newest state of each job that changed."""
        changed = {job.id: job for job in view.updates}
        if view.snapshot:
            self.jobs.clear()
            self.cards.clear()
        self.jobs.update(changed)
        for job_id in view.removed:
            self.jobs.pop(job_id, None)
            self.cards.pop(job_id, None)
            changed.pop(job_id, None)
        self.seq = view.seq
        return changed.values()

    def renew(self, jobs: Iterable[Job], known: Known) -> list[Card]:
        """Make the cards of these jobs anew; returns what is other on them than before."""
        told: list[Card] = []
        for job in jobs:
            before, self.cards[job.id] = self.cards.get(job.id, {}), known.card(job)
            told.append({**_differences(before, self.cards[job.id]), "id": job.id})
        return told

    def is_behind(self, job: Job, known: Known) -> bool:
        """Whether time has made its card untrue, though nothing came: it stands still now, or gets on slower."""
        shown = self.cards[job.id]
        is_stalled = known.stalled_since(job) is not None
        return (shown["stalled"] is not None) != is_stalled or shown["pace"] != known.pace(job)

    @property
    def headline(self) -> str:
        """All of it in a sentence or two."""
        stalled = sum(card["stalled"] is not None for card in self.cards.values())
        return " ".join(filter(None, (headline(self.jobs.values(), stalled=stalled), self.outlook)))


class LiveJobs:
    """Feeds the grids of all pages with what `watch` gives. A room's reader runs only while somebody looks."""

    def __init__(self, watch: Callable[[User], Reader], clock: Clock, known: Known) -> None:
        self._reader = watch
        self._clock = clock
        self._known = known
        self._rooms: dict[str | None, Room] = {}

    def feed(self, grid: JobGrid, viewer: Callable[[], User]) -> None:
        """Let the grid have what `viewer` may see, asked anew at each subscription, while its page is connected."""
        client = grid.client
        grid.on("watch", lambda: self._watch(client, viewer()), args=[])
        client.on_disconnect(partial(self._left, client))
        client.on_delete(partial(self._left, client))

    async def aclose(self) -> None:
        """Stop all readers and wait until they are gone."""
        tasks = [room.task for room in self._rooms.values() if room.task]
        self._rooms.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, client: Client, user: User) -> None:
        owner_id = seen_by(user)
        await self._leave_others(client, owner_id)
        room = self._rooms.setdefault(owner_id, Room(user))
        room.viewers.add(client.id)
        if room.task is None:
            room.task = asyncio.create_task(self._follow(room), name=room.name)
        async with room.sending:
            for sid in _sockets(client):
                await core.sio.enter_room(sid, room.name)
            if room.seq is not None:
                await self._send(room, client.id, room.seq, snapshot=True, cards=room.cards.values())

    async def _leave_others(self, client: Client, owner_id: str | None) -> None:
        """A user who is no administrator any more, or has become one, sees other jobs from now on."""
        for room in [room for room in self._rooms.values() if room.owner_id != owner_id]:
            if client.id in room.viewers:
                self._withdraw(room, client)
                for sid in _sockets(client):
                    await core.sio.leave_room(sid, room.name)

    def _left(self, client: Client) -> None:
        if client.has_socket_connection and not client.is_deleted:
            return  # it came back before its old socket was given up
        for room in list(self._rooms.values()):
            self._withdraw(room, client)

    def _withdraw(self, room: Room, client: Client) -> None:
        room.viewers.discard(client.id)
        if not room.viewers:
            self._rooms.pop(room.owner_id, None)
            if room.task:
                room.task.cancel()

    async def _follow(self, room: Room) -> None:
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._relay(room))
                    tasks.create_task(self._look(room))
            except Exception:
                log.exception("the live view stopped and starts again", extra={"action": "live_view_failed"})
                await self._clock.sleep(RETRY_SECONDS)

    async def _relay(self, room: Room) -> None:
        """Pass on what happens."""
        reader = self._reader(room.user)
        while True:
            view = await reader.next()
            async with room.sending:
                cards = room.renew(room.take(view), self._known)
                await self._send(room, room.name, view.prev, snapshot=view.snapshot, cards=cards, removed=view.removed)

    async def _look(self, room: Room) -> None:
        """Tell once a second what only time has changed."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            async with room.sending:
                running = [job for job in room.jobs.values() if job.status is Status.PROCESSING]
                cards = room.renew([job for job in running if room.is_behind(job, self._known)], self._known)
                before, room.outlook = room.outlook, outlook(room.jobs.values(), self._known.estimate)
                if room.seq is not None and (cards or room.outlook != before):
                    await self._send(room, room.name, room.seq, snapshot=False, cards=cards)

    async def _send(
        self, room: Room, to: str, prev: int, *, snapshot: bool, cards: Iterable[Card], removed: Iterable[str] = ()
    ) -> None:
        frame = {
            "prev": prev,
            "seq": room.seq,
            "snapshot": snapshot,
            "now": to_millis(self._clock.now()),
            "jobs": list(cards),
            "removed": list(removed),
            "headline": room.headline,
            "state": tab_state(room.jobs.values()),
        }
        await core.sio.emit(EVENT, frame, room=to)


def _differences(before: Card, now: Card) -> Card:
    return {name: value for name, value in now.items() if name not in before or before[name] != value}


def _sockets(client: Client) -> list[str]:
    """The sockets of this page; NiceGUI keeps them in a room named after it."""
    return [sid for sid, _ in core.sio.manager.get_participants("/", client.id)]
