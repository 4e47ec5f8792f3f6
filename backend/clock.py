"""Time as a value that is passed in, so that a test can move it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from backend.errors import StoreRefused

log = logging.getLogger(__name__)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # floats of seconds would lose a millisecond now and then


class Clock(Protocol):
    """What the program may ask of time."""

    def now(self) -> datetime:
        """The wall clock: an aware datetime in UTC. It may jump; order nothing by it."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock."""


class SystemClock:
    """The machine's own time, in whole milliseconds: what is kept in the store is what was decided on."""

    def now(self) -> datetime:
        return from_millis(time.time_ns() // 1_000_000)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def repeat(run_once: Callable[[], Awaitable[object]], *, every: float, clock: Clock, what: str) -> None:
    """Do it now and `every` so many seconds after it was done, until cancelled; what the store refuses is logged."""
    while True:
        try:
            await run_once()
        except StoreRefused:
            action = f"{what.replace(' ', '_')}_failed"
            log.exception("%s failed; it is tried again", what, extra={"action": action})
        await clock.sleep(every)


def to_millis(moment: datetime) -> int:
    """Milliseconds since 1970, rounded down."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def from_millis(millis: int) -> datetime:
    """The inverse of `to_millis`."""
    return EPOCH + timedelta(milliseconds=millis)


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and `Z`.

    >>> iso(datetime(2026, 1, 31, 12, tzinfo=UTC))
    '2026-01-31T12:00:00.000Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
