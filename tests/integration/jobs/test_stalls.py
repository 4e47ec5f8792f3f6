"""Stalled jobs, as the server detects them and as REST reports them."""

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
from backend.domain.job import Action, Job
from backend.domain.notification import EventKind, NotificationSettings
from backend.errors import StoreRefused
from backend.jobs.leases import Lease, VideoProgressed, VideoStarted
from backend.jobs.stalls import Stalls
from backend.jobs.submission import Order
from backend.lists.csv_files import list_of_ids
from tests.support.clock import JumpingClock
from tests.support.databases import settings_of
from tests.support.managed_backend import ANA, TIMEOUT_SECONDS, Managed
from tests.support.telling import Telling

T = TypeVar("T")
POLL_SECONDS = 0.01
SILENCE = timedelta(seconds=61)


@asynccontextmanager
async def watching(
    managed: Managed, durations: Callable[[str, int], Awaitable[Sequence[float]]] | None = None
) -> AsyncIterator[Stalls]:
    """Yield a stall detection that runs during the block."""
    durations = durations or managed.store.videos.recent_durations
    stalls = Stalls(lambda: managed.hub.reader(None), durations, managed.clock, on_event=managed.journal.stage_event)
    stalls.remember(await managed.store.notifications.alarms())
    async with running(stalls.run(), "stalls"):
        yield stalls


async def stalled(managed: Managed, stalls: Stalls) -> Lease:
    """Return a lease of a job that is known to be stalled: its only running video started over a minute ago."""
    lease = await managed.claim(await managed.submit("one", "two"))
    [video, _] = await managed.videos(lease.job)
    await managed.report(lease, VideoStarted(video))
    await managed.clock.advance(SILENCE.total_seconds())
    await until_stalled(stalls, lease.job)
    return lease


async def until_stalled(stalls: Stalls, job: Job) -> None:
    """Return when the job is known to be stalled."""

    async def since() -> datetime | None:
        return stalls.of(job)

    await first_answer(since)


async def first_answer(since: Callable[[], Awaitable[T | None]]) -> T:
    """Return the first answer that is not None."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            if (answer := await since()) is not None:
                return answer
            await asyncio.sleep(POLL_SECONDS)  # the detection notifies nobody


async def test_stall_detection_continues_after_a_refused_read(
    managed: Managed, caplog: pytest.LogCaptureFixture
) -> None:
    """A pace that cannot be read is read again, and progress in between is learned."""
    refusals = iter([StoreRefused()])

    async def refuses_once(job_id: str, limit: int) -> Sequence[float]:
        for refusal in refusals:
            raise refusal
        return ()

    async with watching(managed, refuses_once) as stalls:
        lease = await stalled(managed, stalls)
        assert [vars(record)["action"] for record in caplog.records] == ["stall_detection_failed"]
        [video, _] = await managed.videos(lease.job)
        await managed.report(lease, VideoProgressed(video, 0.5, "decoding"))
        assert stalls.of(await managed.stored(lease.job)) is None
        await managed.clock.advance(SILENCE.total_seconds())
        await until_stalled(stalls, await managed.stored(lease.job))


async def test_a_removed_job_is_no_longer_stalled(managed: Managed) -> None:
    async with watching(managed) as stalls:
        job = (await stalled(managed, stalls)).job
        reader = managed.hub.reader(None, managed.hub.seq)
        managed.journal.stage_removal(job)
        assert (await reader.next()).removed == (job.id,)
        assert stalls.of(job) is None


async def test_a_stall_and_its_end_are_told_once_each(managed: Managed) -> None:
    telling = Telling(managed)
    await telling.notifications.change_settings(NotificationSettings(events=frozenset(EventKind)), by=ANA)
    async with watching(managed) as stalls:
        lease = await stalled(managed, stalls)
        [video, _] = await managed.videos(lease.job)
        assert [told.title for told in await telling.bell()] == ["list.csv: stalled at 0 of 2"]
        for fraction in (0.2, 0.4):
            await managed.clock.advance(1)
            await managed.report(lease, VideoProgressed(video, fraction, "decoding"))
            await managed.clock.advance(SILENCE.total_seconds())
            await until_stalled(stalls, await managed.stored(lease.job))
        await managed.report(lease, VideoProgressed(video, 0.6, "decoding"))
        await progress_is_seen(managed, stalls, lease.job)
        titles = [told.title for told in await telling.bell()]
    assert titles == ["list.csv: goes on again at 0 of 2", "list.csv: stalled at 0 of 2"]


async def test_a_job_that_stalled_before_a_restart_is_told_to_go_on(managed: Managed) -> None:
    telling = Telling(managed)
    await telling.notifications.change_settings(NotificationSettings(events=frozenset(EventKind)), by=ANA)
    async with watching(managed) as stalls:
        lease = await stalled(managed, stalls)
        await managed.journal.durable()
    async with watching(managed) as stalls:
        [video, _] = await managed.videos(lease.job)
        await managed.clock.advance(1)
        await managed.report(lease, VideoProgressed(video, 0.2, "decoding"))
        await progress_is_seen(managed, stalls, lease.job)
        assert [told.event for told in await telling.bell()] == [EventKind.RECOVERED, EventKind.STALLED]


async def test_a_stalled_job_that_ends_has_not_recovered(managed: Managed) -> None:
    telling = Telling(managed)
    await telling.notifications.change_settings(NotificationSettings(events=frozenset(EventKind)), by=ANA)
    async with watching(managed) as stalls:
        lease = await stalled(managed, stalls)
        await managed.manager.act(lease.job.id, Action.CANCEL, by=ANA)
        await managed.leases.release(lease)
        await progress_is_seen(managed, stalls, lease.job)
        assert [told.event for told in await telling.bell()] == [EventKind.STALLED]


async def progress_is_seen(managed: Managed, stalls: Stalls, job: Job) -> None:
    """Return when the newest state of the job, which is not stalled, is known to the detection."""
    newest = await managed.stored(job)

    async def is_known() -> bool | None:
        watched = stalls._watched.get(newest.id)
        return True if watched is None or watched.job.seq >= newest.seq else None

    await first_answer(is_known)


@asynccontextmanager
async def client_of(backend: Backend) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the backend's routes, signed in as its administrator."""
    token = await backend.accounts.issue_token(await backend.accounts.user("admin"), lifetime_seconds=3600)
    headers = {"Authorization": f"Bearer {token}"}
    transport, home = httpx.ASGITransport(build_app(backend)), f"http://127.0.0.1:{backend.settings.port}"
    async with httpx.AsyncClient(transport=transport, base_url=home, headers=headers) as client:
        yield client


async def test_rest_reports_a_stall_until_the_next_progress(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with open_backend(settings_of(tmp_path / "data"), clock) as backend, client_of(backend) as client:
        await backend.executor.shutdown(0)  # from now on the test works on the jobs
        admin = await backend.accounts.user("admin")
        submission = await backend.manager.submit(list_of_ids(["one", "two"]), Order(name="list.csv"), by=admin)
        lease = await backend.leases.claim(submission.job.id)
        assert lease is not None
        await backend.journal.durable()
        video = await anext(backend.leases.pending_videos(lease))

        async def stalled_since() -> str | None:
            since: str | None = (await client.get(f"/api/jobs/{lease.job.id}")).json()["stalled_since"]
            return since

        backend.leases.record(lease, VideoStarted(video))
        await backend.journal.durable()
        last_progress = iso((await backend.queries.find(lease.job.id, by=admin)).updated_at)
        assert await stalled_since() is None
        clock.ahead += SILENCE
        assert await first_answer(stalled_since) == last_progress
        backend.leases.record(lease, VideoProgressed(video, 0.5, "decoding"))
        await backend.journal.durable()
        assert await stalled_since() is None
