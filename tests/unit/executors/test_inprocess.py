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
    runs, executor = Runs(), InProcessExecutor(max_running=2, max_running_per_user=2)
    await executor.start(runs.process_job)
    for number in range(4):
        await executor.submit(f"job-{number}", user="ana")
    await runs.until_started(2)
    assert runs.started == ["job-0", "job-1"]
    runs.end("job-0")
    await runs.until_started(3)
    assert runs.started[2] == "job-2"
    await executor.shutdown(0)


async def test_priority_orders_the_jobs_of_one_user_then_age_does() -> None:
    runs, executor = Runs(), InProcessExecutor(max_running=1, max_running_per_user=1)
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
    runs, executor = Runs(), InProcessExecutor(max_running=2, max_running_per_user=2)
    for number in range(3):
        await executor.submit(f"ana-{number}", user="ana")
    await executor.submit("ben-0", user="ben")
    await executor.start(runs.process_job)
    await runs.until_started(2)
    assert runs.started == ["ana-0", "ben-0"]
    await executor.shutdown(0)


async def test_users_take_turns_whatever_priority_one_gives_to_many_jobs() -> None:
    runs, executor = Runs(), InProcessExecutor(max_running=1, max_running_per_user=1)
    for number in range(3):
        await executor.submit(f"ana-{number}", user="ana", priority=100)
    await executor.submit("ben-0", user="ben")
    await executor.start(runs.process_job)
    for number, ended in enumerate(("ana-0", "ben-0"), 1):
        await runs.until_started(number)
        runs.end(ended)
    await runs.until_started(3)
    assert runs.started == ["ana-0", "ben-0", "ana-1"]
    await executor.shutdown(0)


async def test_a_user_runs_no_more_jobs_at_once_than_the_cap_so_that_another_starts_at_once() -> None:
    runs, executor = Runs(), InProcessExecutor(max_running=3, max_running_per_user=2)
    for number in range(50):
        await executor.submit(f"ana-{number}", user="ana")
    await executor.start(runs.process_job)
    await runs.until_started(2)
    await executor.submit("ben-0", user="ben")
    await runs.until_started(3)
    assert runs.started == ["ana-0", "ana-1", "ben-0"]
    await executor.shutdown(0)


async def test_a_waiting_job_keeps_its_age_when_its_priority_changes() -> None:
    runs, executor = Runs(), InProcessExecutor(max_running=1, max_running_per_user=1)
    for name in ("first", "second"):
        await executor.submit(name, user="ana")
    await executor.submit("first", user="ana", priority=-1)
    await executor.submit("first", user="ana", priority=0)
    await executor.start(runs.process_job)
    await runs.until_started(1)
    assert runs.started == ["first"]
    await executor.shutdown(0)


async def test_a_cancelled_job_leaves_the_line_or_its_run_ends_once() -> None:
    runs, executor = Runs(), InProcessExecutor(max_running=1, max_running_per_user=1)
    await executor.start(runs.process_job)
    for name in ("running", "waiting", "next"):
        await executor.submit(name, user="ana")
    await runs.until_started(1)
    await executor.cancel("waiting")
    await executor.cancel("running")
    await executor.cancel("running")
    await runs.until_started(2)
    assert (runs.started, runs.stopped) == (["running", "next"], ["running"])
    await executor.shutdown(0)


async def test_after_shutdown_nothing_runs_and_nothing_starts() -> None:
    runs, executor = Runs(), InProcessExecutor(max_running=1, max_running_per_user=1)
    await executor.start(runs.process_job)
    await executor.submit("first", user="ana")
    await executor.submit("second", user="ana")
    await runs.until_started(1)
    await executor.shutdown(0)
    assert (runs.started, runs.stopped) == (["first"], ["first"])
