"""The authorities of the last requests, in memory: most requests come from a few tokens and sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from backend.clock import Clock
from backend.domain.auth import Authority

CONFIRM_SECONDS = 1.0  # what a command of another process changes counts within 2 s
FORGET_SECONDS = 60.0
MAX_AUTHORITIES = 10_000
Read = Callable[[], Awaitable[tuple[Authority, datetime] | None]]
"""Reads an authority, and when it has to be read again even if it is still good; None if there is none."""


@dataclass(slots=True)
class Recent:
    """An authority, good at `confirmed_at` and used at `used_at` (both monotonic), to be read again at `until`."""

    authority: Authority
    until: datetime
    confirmed_at: float
    used_at: float


class RecentAuthorities:
    """Authorities by a hash of what the caller showed.

    Once a second one read confirms all that are in use: `still_valid` returns the keys (`Authority.key`) of those that
    are still good. What this process changes itself counts at once, because it calls `forget`.
    """

    def __init__(self, still_valid: Callable[[Collection[Authority]], Awaitable[set[str]]], clock: Clock) -> None:
        self._still_valid = still_valid
        self._clock = clock
        self._recent: dict[str, Recent] = {}
        self._confirming = asyncio.Lock()
        self._forgotten = 0

    async def get(self, shown: str, read: Read) -> Authority | None:
        """Return the authority, from memory if it is known there."""
        return await self._known(shown) or await self._read(shown, read)

    def forget(self) -> None:
        """Read all authorities again. Reads that have already begun are not remembered."""
        self._forgotten += 1
        self._recent.clear()

    async def _known(self, shown: str) -> Authority | None:
        recent, now = self._recent.get(shown), self._clock.monotonic()
        if recent is None:
            return None
        if self._clock.now() >= recent.until:
            del self._recent[shown]
            return None
        if now - recent.confirmed_at >= CONFIRM_SECONDS:
            await self._confirm_since(recent, now)
            if self._recent.get(shown) is not recent:
                return None
        recent.used_at = now
        return recent.authority

    async def _read(self, shown: str, read: Read) -> Authority | None:
        forgotten, now = self._forgotten, self._clock.monotonic()
        found = await read()
        if found is None:
            return None
        authority, until = found
        if forgotten == self._forgotten and len(self._recent) < MAX_AUTHORITIES:
            self._recent[shown] = Recent(authority, until, now, now)
        return authority

    async def _confirm_since(self, recent: Recent, now: float) -> None:
        """Confirm all, unless another caller has done it meanwhile."""
        async with self._confirming:
            if now - recent.confirmed_at >= CONFIRM_SECONDS:
                await self._confirm()

    async def _confirm(self) -> None:
        began, asked = self._clock.monotonic(), dict(self._recent)
        valid = await self._still_valid([recent.authority for recent in asked.values()])
        for shown, recent in asked.items():
            if recent.authority.key in valid and began - recent.used_at < FORGET_SECONDS:
                recent.confirmed_at = began
            elif self._recent.get(shown) is recent:
                del self._recent[shown]
