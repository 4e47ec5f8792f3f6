"""Which job runs when."""

from __future__ import annotations

import asyncio

from backend.executors.inprocess import InProcessExecutor

WAIT = 10


class Runs:
    """Jobs that run until they are told to end."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stopped: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Condition()

    async def process_job(self, job_id: str) -> None:
        self.started.append(job_id)
        self._ends[job_id] = asyncio.Event()
        async with self._changed:
            self._changed.notify_all()
        try:
            await self._ends[job_id].wait()
        finally:
            self.stopped.append(job_id)

    async def until_started(self, number: int) -> None:
        async with self._changed, asyncio.timeout(WAIT):
            await self._changed.wait_for(lambda: len(self.started) >= number)

    def end(self, job_id: str) -> None:
        self._ends[job_id].set()


async def test_no_more_jobs_run_at_once_than_allowed() -> None:
    runs, executor = Runs(), InProcessExecutor(max_running=2)
    await executor.start(runs.process_job)
    for number in range(4):
        await executor.submit(f"job-{number}", user="ana")
    await runs.until_started(2)
    assert runs.started == ["job-0", "job-1"]
    runs.end("job-0")
    await runs.until_started(3)
    assert runs.started[2] == "job-2"
    await executor.shutdown(0)


async def test_priority_comes_first_then_who_runs_less_then_age() -> None:
    runs, executor = Runs(), InProcessExecutor(max_running=1)
    await executor.submit("ana-1", user="ana")
    await executor.submit("ana-2", user="ana")
    await executor.submit("urgent", user="ana", priority=1)
    await executor.start(runs.process_job)
    await runs.until_started(1)
    runs.end("urgent")
    await runs.until_started(2)
    assert runs.started == ["urgent", "ana-1"]
    await executor.shutdown(0)


async def test_a_user_with_many_jobs_leaves_room_for_another() -> None:
    runs, executor = Runs(), InProcessExecutor(max_running=2)
    for number in range(3):
        await executor.submit(f"ana-{number}", user="ana")
    await executor.submit("ben-0", user="ben")
    await executor.start(runs.process_job)
    await runs.until_started(2)
    assert runs.started == ["ana-0", "ben-0"]
    await executor.shutdown(0)


async def test_after_shutdown_nothing_runs_and_nothing_starts() -> None:
    runs, executor = Runs(), InProcessExecutor(max_running=1)
    await executor.start(runs.process_job)
    await executor.submit("first", user="ana")
    await executor.submit("second", user="ana")
    await runs.until_started(1)
    await executor.shutdown(0)
    assert (runs.started, runs.stopped) == (["first"], ["first"])
