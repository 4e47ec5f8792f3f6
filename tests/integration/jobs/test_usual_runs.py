"""Runs that take longer or less than their list usually does: said once, as soon as it is known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from backend.app import running
from backend.domain.job import Action, Job
from backend.domain.notification import EventKind, NotificationSettings
from backend.domain.usual import MIN_RUNS
from backend.jobs.leases import Lease
from backend.jobs.usual_runs import UsualRuns
from backend.store.database import Database
from tests.support.job_states import CUT
from tests.support.managed_backend import ANA, BEN, TIMEOUT_SECONDS, Managed
from tests.support.telling import Telling, stored_events

NIGHTLY, USUAL_SECONDS = "nightly.csv", 3000.0
POLL_SECONDS = 0.01
SLOWER, FASTER, COMPLETED = EventKind.SLOWER, EventKind.FASTER, EventKind.COMPLETED


@pytest.fixture
async def telling(managed: Managed) -> Telling:
    """Return the parts after five runs of a list in 50 minutes or a little more, of which ana is told everything."""
    told = Telling(managed)
    await told.notifications.change_settings(NotificationSettings(events=frozenset(EventKind)), by=ANA)
    for number in range(MIN_RUNS):
        await told.ran(NIGHTLY, USUAL_SECONDS + 60 * number)
    return told


@asynccontextmanager
async def watching(managed: Managed) -> AsyncIterator[UsualRuns]:
    """Yield the watch over runs, at work during the block."""
    runs = UsualRuns(
        lambda: managed.hub.reader(None),
        managed.store.composing,
        managed.clock,
        on_event=managed.journal.stage_event,
    )
    runs.remember(await managed.store.notifications.verdicts())
    async with running(runs.run(), "usual runs"):
        yield runs


async def until(holds: Callable[[], bool]) -> None:
    """Return when it holds; the watch notifies nobody."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            if holds():
                return
            await asyncio.sleep(POLL_SECONDS)


async def begun(telling: Telling, runs: UsualRuns, name: str = NIGHTLY) -> tuple[Lease, Job]:
    """Return a job that has begun, once it is known how long it usually takes."""
    managed = telling.managed
    job = await managed.new_job(name, 2)
    lease = await managed.claim(job)
    await until(lambda: runs.usual(job) is not None)
    return lease, job


def verdicts(database: Database) -> list[tuple[str | None, str]]:
    return [(job_id, event) for job_id, event, _ in stored_events(database) if event in (SLOWER, FASTER)]


async def test_a_run_in_15_instead_of_50_minutes_is_told_with_its_end(telling: Telling, database: Database) -> None:
    job = await telling.ran(NIGHTLY, 900)
    told = {one.event: one for one in await telling.bell() if one.job_id == job.id}
    faster, completed = told[FASTER], told[COMPLETED]
    assert faster.title == "nightly.csv: faster than usual: 15 min"
    assert completed.title == "nightly.csv: all 2 videos done, faster than usual"
    assert "Took 15 min (usually 50 min to 54 min)" in (completed.text or "")
    assert verdicts(database) == [(job.id, FASTER)]


async def test_a_job_is_said_to_be_slower_while_it_runs_and_once(telling: Telling, database: Database) -> None:
    async with watching(telling.managed) as runs:
        lease, job = await begun(telling, runs)
        assert runs.of(job) is None
        await telling.managed.clock.advance(USUAL_SECONDS * 1.5)
        await until(lambda: runs.of(job) is SLOWER)
        told = (await telling.bell())[0]
        assert (told.job_id, told.event, told.title) == (job.id, SLOWER, "nightly.csv: slower than usual: 1 h 15 min")
        await telling.managed.clock.advance(USUAL_SECONDS)
        ended = await telling.managed.run_under(lease, [None, None])
        await telling.compose()
        assert runs.of(ended) is SLOWER
    assert verdicts(database) == [(job.id, SLOWER)]


async def test_the_verdict_of_an_ended_job_is_known_with_its_end(telling: Telling) -> None:
    async with watching(telling.managed) as runs:
        lease, _ = await begun(telling, runs)
        await telling.managed.clock.advance(600)
        ended = await telling.managed.run_under(lease, [None, None])
        assert runs.of(ended) is FASTER  # without anything being composed
        usual = runs.usual(ended)
        assert usual is not None
        assert (usual.low, usual.high, usual.runs) == (USUAL_SECONDS, USUAL_SECONDS + 240, MIN_RUNS)


async def test_pauses_do_not_make_a_run_slow(telling: Telling, database: Database) -> None:
    managed = telling.managed
    async with watching(managed) as runs:
        lease, job = await begun(telling, runs)
        await managed.clock.advance(1000)
        await managed.manager.act(job.id, Action.PAUSE, by=ANA)
        await managed.leases.release(lease)
        await managed.clock.advance(100_000)
        await managed.manager.act(job.id, Action.RESUME, by=ANA)
        lease = await managed.claim(job)
        await managed.clock.advance(2000)
        ended = await managed.run_under(lease, [None, None])
        assert runs.of(ended) is None
    await telling.compose()
    assert verdicts(database) == []
    assert "Took 50 min (usually 50 min to 54 min), and was paused for 1 d 3 h" in (
        (await telling.bell())[0].text or ""
    )


async def test_a_restarted_server_says_it_no_second_time(telling: Telling, database: Database) -> None:
    managed = telling.managed
    async with watching(managed) as runs:
        lease, job = await begun(telling, runs)
        await managed.clock.advance(USUAL_SECONDS * 1.5)
        await until(lambda: runs.of(job) is SLOWER)
        await managed.journal.durable()
    async with watching(managed) as again:
        assert again.of(job) is SLOWER
        assert again.of(await managed.run_under(lease, [None, None])) is SLOWER
    await telling.compose()
    assert verdicts(database) == [(job.id, SLOWER)]


async def test_a_retry_is_a_run_of_its_own_kind(telling: Telling, database: Database) -> None:
    managed = telling.managed
    async with watching(managed) as runs:
        job = await telling.ran(NIGHTLY, USUAL_SECONDS, [None, CUT])
        await managed.manager.act(job.id, Action.RETRY, by=ANA)
        ended = await managed.run(job, [None])
        assert runs.of(ended) is None
    await telling.compose()
    assert verdicts(database) == []


async def test_only_runs_of_the_same_list_count(telling: Telling, database: Database) -> None:
    """Another owner, another name, and a list ten times as long have no usual time yet."""
    await telling.ran(NIGHTLY, 10, by=BEN)
    await telling.ran("other.csv", 10)
    await telling.ran(NIGHTLY, 10, [None] * 20)
    await telling.compose()
    assert verdicts(database) == []


async def test_four_earlier_runs_are_too_few(managed: Managed, database: Database) -> None:
    telling = Telling(managed)
    for seconds in (3000, 3000, 3000, 3000, 60):
        await telling.ran(NIGHTLY, seconds)
    await telling.compose()
    assert verdicts(database) == []
