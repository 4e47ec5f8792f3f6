"""Tells when what fails has changed, so that open pages read it again: nobody asks in intervals."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable

from backend.clock import Clock
from backend.domain.auth import User
from backend.errors import StoreRefused
from backend.store.changes import Tick

log = logging.getLogger(__name__)
LEAD_SECONDS, REST_SECONDS = 0.1, 0.8
RETRY_SECONDS = 1.0
EVERYBODY = None


class ProblemNews:
    """Numbers the changes of what each user sees. `take` gets each stored tick; `count` counts what ticks noted."""

    def __init__(self, count: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._count = count
        self._clock = clock
        self._versions: dict[str | None, int] = defaultdict(int)
        self._of_all = 0
        self._owners: set[str | None] = set()
        self._work, self._changed = asyncio.Event(), asyncio.Event()
        self._waiting = 0

    def take(self, tick: Tick) -> None:
        """Look whether the tick may change what fails, or which jobs can be retried."""
        has_results = any(change.has_result for change in tick.videos)
        if not (has_results or tick.milestones or any(gone.is_deleted for gone in tick.removed)):
            return
        self._owners.update(job.owner_id for job in tick.jobs)
        self._owners.update(gone.owner_id for gone in tick.removed)
        self._work.set()

    def version(self, by: User) -> int:
        """Return the number of the newest change of what this user sees."""
        return self._versions[by.sees_jobs_of] + self._of_all

    async def changed(self, *, by: User, after: int) -> int:
        """Return the number of the newest change that is not `after`, once there is one."""
        self._waiting += 1
        try:
            while (version := self.version(by)) == after:
                await self._changed.wait()
        finally:
            self._waiting -= 1
        return version

    def tell_all(self) -> None:
        """Let everybody read again: a user has said something about a cause."""
        self._of_all += 1
        self._wake()

    async def run(self) -> None:
        """Tell what ticks have changed, at most once a second, until cancelled."""
        while True:
            await self._work.wait()
            await self._clock.sleep(LEAD_SECONDS)  # what comes at once is read at once
            self._work.clear()
            await self._tell()
            await self._clock.sleep(REST_SECONDS)

    async def _tell(self) -> None:
        owners, self._owners = self._owners, set()
        try:
            if self._waiting:  # else the statistics count soon enough
                await self._count()
        except StoreRefused as error:
            log.warning("failures cannot be counted now: %s", error.sentence, extra={"action": "problems_behind"})
            self._owners |= owners
            self._work.set()
            await self._clock.sleep(RETRY_SECONDS)
            return
        for owner_id in (*owners, EVERYBODY):
            self._versions[owner_id] += 1
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
