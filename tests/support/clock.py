"""Clocks that a test moves. All but the `JumpingClock` stand still otherwise."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

from backend.clock import SystemClock

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LOOP_TURNS = 20  # in which a woken task runs and sleeps again


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
        """Move by `seconds` and wake the sleepers in the order of their times; each runs before the next one wakes.

        Does not wait for work that a sleeper has given to a thread.
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
    for _ in range(LOOP_TURNS):
        await asyncio.sleep(0)


class QuickClock(VirtualClock):
    """A `VirtualClock` whose sleeps end at once: what repeats continues while the time stands still."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class JumpingClock(SystemClock):
    """The time of the machine, with a wall clock that the test sets `ahead`."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead
