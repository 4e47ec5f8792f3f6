"""A job's page follows its job with one reader, on the dashboard and off it, until the job is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from backend.delivery.hub import JobReader
from backend.domain.auth import User
from backend.domain.job import Job, Selection
from backend.errors import JobNotFound
from backend.jobs.queries import JobQueries
from backend.store import Store
from progress_dashboard.protocol import Status
from tests.support.managed_backend import ANA, BEN, TIMEOUT_SECONDS, Managed, finished, open_managed
from ui.following import JobSubscription


class CountingQueries(JobQueries):
    """Counts the readers of single jobs."""

    readers = 0

    async def watch_job(self, job_id: str, *, by: User) -> JobReader:
        self.readers += 1
        return await super().watch_job(job_id, by=by)


@dataclass(frozen=True)
class Followed:
    """A job and the subscription of its page."""

    managed: Managed
    job: Job
    queries: CountingQueries
    subscription: JobSubscription

    def changes(self) -> AsyncIterator[Job]:
        return self.subscription.changes(1)

    async def until_deleted(self) -> None:
        """Follow the job until `JobNotFound`."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self.subscription.run(by=ANA, every_seconds=1)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the job while the block runs."""
        task = asyncio.create_task(self.subscription.run(by=ANA, every_seconds=1))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def fail(self) -> None:
        """Let the job itself fail, which ends it."""
        self.managed.leases.fail(await self.managed.claim(self.job), "The job broke.")
        await self.managed.journal.durable()

    async def leave(self) -> None:
        """Remove the ended job from the dashboard."""
        self.managed.manager.remove_from_dashboard(lambda *_: True)
        await self.managed.journal.durable()

    async def delete(self) -> None:
        await self.managed.manager.delete(self.job.id, by=ANA)


@pytest.fixture
async def followed(store: Store, tmp_path: Path) -> AsyncIterator[Followed]:
    async with open_managed(store, tmp_path) as managed:
        job = await managed.submit("one", "two", "three")
        await managed.journal.durable()
        queries = CountingQueries(store, managed.hub)
        yield Followed(managed, job, queries, JobSubscription(queries, job, managed.clock))


async def until(changes: AsyncIterator[Job], status: Status, *, on_dashboard: bool = True) -> Job:
    """Return the first state with this status, on the dashboard or off it."""
    async for state in changes:
        if (state.status, state.on_dashboard) == (status, on_dashboard):
            return state
    raise AssertionError("the changes ended")


async def test_all_parts_of_a_page_share_one_reader(followed: Followed) -> None:
    parts = [followed.changes() for _ in range(3)]
    async with followed.running():
        await followed.managed.claim(followed.job)
        seen = [await until(part, Status.PROCESSING) for part in parts]
    assert len({state.seq for state in seen}) == 1
    assert followed.queries.readers == 1


async def test_a_slow_part_gets_only_the_newest_state(followed: Followed) -> None:
    quick, slow = followed.changes(), followed.changes()
    async with followed.running():
        assert (await anext(slow)).status is Status.PENDING
        lease = await followed.managed.claim(followed.job)
        for _ in range(3):
            video = await anext(followed.managed.leases.pending_videos(lease))
            await followed.managed.report(lease, finished(video))
        while (await anext(quick)).current_video < 3:
            pass
        assert (await anext(slow)).current_video == 3


async def test_a_part_gets_the_known_state_at_once(followed: Followed) -> None:
    assert await anext(followed.changes()) == followed.job
    assert followed.queries.readers == 0


async def test_a_job_that_leaves_the_dashboard_is_read_from_the_store(followed: Followed) -> None:
    changes = followed.changes()
    async with followed.running():
        await followed.fail()
        await until(changes, Status.FAILED)
        await followed.leave()
        left = await until(changes, Status.FAILED, on_dashboard=False)
    assert left == await followed.managed.stored(followed.job)


async def test_a_job_that_ended_and_left_between_two_reads_has_left(followed: Followed) -> None:
    changes = followed.changes()
    async with followed.running():
        await anext(changes)
        await followed.fail()
        await followed.leave()
        left = await until(changes, Status.FAILED, on_dashboard=False)
    assert left.is_finished


async def test_a_job_that_left_before_is_shown_as_it_is_stored(followed: Followed) -> None:
    await followed.fail()
    await followed.leave()
    async with followed.running():
        left = await until(followed.changes(), Status.FAILED, on_dashboard=False)
    assert left == await followed.managed.stored(followed.job)


async def test_a_job_that_is_back_on_the_dashboard_is_followed_again(followed: Followed) -> None:
    changes = followed.changes()
    await followed.fail()
    await followed.leave()
    async with followed.running():
        await until(changes, Status.FAILED, on_dashboard=False)
        await followed.managed.manager.retry(followed.job.id, Selection(), by=ANA)
        assert (await until(changes, Status.PENDING)).attempt == 2
        await followed.managed.claim(followed.job)
        assert (await until(changes, Status.PROCESSING)).attempt == 2


async def test_a_job_that_is_deleted_is_not_found(followed: Followed) -> None:
    await followed.fail()
    following = asyncio.create_task(followed.until_deleted())
    await followed.managed.clock.advance(0)
    await followed.delete()
    with pytest.raises(JobNotFound):
        await following


async def test_a_job_that_is_deleted_off_the_dashboard_is_not_found(followed: Followed) -> None:
    changes = followed.changes()
    await followed.fail()
    await followed.leave()
    following = asyncio.create_task(followed.until_deleted())
    await until(changes, Status.FAILED, on_dashboard=False)
    await followed.delete()
    with pytest.raises(JobNotFound):
        await following


async def test_a_job_that_was_deleted_before_is_not_found(followed: Followed) -> None:
    await followed.fail()
    await followed.delete()
    with pytest.raises(JobNotFound):
        await followed.until_deleted()


async def test_the_job_of_another_user_is_not_found(followed: Followed) -> None:
    with pytest.raises(JobNotFound):
        await followed.subscription.run(by=BEN, every_seconds=1)
