"""Stores what has become of messages, many in one transaction: ticks share the writer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from backend.clock import Clock
from backend.errors import StoreRefused
from backend.store.deliveries import Result

T = TypeVar("T")
GATHERING_SECONDS = 0.2
RETRY_SECONDS = 1.0


async def patiently(work: Callable[[], Awaitable[T]], clock: Clock) -> T:
    """Return what the work gives, trying again while the database refuses it."""
    while True:
        try:
            return await work()
        except StoreRefused:
            await clock.sleep(RETRY_SECONDS)


class Recorder:
    """Gathers results for a moment and stores them together."""

    def __init__(self, store: Callable[[Sequence[Result]], Awaitable[None]], clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._gathered: list[tuple[Result, asyncio.Future[None]]] = []
        self._news = asyncio.Event()

    async def record(self, result: Result) -> None:
        """Return when the result is stored."""
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gathered.append((result, stored))
        self._news.set()
        await stored

    async def run(self) -> None:
        """Store what comes, until cancelled."""
        while True:
            await self._news.wait()
            await self._clock.sleep(GATHERING_SECONDS)
            await self.run_once()

    async def run_once(self) -> None:
        """Store what has been gathered."""
        self._news.clear()
        gathered, self._gathered = self._gathered, []
        results = [result for result, _ in gathered]
        await patiently(lambda: self._store(results), self._clock)
        for _, stored in gathered:
            if not stored.done():  # its message was given up
                stored.set_result(None)

    async def close(self) -> None:
        """Store what nobody waits for any more. Raises `StoreRefused`."""
        if self._gathered:
            await self._store([result for result, _ in self._gathered])
