"""When jobs will be done, as the server learns it from their reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from backend.app import running
from backend.domain.job import Job
from backend.jobs.forecasts import Forecasts
from backend.lists.csv_files import list_of_ids
from backend.store import JobStore
from progress_dashboard.protocol import EXTERNAL, SenderReport
from tests.support.managed_backend import ANA, Managed, open_managed

VIDEOS = 40


@pytest.fixture
async def managed(store: JobStore, tmp_path: Path) -> AsyncIterator[Managed]:
    async with open_managed(store, tmp_path) as opened:
        yield opened


@asynccontextmanager
async def forecasting(managed: Managed) -> AsyncIterator[Forecasts]:
    forecasts = Forecasts(lambda: managed.manager.watch(by=ANA), managed.clock)
    async with running(forecasts.run(), "forecasts"):
        yield forecasts


async def make(managed: Managed) -> Job:
    videos = list_of_ids([f"video-{number}" for number in range(VIDEOS)])
    return (await managed.manager.submit(videos, by=ANA, name="list.csv", processor=EXTERNAL)).job


async def work_on(managed: Managed, job: Job, finished: range) -> Job:
    """A video every three seconds, each seen by whoever watches."""
    for current_video in finished:
        await managed.clock.advance(3)
        report = SenderReport(n=1 + current_video, status="processing", current_video=current_video)
        job = await managed.manager.hear(job.id, [report], by=ANA)
        await managed.hub.durable()
        await asyncio.sleep(0)
    return job


async def test_a_job_that_gets_on_steadily_is_done_when_it_is_said_to_be(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        job = await make(managed)
        early = await work_on(managed, job, range(5))
        assert forecasts.of(early) is None
        later = await work_on(managed, job, range(5, 21))
        estimate = forecasts.of(later)
        assert estimate is not None
        assert estimate.seconds == pytest.approx(20 * 3, rel=0.05)
        assert estimate.videos_per_minute == pytest.approx(20, rel=0.05)


async def test_a_job_that_ended_has_no_forecast(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        job = await make(managed)
        await work_on(managed, job, range(VIDEOS + 1))
        ended = await managed.manager.hear(job.id, [SenderReport(n=99, status="completed")], by=ANA)
        await managed.hub.durable()
        assert forecasts.of(ended) is None


async def test_a_server_that_was_started_anew_learns_anew(managed: Managed) -> None:
    job = await make(managed)
    under_way = await work_on(managed, job, range(21))
    async with forecasting(managed) as forecasts:
        assert forecasts.of(under_way) is None
        assert forecasts.of(await work_on(managed, job, range(21, 24))) is None
        assert forecasts.of(await work_on(managed, job, range(24, 30))) is not None
