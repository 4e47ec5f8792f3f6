"""The work beside an open page: when it runs, and what happens while the store is unavailable."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from backend.errors import DashboardError, Invalid, JobNotFound, StoreRefused
from tests.support.clock import QuickClock
from ui.following import patiently, while_connected


@dataclass
class Tab:
    """A page whose sockets a test opens and closes."""

    sockets: int = 0
    connecting: list[Callable[[], None]] = field(default_factory=list)
    disconnecting: list[Callable[[], None]] = field(default_factory=list)

    @property
    def has_socket_connection(self) -> bool:
        return self.sockets > 0

    def on_connect(self, handler: Callable[[], None]) -> None:
        self.connecting.append(handler)

    def on_disconnect(self, handler: Callable[[], None]) -> None:
        self.disconnecting.append(handler)

    def connect(self) -> None:
        self.sockets += 1
        for handler in self.connecting:
            handler()

    def disconnect(self) -> None:
        self.sockets -= 1
        for handler in self.disconnecting:
            handler()


def start(work: Coroutine[Any, Any, None], **_: object) -> asyncio.Task[None]:
    return asyncio.create_task(work)


@dataclass
class Work:
    """Work beside a page, until a test lets it end."""

    starts: int = 0
    running: int = 0
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> None:
        self.starts += 1
        self.running += 1
        try:
            await self.may_end.wait()
        finally:
            self.running -= 1


@pytest.fixture
def tab() -> Tab:
    return Tab()


@pytest.fixture
def work(tab: Tab) -> Work:
    work = Work()
    while_connected(tab, work, name="work", start=start)
    return work


async def settled(work: Work) -> tuple[int, int]:
    """Return how often the work has started and how often it runs, after everything that can happen now."""
    await QuickClock().advance(0)
    return work.starts, work.running


async def test_work_runs_only_while_the_page_is_connected(tab: Tab, work: Work) -> None:
    assert await settled(work) == (0, 0)
    tab.connect()
    assert await settled(work) == (1, 1)
    tab.disconnect()
    assert await settled(work) == (1, 0)


async def test_work_starts_again_for_a_page_that_is_back(tab: Tab, work: Work) -> None:
    for times in (1, 2, 3):
        tab.connect()
        assert await settled(work) == (times, 1)
        tab.disconnect()
        assert await settled(work) == (times, 0)


async def test_work_continues_if_the_page_is_back_before_it_left(tab: Tab, work: Work) -> None:
    """A page may be back before its old socket is closed."""
    tab.connect()
    tab.connect()
    tab.disconnect()
    assert await settled(work) == (1, 1)


async def test_work_runs_once_for_a_page_that_is_back_at_once(tab: Tab, work: Work) -> None:
    tab.connect()
    await settled(work)
    tab.disconnect()
    tab.connect()
    assert await settled(work) == (2, 1)


async def test_ended_work_does_not_start_again(tab: Tab, work: Work) -> None:
    work.may_end.set()
    tab.connect()
    await settled(work)
    tab.disconnect()
    tab.connect()
    assert await settled(work) == (1, 0)


async def test_work_starts_at_once_for_a_connected_page() -> None:
    work = Work()
    while_connected(Tab(sockets=1), work, name="work", start=start)
    assert await settled(work) == (1, 1)


async def read(*refusals: DashboardError) -> str | None:
    """Return the result of a reading that is first refused with each of these errors."""
    left = [*refusals]

    async def reading() -> str:
        if left:
            raise left.pop()
        return "read"

    return await patiently(reading, clock=QuickClock(), every_seconds=1)


async def test_an_unavailable_store_is_read_again_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert await read(StoreRefused(), StoreRefused(), StoreRefused()) == "read"
    assert [record.getMessage() for record in caplog.records] == [
        f"a page cannot be updated: {StoreRefused().sentence}"
    ]


async def test_a_refused_request_is_not_repeated() -> None:
    assert await read(Invalid()) is None


async def test_a_deleted_job_is_not_waited_for() -> None:
    with pytest.raises(JobNotFound):
        await read(JobNotFound())
