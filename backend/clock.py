"""Time as a value that is passed in, loops by the clock, and moments as numbers and texts."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from backend.errors import StoreRefused
from progress_dashboard.clock import Clock as Clock
from progress_dashboard.clock import SystemClock as SystemClock

log = logging.getLogger(__name__)
MILLIS = tuple(f".{millis:03}Z" for millis in range(1000))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # floats of seconds would lose a millisecond now and then


async def repeat(run_once: Callable[[], Awaitable[object]], *, every: float, clock: Clock, what: str) -> None:
    """Call `run_once` now and `every` so many seconds after it returned, until cancelled.

    Logs what the store refuses, and tries again.
    """
    while True:
        try:
            await run_once()
        except StoreRefused as error:
            action = f"{what.replace(' ', '_')}_failed"
            log.warning("%s is tried again later: %s", what, error.sentence, extra={"action": action})
        await clock.sleep(every)


def to_millis(moment: datetime) -> int:
    """Return the milliseconds since 1970, rounded down."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def from_millis(millis: int) -> datetime:
    """Return the moment of `to_millis`."""
    return EPOCH + timedelta(milliseconds=millis)


def iso(moment: datetime) -> str:
    """Return the moment as ISO 8601 in UTC with milliseconds and `Z`.

    >>> iso(datetime(2026, 1, 31, 12, tzinfo=UTC))
    '2026-01-31T12:00:00.000Z'
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_of_millis(millis: int) -> str:
    """Return the moment of `to_millis` as `iso` writes it, for very many moments.

    >>> iso_of_millis(to_millis(datetime(2026, 1, 31, 12, 5, 7, 89_000, tzinfo=UTC)))
    '2026-01-31T12:05:07.089Z'
    """
    return _second(millis // 1000) + MILLIS[millis % 1000]


@lru_cache(maxsize=10_000)
def _second(seconds: int) -> str:
    return iso(from_millis(seconds * 1000))[:-5]
