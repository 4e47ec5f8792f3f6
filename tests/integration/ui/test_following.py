"""What an open page follows: each job's states in order, whatever comes at once, while somebody has it open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from backend.domain.job import Job
from backend.errors import DashboardError, Invalid, JobNotFound, StoreRefused
from backend.store import JobStore
from tests.support.clock import QuickClock
from tests.support.managed_backend import ANA, Managed, open_managed
from ui.following import patiently, states, while_connected


@dataclass
class Tab:
    """A page whose sockets a test opens and closes."""

    sockets: int = 0
    coming: list[Callable[[], None]] = field(default_factory=list)
    leaving: list[Callable[[], None]] = field(default_factory=list)

    @property
    def has_socket_connection(self) -> bool:
        return self.sockets > 0

    def on_connect(self, handler: Callable[[], None]) -> None:
        self.coming.append(handler)

    def on_disconnect(self, handler: Callable[[], None]) -> None:
        self.leaving.append(handler)

    def come(self) -> None:
        self.sockets += 1
        for handler in self.coming:
            handler()

    def leave(self) -> None:
        self.sockets -= 1
        for handler in self.leaving:
            handler()


def start(work: Coroutine[Any, Any, None], **_: object) -> asyncio.Task[None]:
    return asyncio.create_task(work)


@dataclass
class Work:
    """What is done beside a page, until a test lets it end."""

    begun: int = 0
    going_on: int = 0
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> None:
        self.begun += 1
        self.going_on += 1
        try:
            await self.may_end.wait()
        finally:
            self.going_on -= 1


@pytest.fixture
def tab() -> Tab:
    return Tab()


@pytest.fixture
def work(tab: Tab) -> Work:
    work = Work()
    while_connected(tab, work, name="work", start=start)
    return work


async def settled(work: Work) -> tuple[int, int]:
    """How often it has begun and how often it goes on, once everything that could happen has happened."""
    await QuickClock().advance(0)
    return work.begun, work.going_on


async def test_nothing_is_done_for_a_page_before_it_is_there_and_after_it_has_left(tab: Tab, work: Work) -> None:
    assert await settled(work) == (0, 0)
    tab.come()
    assert await settled(work) == (1, 1)
    tab.leave()
    assert await settled(work) == (1, 0)


async def test_for_a_page_that_is_back_it_begins_anew(tab: Tab, work: Work) -> None:
    for times in (1, 2, 3):
        tab.come()
        assert await settled(work) == (times, 1)
        tab.leave()
        assert await settled(work) == (times, 0)


async def test_a_page_that_is_back_before_its_old_socket_is_given_up_has_its_work_go_on(tab: Tab, work: Work) -> None:
    tab.come()
    tab.come()
    tab.leave()
    assert await settled(work) == (1, 1)


async def test_a_page_that_leaves_and_is_back_at_once_has_its_work_done_once(tab: Tab, work: Work) -> None:
    tab.come()
    await settled(work)
    tab.leave()
    tab.come()
    assert await settled(work) == (2, 1)


async def test_what_has_ended_does_not_begin_anew(tab: Tab, work: Work) -> None:
    work.may_end.set()
    tab.come()
    await settled(work)
    tab.leave()
    tab.come()
    assert await settled(work) == (1, 0)


async def test_for_a_page_that_is_there_already_it_begins_at_once() -> None:
    work = Work()
    while_connected(Tab(sockets=1), work, name="work", start=start)
    assert await settled(work) == (1, 1)


@asynccontextmanager
async def claimed(store: JobStore, directory: Path) -> AsyncIterator[tuple[Managed, Job]]:
    async with open_managed(store, directory) as managed:
        job = await managed.claim(await managed.submit("one"))
        await managed.hub.durable()
        yield managed, job


def following(managed: Managed, job: Job) -> AsyncIterator[Job]:
    return states(managed.manager, job.id, by=ANA, clock=managed.clock, every_seconds=1)


async def test_a_job_that_ended_and_left_between_two_looks_has_left_at_last(store: JobStore, tmp_path: Path) -> None:
    async with claimed(store, tmp_path) as (managed, job):
        followed = following(managed, job)
        await anext(followed)
        managed.manager.fail(job.id, job.epoch, "The job broke.")
        managed.manager.remove_from_dashboard(lambda *_: True)
        await managed.hub.durable()
        seen = [await anext(followed), await anext(followed)]
    assert [state.is_finished for state in seen] == [True, True]
    assert [state.on_dashboard for state in seen] == [True, False]


async def test_of_a_job_that_has_left_before_its_newest_state_is_there_at_once(store: JobStore, tmp_path: Path) -> None:
    async with claimed(store, tmp_path) as (managed, job):
        managed.manager.fail(job.id, job.epoch, "The job broke.")
        managed.manager.remove_from_dashboard(lambda *_: True)
        await managed.hub.durable()
        newest = await anext(following(managed, job))
    assert (newest.is_finished, newest.on_dashboard) == (True, False)


async def test_a_job_that_was_deleted_before_is_not_found(store: JobStore, tmp_path: Path) -> None:
    async with claimed(store, tmp_path) as (managed, job):
        managed.manager.fail(job.id, job.epoch, "The job broke.")
        await managed.hub.durable()
        await managed.manager.delete(job.id, by=ANA)
        with pytest.raises(JobNotFound):
            await anext(following(managed, job))


async def read(*refusals: DashboardError) -> str | None:
    """What comes of a reading that is refused so often first."""
    left = [*refusals]

    async def reading() -> str:
        if left:
            raise left.pop()
        return "read"

    return await patiently(reading, clock=QuickClock(), every_seconds=1)


async def test_what_cannot_be_read_now_is_read_later_and_the_log_hears_of_it_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert await read(StoreRefused(), StoreRefused(), StoreRefused()) == "read"
    assert [record.getMessage() for record in caplog.records] == [f"a page stays behind: {StoreRefused().sentence}"]


async def test_what_is_asked_for_in_a_wrong_way_is_asked_for_once() -> None:
    assert await read(Invalid()) is None


async def test_a_job_that_is_gone_is_not_waited_for() -> None:
    with pytest.raises(JobNotFound):
        await read(JobNotFound())
