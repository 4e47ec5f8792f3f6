"""Time that a test moves: by itself it stands still, but for the `JumpingClock`."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

from backend.clock import SystemClock

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
TURNS = 20  # of the event loop, for what was woken to run and to sleep again


class VirtualClock:
    """A `Clock` that starts at noon of 31 January 2026 and moves only by `advance`."""

    def __init__(self, start: datetime = NOON) -> None:
        self._start = start
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move by `seconds`, waking the sleepers in the order of their times; each runs before the next one wakes.

        Work that a sleeper has given to a thread is not waited for.
        """
        end = self._elapsed + seconds
        await _let_others_run()
        while self._sleepers and self._sleepers[0][0] <= end:
            self._elapsed, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():  # its task was cancelled
                woken.set_result(None)
            await _let_others_run()
        self._elapsed = end
        await _let_others_run()


async def _let_others_run() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


class QuickClock(VirtualClock):
    """The same, but every sleep is over at once: what repeats goes on while its time stands still."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class JumpingClock(SystemClock):
    """The machine's time, with a wall clock that somebody sets."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead
