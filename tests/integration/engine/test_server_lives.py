"""A server ends while a worker works, and the next one goes on: nothing begins again, nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from backend.clock import SystemClock
from backend.domain.job import Job
from backend.executors.inprocess import InProcessExecutor
from backend.executors.machines import Machines
from backend.executors.video_work import RetryPolicy, VideoWork
from backend.jobs.waits import Waits
from backend.store import Store
from backend.store.database import Database
from backend.store.runs import RunStore
from backend.store.workers import MAX_LOSSES, WorkerSql
from progress_dashboard.protocol import Status
from tests.support.clock import QuickClock
from tests.support.managed_backend import ADMIN, ANA, Parts, build_parts
from tests.support.scripted_workers import LOST_AFTER, Coordinated, ScriptedWorker, open_coordinated

pytestmark = pytest.mark.postgresql_only
TIMEOUT_SECONDS = 10.0


@dataclass
class Life:
    """One run of a server."""

    parts: Parts
    server: Coordinated

    async def job(self) -> Job:
        """Return the only job as it is stored."""
        await self.parts.journal.durable()
        [job] = await self.parts.store.jobs.on_dashboard()
        return job

    async def reaches(self, status: Status) -> Job:
        """Return the only job once it has this status."""
        reader = self.parts.queries.watch(by=ADMIN)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                for job in (await reader.next()).updates:
                    if job.status is status:
                        return job

    async def until_running(self, number: int) -> None:
        """Return when so many videos of the only job run."""
        reader = self.parts.queries.watch(by=ADMIN)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not any(job.running == number for job in (await reader.next()).updates):
                pass


@pytest.fixture
async def worker(database: Database) -> AsyncIterator[ScriptedWorker]:
    """Yield a worker with two slots that outlives all servers."""
    async with open_coordinated(database) as server:
        yield await server.worker("one")


@asynccontextmanager
async def a_life(database: Database, directory: Path, worker: ScriptedWorker) -> AsyncIterator[Life]:
    """Run a server, which stops at once in the end and leaves its runs alone."""
    (directory / "media").mkdir(exist_ok=True)
    executor = InProcessExecutor(max_running=4, max_running_per_user=4)
    async with open_coordinated(database) as server:
        jobs_in_flight = RunStore(database).jobs_in_flight
        parts = build_parts(Store(database), directory, executor, QuickClock(), jobs_in_flight=jobs_in_flight)
        await parts.journal.load()
        ticking = asyncio.create_task(parts.journal.run())
        await parts.manager.recover()
        await server.look(2, beating=(worker,))
        policy = RetryPolicy(retries=2, pause_after_failures=5)
        await executor.start(VideoWork(parts.leases, server.runs, server.slots, SystemClock(), policy).process_job)
        yield Life(parts, server)
        parts.leases.drain()
        await asyncio.gather(executor.shutdown(0), server.runs.leave(0, own=None))
        parts.journal.close()
        await ticking


async def claim(life: Life, worker: ScriptedWorker, number: int) -> list[int]:
    """Let the worker claim this number of runs, and return them once the server knows."""
    rows = await life.server.until(
        "SELECT id FROM run WHERE state = 'waiting' ORDER BY position", lambda found: len(found) == number
    )
    for (run_id,) in rows:
        assert await worker.claim(run_id)
    await life.until_running(number)
    return [run_id for (run_id,) in rows]


async def test_what_ended_while_no_server_was_there_is_stored_once(
    database: Database, tmp_path: Path, worker: ScriptedWorker
) -> None:
    async with a_life(database, tmp_path, worker) as first:
        await first.parts.new_job("clip", 2)
        runs = await claim(first, worker, 2)
    await worker.end(runs[0])

    async with a_life(database, tmp_path, worker) as second:
        assert (await second.job()).status in (Status.PENDING, Status.PROCESSING)
        await worker.end(runs[1])
        job = await second.reaches(Status.COMPLETED)

        assert [(video.machine, video.attempts) for video in await second.parts.videos(job)] == [("one", 1)] * 2
        await second.server.look(2, beating=(worker,))
        await second.server.nothing_is_left()
        assert await second.server.rows("SELECT count(*) FROM result") == [(2,)]


async def test_a_running_video_is_not_begun_again(database: Database, tmp_path: Path, worker: ScriptedWorker) -> None:
    async with a_life(database, tmp_path, worker) as first:
        await first.parts.new_job("clip", 1)
        [run_id] = await claim(first, worker, 1)

    async with a_life(database, tmp_path, worker) as second:
        await second.until_running(1)
        await second.server.look(3, beating=(worker,))
        assert await worker.is_wanted(run_id)
        assert await second.server.rows("SELECT id, taken FROM run") == [(run_id, 1)]
        await worker.end(run_id)

        await second.reaches(Status.COMPLETED)


async def test_a_job_is_cancelled_after_its_videos_have_ended_although_the_server_was_started_again(
    database: Database, tmp_path: Path, worker: ScriptedWorker
) -> None:
    async with a_life(database, tmp_path, worker) as first:
        job = await first.parts.new_job("clip", 3)
        runs = await claim(first, worker, 2)
        await first.parts.manager.cancel(job.id, by=ANA)

    async with a_life(database, tmp_path, worker) as second:
        await second.server.look(2, beating=(worker,))
        job = await second.job()
        assert (job.status, job.requested) == (Status.PROCESSING, "cancel")
        for run_id in runs:
            assert not await worker.is_wanted(run_id)
            await worker.release(run_id, "stopped")

        job = await second.reaches(Status.CANCELLED)
        assert job.current_video == 0
        await second.server.nothing_is_left()


async def test_a_job_is_paused_after_its_videos_have_ended_although_the_server_was_started_again(
    database: Database, tmp_path: Path, worker: ScriptedWorker
) -> None:
    async with a_life(database, tmp_path, worker) as first:
        job = await first.parts.new_job("clip", 5)
        runs = await claim(first, worker, 2)
        await first.parts.manager.pause(job.id, by=ANA)

    async with a_life(database, tmp_path, worker) as second:
        await second.server.look(2, beating=(worker,))
        job = await second.job()
        assert (job.status, job.requested) == (Status.PROCESSING, "pause")
        for run_id in runs:
            assert await worker.is_wanted(run_id)
            await worker.end(run_id)

        job = await second.reaches(Status.PAUSED)
        assert job.current_video == 2
        await second.server.nothing_is_left()


async def test_losses_without_a_server_count(database: Database, tmp_path: Path, worker: ScriptedWorker) -> None:
    """The next server sweeps before it comes to the job, which may wait for its turn."""
    async with a_life(database, tmp_path, worker) as first:
        await first.parts.new_job("clip", 1)
        [run_id] = await claim(first, worker, 1)
    for number in range(MAX_LOSSES):
        assert number == 0 or await worker.claim(run_id)
        await worker.execute(WorkerSql.RETURN_OLD)

    async with a_life(database, tmp_path, worker) as second:
        job = await second.reaches(Status.FAILED)

        [video] = await second.parts.videos(job)
        assert (video.error or "").startswith(f"{MAX_LOSSES} machines were lost")


async def test_silence_when_the_only_worker_is_lost_with_running_videos(
    database: Database, tmp_path: Path, worker: ScriptedWorker
) -> None:
    async with a_life(database, tmp_path, worker) as life:
        waits = Waits(life.parts.active, Machines(life.server.registry).waiting_reason, SystemClock())
        await life.parts.new_job("clip", 3)
        await claim(life, worker, 2)
        await worker.execute("DELETE FROM worker")
        await life.server.look(LOST_AFTER)
        await life.until_running(0)
        await waits.run_once()
        await waits.run_once()

        job = await life.parts.queries.find((await life.job()).id, by=ADMIN)
        assert (job.waiting_reason, job.running) == ("Waiting for a worker: none is connected", 0)


async def test_a_failed_try_is_followed_by_the_next_one(
    database: Database, tmp_path: Path, worker: ScriptedWorker
) -> None:
    async with a_life(database, tmp_path, worker) as life:
        await life.parts.new_job("clip", 1)
        [run_id] = await claim(life, worker, 1)
        await worker.end(run_id, error="It took too long.", fault="transient")

        [again] = await claim(life, worker, 1)
        assert await life.server.rows("SELECT id, try FROM run") == [(again, 2)]
        await worker.end(again)
        job = await life.reaches(Status.COMPLETED)

        [video] = await life.parts.videos(job)
        assert (video.tries, video.attempts, video.machine) == (2, 1, "one")
