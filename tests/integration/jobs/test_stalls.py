"""Jobs that fall silent, as the server learns it from its hub and as REST tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from backend.api import build_app
from backend.app import Backend, open_backend, running
from backend.clock import iso
from backend.domain.job import Job
from backend.errors import StoreRefused
from backend.jobs.manager import VideoProgressed, VideoStarted
from backend.jobs.stalls import Stalls
from backend.lists.csv_files import list_of_ids
from backend.settings import load_settings
from backend.store import JobStore
from tests.support.clock import JumpingClock
from tests.support.managed_backend import Managed, open_managed

T = TypeVar("T")
WAIT = 10
POLL_SECONDS = 0.01
A_WHILE = timedelta(seconds=61)


@pytest.fixture
async def managed(store: JobStore, tmp_path: Path) -> AsyncIterator[Managed]:
    async with open_managed(store, tmp_path) as opened:
        yield opened


@asynccontextmanager
async def watching(
    managed: Managed, took: Callable[[str, int], Awaitable[Sequence[float]]] | None = None
) -> AsyncIterator[Stalls]:
    stalls = Stalls(lambda: managed.hub.reader(None), took or managed.store.seconds_taken, managed.clock)
    async with running(stalls.run(), "stalls"):
        yield stalls


async def fallen_silent(managed: Managed, stalls: Stalls) -> Job:
    """A job that began a video more than a minute ago, as soon as it is known to stand still."""
    job = await managed.claim(await managed.submit("one", "two"))
    [video, _] = await managed.videos(job)
    await managed.report(job, VideoStarted(video))
    await managed.clock.advance(A_WHILE.total_seconds())
    await until_known(stalls, job)
    return job


async def until_known(stalls: Stalls, job: Job) -> None:
    """Return when the job stands still."""

    async def since() -> datetime | None:
        return stalls.of(job)

    await once_said(since)


async def once_said(since: Callable[[], Awaitable[T | None]]) -> T:
    """The answer as soon as there is one."""
    async with asyncio.timeout(WAIT):
        while True:
            if (said := await since()) is not None:
                return said
            await asyncio.sleep(POLL_SECONDS)  # one who looks tells nobody


async def test_a_pace_that_cannot_be_read_is_read_again_and_what_comes_meanwhile_is_learned(
    managed: Managed, caplog: pytest.LogCaptureFixture
) -> None:
    refusals = iter([StoreRefused()])

    async def refuses_once(job_id: str, limit: int) -> Sequence[float]:
        for refusal in refusals:
            raise refusal
        return ()

    async with watching(managed, refuses_once) as stalls:
        job = await fallen_silent(managed, stalls)
        assert [vars(record)["action"] for record in caplog.records] == ["stall_detection_failed"]
        [video, _] = await managed.videos(job)
        await managed.report(job, VideoProgressed(video, 0.5, "decoding"))
        assert stalls.of(await managed.stored(job)) is None
        await managed.clock.advance(A_WHILE.total_seconds())
        await until_known(stalls, await managed.stored(job))


async def test_a_job_that_left_stands_still_no_more(managed: Managed) -> None:
    async with watching(managed) as stalls:
        job = await fallen_silent(managed, stalls)
        managed.hub.stage_removal(job)
        await managed.hub.durable()
        assert stalls.of(job) is None


@asynccontextmanager
async def client_of(backend: Backend) -> AsyncIterator[httpx.AsyncClient]:
    """The routes of the backend, as its administrator."""
    token = await backend.accounts.issue_token(await backend.accounts.user("admin"), lifetime_seconds=3600)
    headers = {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(build_app(backend))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
        yield client


async def test_rest_says_since_when_a_job_that_runs_here_stands_still_until_it_moves(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with open_backend(load_settings(data_dir=tmp_path / "data"), clock) as backend, client_of(backend) as client:
        await backend.executor.shutdown(0)  # from now on the test works on the jobs
        admin = await backend.accounts.user("admin")
        submission = await backend.manager.submit(list_of_ids(["one", "two"]), by=admin, name="list.csv")
        job = await backend.manager.claim(submission.job.id)
        assert job is not None
        await backend.hub.durable()
        video = await anext(backend.manager.todo(job))

        async def said() -> str | None:
            since: str | None = (await client.get(f"/api/jobs/{job.id}")).json()["stalled_since"]
            return since

        backend.manager.record(job.id, job.epoch, VideoStarted(video))
        await backend.hub.durable()
        last_progress = iso((await backend.manager.find(job.id, by=admin)).updated_at)
        assert await said() is None
        clock.ahead += A_WHILE
        assert await once_said(said) == last_progress
        backend.manager.record(job.id, job.epoch, VideoProgressed(video, 0.5, "decoding"))
        await backend.hub.durable()
        assert await said() is None
