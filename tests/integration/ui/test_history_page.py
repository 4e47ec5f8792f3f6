"""The page of History: its rows and the live changes after them leave no gap."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from backend.delivery.batches import View
from backend.domain.job import Job
from backend.store import Store
from tests.support.managed_backend import ANA, TIMEOUT_SECONDS, Managed, open_managed
from ui.pages.history import follow_jobs


class SlowHistory:
    """Rows of History, read just before another job is created."""

    def __init__(self, managed: Managed) -> None:
        self._managed = managed
        self.rows: list[Job] = []
        self.views: asyncio.Queue[View] = asyncio.Queue()

    async def renew(self) -> None:
        self.rows = (await self._managed.queries.jobs(by=ANA)).items
        await self._managed.submit("two", name="second")
        await self._managed.journal.durable()

    async def update(self, view: View) -> None:
        self.views.put_nowait(view)


async def test_the_live_changes_begin_at_the_position_before_the_rows(store: Store, tmp_path: Path) -> None:
    async with open_managed(store, tmp_path) as managed:
        await managed.submit("one", name="first")
        await managed.journal.durable()
        history: Any = SlowHistory(managed)
        following = asyncio.create_task(follow_jobs(managed.queries, history, viewer=lambda: ANA, clock=managed.clock))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            view = await history.views.get()
        following.cancel()
    assert [job.name for job in history.rows] == ["first"]
    assert (view.snapshot, [job.name for job in view.updates]) == (False, ["second"])
