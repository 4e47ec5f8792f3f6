"""The limit on sockets that were refused."""

from __future__ import annotations

from dataclasses import dataclass

from backend.clock import Clock
from backend.domain.networks import network_of

WINDOW_SECONDS = 60.0
MAX_REMEMBERED_ADDRESSES = 10_000


@dataclass(frozen=True, slots=True)
class RefusalWindow:
    """The refusals of one address since the first of them (`Clock.monotonic`)."""

    since: float
    count: int


class RefusalLimiter:
    """Blocks an address after `limit` refused sockets until a minute after the first of them.

    IPv6 addresses count by /64. Remembers the newest 10,000.
    """

    def __init__(self, limit: int, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._windows: dict[str, RefusalWindow] = {}

    def count(self, address: str) -> None:
        """Count a refused socket."""
        key = _key(address)
        window = self._window(key) or RefusalWindow(self._clock.monotonic(), 0)
        self._windows.pop(key, None)
        self._windows[key] = RefusalWindow(window.since, window.count + 1)
        if len(self._windows) > MAX_REMEMBERED_ADDRESSES:
            del self._windows[next(iter(self._windows))]

    def is_blocked(self, address: str) -> bool:
        """Return True if a socket from there is not even looked at."""
        window = self._window(_key(address))
        return window is not None and window.count >= self._limit

    def _window(self, key: str) -> RefusalWindow | None:
        window = self._windows.get(key)
        if window is None or self._clock.monotonic() - window.since >= WINDOW_SECONDS:
            return None
        return window


def _key(address: str) -> str:
    return network_of(address, ipv4_bits=32)
