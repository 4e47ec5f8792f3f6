"""When jobs will be done, learned from what the server sees of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from backend.app import running
from backend.domain.job import Action, Job
from backend.domain.pace import REPAINT_SECONDS, Estimate
from backend.domain.video import Video
from backend.errors import Fault
from backend.jobs.forecasts import Forecasts
from backend.jobs.leases import Lease, VideoFinished
from progress_dashboard.protocol import EXTERNAL, SenderReport
from tests.support.managed_backend import ANA, Managed

VIDEOS = 40
NO_FILE = "No file for this ID in the media directory"


@asynccontextmanager
async def forecasting(managed: Managed) -> AsyncIterator[Forecasts]:
    """Yield forecasts that learn during the block."""
    forecasts = Forecasts(lambda: managed.queries.watch(by=ANA), managed.clock)
    async with running(forecasts.run(), "forecasts"):
        yield forecasts


async def new_job(managed: Managed) -> Job:
    return await managed.submit(*(f"video-{number}" for number in range(VIDEOS)), processor=EXTERNAL)


async def work_on(managed: Managed, job: Job, finished: range) -> Job:
    """Finish a video every three seconds; watchers see each one."""
    for current_video in finished:
        await managed.clock.advance(3)
        report = SenderReport(n=1 + current_video, status="processing", current_video=current_video)
        job = await managed.external.apply_reports(job.id, [report], by=ANA)
        await managed.journal.durable()
        await asyncio.sleep(0)
    return job


async def test_a_steady_job_is_done_at_its_forecast(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        job = await new_job(managed)
        early = await work_on(managed, job, range(5))
        assert forecasts.of(early) is None
        later = await work_on(managed, job, range(5, 21))
        estimate = forecasts.of(later)
        assert estimate is not None
        assert estimate.seconds == pytest.approx(20 * 3, rel=0.05)
        assert estimate.videos_per_minute == pytest.approx(20, rel=0.05)


async def test_a_job_that_ended_has_no_forecast(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        job = await new_job(managed)
        await work_on(managed, job, range(VIDEOS + 1))
        end = await managed.external.apply_reports(job.id, [SenderReport(n=99, status="completed")], by=ANA)
        await managed.journal.durable()
        assert forecasts.of(end) is None


async def test_forecasts_learn_again_after_a_restart(managed: Managed) -> None:
    job = await new_job(managed)
    under_way = await work_on(managed, job, range(21))
    async with forecasting(managed) as forecasts:
        assert forecasts.of(under_way) is None
        assert forecasts.of(await work_on(managed, job, range(21, 24))) is None
        assert forecasts.of(await work_on(managed, job, range(24, 30))) is not None


async def work_through(managed: Managed, lease: Lease, videos: list[Video], seconds: float, error: str | None) -> None:
    """Finish these videos, one after the other; watchers see each one."""
    for video in videos:
        await managed.clock.advance(seconds)
        outcome: dict[str, Any] = {"error": error, "fault": Fault.PERMANENT} if error else {"result": {}}
        await managed.report(lease, VideoFinished(video, managed.clock.now(), seconds, **outcome))
        await asyncio.sleep(0)


async def forecast_of(managed: Managed, forecasts: Forecasts, job: Job) -> Estimate | None:
    """Return the newest forecast."""
    await managed.clock.advance(REPAINT_SECONDS)
    return forecasts.of(await managed.queries.find(job.id, by=ANA))


@pytest.mark.parametrize("attempts", [1, 2], ids=["first attempt", "after retry all"])
async def test_missing_files_do_not_shorten_the_time_left(managed: Managed, attempts: int) -> None:
    """Eighty IDs without a file fail at once; then there are 16 videos of 5 s."""
    async with forecasting(managed) as forecasts:
        job = await managed.submit(*(f"video-{number}" for number in range(96)))
        for attempt in range(attempts):
            if attempt:
                await managed.manager.act(job.id, Action.RETRY_ALL, by=ANA)
            lease = await managed.claim(job)
            videos = await managed.videos(lease.job)
            await work_through(managed, lease, videos[:80], 0.01, NO_FILE)
            assert await forecast_of(managed, forecasts, job) is None
            await work_through(managed, lease, videos[80:86], 5.0, None)
            estimate = await forecast_of(managed, forecasts, job)
            assert estimate is not None
            assert estimate.low <= 10 * 5 <= estimate.high + 5
            await work_through(managed, lease, videos[86:], 5.0, None)
            await managed.leases.release(lease)


async def test_missing_files_before_a_restart_do_not_shorten_the_time_left(managed: Managed) -> None:
    """Whenever it is asked, what is said is true, or nothing is said. It is said before the end."""
    job = await managed.submit(*(f"video-{number}" for number in range(96)))
    lease = await managed.claim(job)
    videos = await managed.videos(lease.job)
    async with forecasting(managed):
        await work_through(managed, lease, videos[:60], 0.01, NO_FILE)
    async with forecasting(managed) as forecasts:
        await work_through(managed, lease, videos[60:80], 0.01, NO_FILE)
        said: dict[int, Estimate | None] = {}
        for number in range(80, 95):
            await work_through(managed, lease, [videos[number]], 5.0, None)
            said[95 - number] = forecasts.of(await managed.queries.find(job.id, by=ANA))
        spoken = {left: estimate for left, estimate in said.items() if estimate is not None}
        assert len(spoken) >= 5
        assert [left for left, estimate in spoken.items() if not estimate.low <= left * 5 <= estimate.high] == []
