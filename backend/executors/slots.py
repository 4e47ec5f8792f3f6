"""The slots that running videos share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from math import inf

import anyio

from backend.domain.auth import User
from backend.errors import Invalid, NotAllowed
from backend.settings import MAX_SLOTS

log = logging.getLogger(__name__)
AHEAD = 8  # of so many slots of other machines, one more run is handed over, so that none waits for the next one


class Slots:
    """The shared limit of videos that run at once: a number, and what the machines can take (`fit`).

    Without a number it is what the machines can take. While they are closed, no video begins.
    """

    def __init__(self, number: int | None) -> None:
        self._cap = number
        self._capacity: int | None = None
        self._by_processor: Mapping[str, int] | None = None
        self._all = anyio.CapacityLimiter(number or 0)
        self._of_processor: dict[str, anyio.CapacityLimiter] = {}
        self.is_closed = False

    @property
    def number(self) -> int:
        """How many videos may run at once."""
        return self._capacity or 0 if self._cap is None else self._cap

    @property
    def asked(self) -> int | None:
        """The number that was given or asked for; None: as many as the machines can take."""
        return self._cap

    @property
    def taken(self) -> int:
        """How many videos have a slot."""
        return self._all.borrowed_tokens

    def change(self, number: int, *, by: User) -> None:
        """Change the limit until the next start, when the setting counts again. Running videos are not stopped."""
        if not by.is_admin:
            raise NotAllowed("Only an administrator can change the slots.")
        if not 1 <= number <= MAX_SLOTS:
            raise Invalid(f"slots must be from 1 to {MAX_SLOTS:,}.")
        self.set(number)
        log.info("slots changed", extra={"action": "slots_changed", "slots": number, "user": by.name})

    def set(self, number: int) -> None:
        """Let at most so many videos run at once."""
        self._cap = number
        self._apply()

    def close(self, *, is_closed: bool = True) -> None:
        """Let no further video begin, or open the slots again. Running videos are not stopped."""
        self.is_closed = is_closed
        self._apply()

    def fit(self, capacity: int, by_processor: Mapping[str, int]) -> None:
        """Follow what the machines can take: in all, and with each processor. Running videos are not stopped."""
        self._capacity, self._by_processor = capacity, by_processor
        self._apply()

    def slot(self, queue: asyncio.Lock, processor: str) -> Slot:
        """Return a slot for one video; `queue` is the one place that its job has among those that wait."""
        return Slot(self._limiters(processor), queue)

    def _limiters(self, processor: str) -> tuple[anyio.CapacityLimiter, ...]:
        if self._by_processor is None:
            return (self._all,)
        if processor not in self._of_processor:
            self._of_processor[processor] = anyio.CapacityLimiter(_with_ahead(self._by_processor.get(processor, 0)))
        return (self._of_processor[processor], self._all)

    def _apply(self) -> None:
        limit = 0 if self.is_closed else inf if self._cap is None else self._cap
        self._all.total_tokens = limit if self._capacity is None else min(limit, _with_ahead(self._capacity))
        for processor, limiter in self._of_processor.items():
            limiter.total_tokens = _with_ahead((self._by_processor or {}).get(processor, 0))


class Slot:
    """One of the shared slots, while it is taken. Taking it or giving it back twice is harmless."""

    def __init__(self, limiters: tuple[anyio.CapacityLimiter, ...], queue: asyncio.Lock) -> None:
        self._limiters = limiters
        self._queue = queue
        self._taken: list[anyio.CapacityLimiter] = []

    async def take(self) -> None:
        """Wait for the slot's turn: among the videos with its processor, then among all."""
        if self._taken:
            return
        async with self._queue:
            try:
                for limiter in self._limiters:
                    await limiter.acquire_on_behalf_of(self)
                    self._taken.append(limiter)
            except BaseException:
                self.give_back()
                raise

    def take_if_free(self) -> None:
        """Take the slot unless others wait for one: for a run that goes on already."""
        try:
            for limiter in self._limiters:
                limiter.acquire_on_behalf_of_nowait(self)
                self._taken.append(limiter)
        except anyio.WouldBlock:
            self.give_back()

    def give_back(self, _: object = None) -> None:
        """Let another video have the slot. Takes an argument, so that it can be the callback of a task."""
        while self._taken:
            self._taken.pop().release_on_behalf_of(self)


def _with_ahead(slots: int) -> int:
    return slots + slots // AHEAD
