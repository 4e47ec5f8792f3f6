"""Tells the administrators when a disk is nearly full, once, and when there is room again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.clock import Clock, repeat
from backend.domain.auth import User
from backend.domain.notification import EventKind, Notification, event_id
from backend.store.changes import NewNotification

CHECK_SECONDS = 60.0
HIGH_RATIO = 1.5  # of the low-water mark: with less room than that again, it is still low
MIB = 2**20
GIB = 2**30


@dataclass(frozen=True, slots=True)
class DiskState:
    """How often a disk was low so far, and whether it is now."""

    times: int = 0
    is_low: bool = False


class DiskWatch:
    """Looks at the disks of these directories once a minute; `low_mib` is the low-water mark, 0 for none.

    What was told is stored, so that a restart tells nothing again. `tell` stores an event with the next tick; `users`
    returns all users, `told` what was told before.
    """

    def __init__(
        self,
        directories: Mapping[str, Path],
        clock: Clock,
        *,
        low_mib: int,
        tell: Callable[[NewNotification], None],
        users: Callable[[], Awaitable[Sequence[User]]],
        told: Callable[[], Awaitable[Sequence[Notification]]],
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self._directories = directories
        self._clock = clock
        self._low = low_mib * MIB
        self._tell = tell
        self._users = users
        self._told = told
        self._free_bytes = free_bytes
        self._states: dict[str, DiskState] | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        if self._low:
            await repeat(self.run_once, every=CHECK_SECONDS, clock=self._clock, what="the look at the disks")

    async def run_once(self) -> None:
        """Tell what has changed since the last look."""
        if self._states is None:
            told = await self._told()
            self._states = {name: _state(name, told) for name in self._directories}
        for name, path in self._directories.items():
            state = self._states[name]
            try:
                free = await asyncio.to_thread(self._free_bytes, path)
            except OSError:
                continue  # it is not there now, which says nothing about room
            if not state.is_low and free < self._low:
                self._states[name] = await self._say(name, DiskState(state.times + 1, True), free)
            elif state.is_low and free >= self._low * HIGH_RATIO:
                self._states[name] = await self._say(name, DiskState(state.times, False), free)

    async def _say(self, name: str, state: DiskState, free: int) -> DiskState:
        administrators = [user for user in await self._users() if user.is_admin and not user.disabled]
        for number, user in enumerate(administrators):
            self._tell(self._event(name, state, free, user, for_all=number == 0))
        return state

    def _event(self, name: str, state: DiskState, free: int, user: User, *, for_all: bool) -> NewNotification:
        room = f"{free / GIB:,.1f} GiB"
        if state.is_low:
            event, title = EventKind.DISK_LOW, f"The disk of the {name} directory is nearly full: {room} left"
            text = f"Jobs fail when it is full. Make room: more than {self._low * HIGH_RATIO / GIB:,.1f} GiB."
        else:
            event, title = EventKind.RECOVERED, f"The disk of the {name} directory has room again: {room}"
            text = "Nothing is to be done."
        return NewNotification(
            event=event,
            user_id=user.id,
            at=self._clock.now(),
            seq=0,
            attempt=state.times,
            subject=subject(name),
            title=title,
            text=text,
            for_all=for_all,
        )


def subject(name: str) -> str:
    """Return what events of the disk of this directory are about."""
    return f"disk:{name}"


def _state(name: str, told: Sequence[Notification]) -> DiskState:
    """Return the state of a disk after what was told, oldest first."""
    state = DiskState()
    for one in told:
        if one.event_id == event_id(subject(name), one.event, one.attempt):
            state = DiskState(one.attempt, one.event is EventKind.DISK_LOW)
    return state
