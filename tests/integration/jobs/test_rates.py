"""The videos of the last thirty minutes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from backend.app import running
from backend.domain.auth import User
from backend.domain.job import Action
from backend.jobs.leases import VideoFinished
from backend.jobs.rates import MINUTES, Rates, per_minute
from tests.support.managed_backend import ADMIN, ANA, BEN, Managed


@asynccontextmanager
async def counting(managed: Managed) -> AsyncIterator[Rates]:
    """Yield rates that count during the block."""
    rates = Rates(lambda: managed.queries.watch(by=ADMIN), managed.store.forecasts, managed.clock)
    async with running(rates.run(), "rates"):
        await asyncio.sleep(0.01)
        yield rates


async def finish(managed: Managed, videos: int, *, every: float, name: str = "job", by: User = ANA) -> None:
    """Finish the videos of a new job, one every so many seconds."""
    job = await managed.submit(*(f"{name}-{number}" for number in range(videos)), name=name, by=by)
    lease = await managed.claim(job)
    for _ in range(videos):
        video = await anext(managed.leases.pending_videos(lease))
        began = managed.clock.now()
        await managed.clock.advance(every)
        await managed.report(lease, VideoFinished(video, began, every, result={}))
        await asyncio.sleep(0)


async def test_each_minute_has_its_videos(managed: Managed) -> None:
    async with counting(managed) as rates:
        await finish(managed, 12, every=20)
        await managed.clock.advance(60)
        counted = rates.of(None)
        assert len(counted) == MINUTES
        assert sum(counted) == 12
        assert max(counted) == 3
        await managed.clock.advance(60 * MINUTES)
        assert rates.of(None) == [0] * MINUTES


async def test_everybody_sees_their_own_videos_and_an_administrator_all(managed: Managed) -> None:
    async with counting(managed) as rates:
        await finish(managed, 3, every=20)
        await finish(managed, 5, every=20, name="other", by=BEN)
        await managed.clock.advance(60)
        assert [sum(rates.of(owner)) for owner in (ANA.id, BEN.id, None, "nobody")] == [3, 5, 8, 0]


async def test_a_restart_finds_them_again(managed: Managed) -> None:
    await finish(managed, 12, every=20)
    async with counting(managed) as rates:
        await finish(managed, 3, every=20, name="later")
        await managed.clock.advance(60)
        assert sum(rates.of(None)) == 15


async def test_a_restart_finds_those_of_jobs_that_left_the_dashboard(managed: Managed) -> None:
    await finish(managed, 12, every=20)
    (job,) = (await managed.queries.jobs(by=ANA)).items
    await managed.manager.act(job.id, Action.DISMISS, by=ANA)
    await managed.journal.durable()
    await managed.clock.advance(60)
    async with counting(managed) as rates, asyncio.timeout(10):
        while not sum(rates.of(ANA.id)):
            await managed.journal.durable()
            await asyncio.sleep(0.001)
        assert (sum(rates.of(ANA.id)), sum(rates.of(BEN.id))) == (12, 0)


async def test_a_retry_counts_what_it_does_again(managed: Managed) -> None:
    async with counting(managed) as rates:
        job = await managed.submit("one", "two")
        await managed.run(job, ["torn", None])
        await managed.manager.act(job.id, Action.RETRY, by=ANA)
        await managed.run(job, [None])
        await managed.clock.advance(60)
        assert sum(rates.of(None)) == 3


def test_the_mean_begins_with_the_first_minute_that_has_videos() -> None:
    assert per_minute([0] * 25 + [10, 10, 10, 10, 10]) == 10
