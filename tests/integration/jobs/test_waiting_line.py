"""The place in line, why a job waits, about when it begins, and when all will be done."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from backend.domain.job import Job
from backend.domain.line import Queue, QueuedJob
from backend.executors.inprocess import InProcessExecutor
from backend.jobs.forecasts import Forecasts
from backend.jobs.waiting_line import WaitingLine
from backend.store import Store
from tests.integration.jobs.test_courses import earlier_job, forecasting, new_job, settled, work
from tests.support.managed_backend import ADMIN, ANA, BEN, Managed, open_working

KIB = [20] * 40  # 400 s a job
MINUTE = 60


class Line:
    """A line whose queue is what the test says."""

    def __init__(self, managed: Managed, forecasts: Forecasts, *, most: int = 1, each: int = 1) -> None:
        self._managed = managed
        self._limits = {"max_running": most, "max_running_per_user": each}
        self.running: list[Job] = []
        self.waiting: list[Job] = []
        self.line = WaitingLine(self._queue, managed.hub.job, forecasts, managed.courses, managed.clock)

    def _queue(self) -> Queue:
        running, waiting = (
            [QueuedJob(job.id, job.owner_id, 0, turn) for turn, job in enumerate(jobs)]
            for jobs in (self.running, self.waiting)
        )
        return Queue(running=running, waiting=waiting, served={}, **self._limits)

    async def look(self) -> None:
        """Look until the files of all waiting jobs are known."""
        await self.line.run_once()
        await self.line.run_once()  # now the order is known, and the files are looked up
        for job in self.waiting:
            await settled(self._managed, self._managed.courses, job)
        await self.line.run_once()


async def test_a_waiting_job_says_its_place_why_and_when(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        await earlier_job(managed)
        running = await new_job(managed, "running", KIB)
        await managed.claim(running)
        second, third = await new_job(managed, "second.csv", KIB), await new_job(managed, "third.csv", KIB)
        line = Line(managed, forecasts)
        line.running, line.waiting = [running], [second, third]
        await settled(managed, managed.courses, running)
        await line.look()
        wait = line.line.of(third, ANA)
        assert wait is not None
        assert wait.words == "2nd in line: 1 of 1 jobs run; second.csv is before it"
        assert wait.starts_at is not None
        assert abs(wait.starts_at - managed.clock.now() - timedelta(seconds=800)) < timedelta(seconds=60)
        first = line.line.of(second, ANA)
        assert first is not None
        assert first.words == "1st in line: 1 of 1 jobs run"


async def test_jobs_of_others_count_and_are_not_named(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        running = await new_job(managed, "running", KIB)
        secret = await managed.submit("one", "two", by=BEN, name="secret.csv")
        mine = await managed.submit("one", by=ANA, name="mine.csv")
        line = Line(managed, forecasts)
        line.running, line.waiting = [running], [secret, mine]
        await line.line.run_once()
        for_ana, for_admin = line.line.of(mine, ANA), line.line.of(mine, ADMIN)
        assert for_ana is not None
        assert for_ana.words == "2nd in line: 1 of 1 jobs run; 1 job is before it"
        assert for_admin is not None
        assert for_admin.words == "2nd in line: 1 of 1 jobs run; secret.csv is before it"


async def test_no_time_is_said_while_nothing_is_known(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        running, waiting = await new_job(managed, "running", KIB), await new_job(managed, "waiting", KIB)
        line = Line(managed, forecasts)
        line.running, line.waiting = [running], [waiting]
        await line.line.run_once()
        wait = line.line.of(waiting, ANA)
        assert wait is not None
        assert wait.starts_at is None
        assert line.line.all_done([running, waiting]) is None


async def test_the_limit_of_one_user_is_the_reason_where_it_is(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        running, waiting = await new_job(managed, "running", KIB), await new_job(managed, "waiting", KIB)
        line = Line(managed, forecasts, most=4, each=1)
        line.running, line.waiting = [running], [waiting]
        await line.line.run_once()
        wait = line.line.of(waiting, ANA)
        assert wait is not None
        assert wait.words == "1st in line: ana runs 1 of 1 jobs at once"


async def test_a_job_that_waits_for_a_machine_says_that(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        waiting = (await new_job(managed, "waiting", KIB)).evolve(
            waiting_reason="Waiting for a worker: none is connected"
        )
        line = Line(managed, forecasts)
        line.waiting = [waiting]
        await line.line.run_once()
        wait = line.line.of(waiting, ANA)
        assert wait is not None
        assert (wait.place, wait.words) == (None, "Waiting for a worker: none is connected")


async def test_all_is_done_after_what_runs_and_what_waits(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        await earlier_job(managed)
        running = await new_job(managed, "running", KIB)
        lease = await managed.claim(running)
        waiting = await new_job(managed, "waiting", KIB)
        line = Line(managed, forecasts)
        line.running, line.waiting = [running], [waiting]
        await settled(managed, managed.courses, running)
        await work(managed, lease, KIB[:20])
        await line.look()
        states = [await managed.stored(job) for job in (running, waiting)]
        done = line.line.all_done(states)
        assert done is not None
        assert (done.at - managed.clock.now()).total_seconds() == pytest.approx(200 + 400, abs=0.6 * MINUTE)
        assert done.low < done.at < done.high
        assert line.line.all_done([]) is None


async def test_jobs_that_run_or_ended_are_not_in_the_line(managed: Managed) -> None:
    async with forecasting(managed) as forecasts:
        running = await new_job(managed, "running", KIB)
        await managed.claim(running)
        line = Line(managed, forecasts)
        line.running = [running]
        await line.line.run_once()
        assert line.line.of(await managed.stored(running), ANA) is None


async def test_the_executor_tells_its_queue(store: Store, tmp_path: Path) -> None:
    async with open_working(store, tmp_path, max_running=1) as working:
        running = await working.started_job("running", 2, running=1)
        waiting = [await working.new_job(name, 1) for name in ("second", "third")]
        assert isinstance(working.executor, InProcessExecutor)
        queue = working.executor.queue()
        assert [job.job_id for job in queue.running] == [running.id]
        assert [job.job_id for job in queue.waiting] == [job.id for job in waiting]
        assert queue.next() is None
