"""The slots that running videos share."""

from __future__ import annotations

import asyncio
import logging

import anyio

from backend.domain.auth import User
from backend.errors import Invalid, NotAllowed
from backend.settings import MAX_SLOTS

log = logging.getLogger(__name__)


class Slots:
    """The shared limit of videos that run at once. While they are closed, no video begins."""

    def __init__(self, number: int) -> None:
        self._limiter = anyio.CapacityLimiter(number)
        self._number = number
        self.is_closed = False

    @property
    def number(self) -> int:
        """How many videos may run at once."""
        return self._number

    @property
    def taken(self) -> int:
        """How many videos run."""
        return self._limiter.borrowed_tokens

    def change(self, number: int, *, by: User) -> None:
        """Change the limit until the next start, when the setting counts again. Running videos are not stopped."""
        if not by.is_admin:
            raise NotAllowed("Only an administrator can change the slots.")
        if not 1 <= number <= MAX_SLOTS:
            raise Invalid(f"slots must be from 1 to {MAX_SLOTS:,}.")
        self.set(number)
        log.info("slots changed", extra={"action": "slots_changed", "slots": number, "user": by.name})

    def set(self, number: int) -> None:
        """Let so many videos run at once, once the slots are open."""
        self._number = number
        self._apply()

    def close(self, *, is_closed: bool = True) -> None:
        """Let no further video begin, or open the slots again. Running videos are not stopped."""
        self.is_closed = is_closed
        self._apply()

    def slot(self, queue: asyncio.Lock) -> Slot:
        """Return a slot for one video; `queue` is the one place that its job has among those that wait."""
        return Slot(self._limiter, queue)

    def _apply(self) -> None:
        self._limiter.total_tokens = 0 if self.is_closed else self._number


class Slot:
    """One of the shared slots, while it is taken. Taking it or giving it back twice is harmless."""

    def __init__(self, limiter: anyio.CapacityLimiter, queue: asyncio.Lock) -> None:
        self._limiter = limiter
        self._queue = queue
        self._is_taken = False

    async def take(self) -> None:
        """Wait for the slot's turn."""
        if not self._is_taken:
            async with self._queue:
                await self._limiter.acquire_on_behalf_of(self)
            self._is_taken = True

    def give_back(self, _: object = None) -> None:
        """Let another video have the slot. Takes an argument, so that it can be the callback of a task."""
        if self._is_taken:
            self._is_taken = False
            self._limiter.release_on_behalf_of(self)
