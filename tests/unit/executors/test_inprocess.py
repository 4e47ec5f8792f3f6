"""Which job runs when."""

from __future__ import annotations

import asyncio

from backend.executors.inprocess import InProcessExecutor

TIMEOUT_SECONDS = 10


class Runs:
    """Jobs that run until the test ends them."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stopped: list[str] = []
        self._end_events: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Condition()

    async def process_job(self, job_id: str) -> None:
        self.started.append(job_id)
        self._end_events[job_id] = asyncio.Event()
        async with self._changed:
            self._changed.notify_all()
        try:
            await self._end_events[job_id].wait()
        finally:
            self.stopped.append(job_id)

    async def until_started(self, number: int) -> None:
        """Return when this many runs have started in all."""
        async with self._changed, asyncio.timeout(TIMEOUT_SECONDS):
            await self._changed.wait_for(lambda: len(self.started) >= number)

    def end(self, job_id: str) -> None:
        self._end_events[job_id].set()


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


async def test_jobs_of_a_user_run_by_priority_then_by_age() -> None:
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


async def test_users_take_turns_whatever_their_priorities() -> None:
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


async def test_the_limit_of_a_user_lets_another_start_at_once() -> None:
    runs, executor = Runs(), InProcessExecutor(max_running=3, max_running_per_user=2)
    for number in range(50):
        await executor.submit(f"ana-{number}", user="ana")
    await executor.start(runs.process_job)
    await runs.until_started(2)
    await executor.submit("ben-0", user="ben")
    await runs.until_started(3)
    assert runs.started == ["ana-0", "ana-1", "ben-0"]
    await executor.shutdown(0)


async def test_a_waiting_job_keeps_its_age_at_a_new_priority() -> None:
    runs, executor = Runs(), InProcessExecutor(max_running=1, max_running_per_user=1)
    for name in ("first", "second"):
        await executor.submit(name, user="ana")
    await executor.submit("first", user="ana", priority=-1)
    await executor.submit("first", user="ana", priority=0)
    await executor.start(runs.process_job)
    await runs.until_started(1)
    assert runs.started == ["first"]
    await executor.shutdown(0)


async def test_a_withdrawn_job_leaves_the_queue() -> None:
    """Withdrawing takes a job out of the queue; a run that has begun continues."""
    runs, executor = Runs(), InProcessExecutor(max_running=1, max_running_per_user=1)
    await executor.start(runs.process_job)
    for name in ("running", "waiting", "next"):
        await executor.submit(name, user="ana")
    await runs.until_started(1)
    for name in ("waiting", "waiting", "running", "unknown"):
        await executor.withdraw(name)
    assert (runs.started, runs.stopped) == (["running"], [])
    runs.end("running")
    await runs.until_started(2)
    assert (runs.started, runs.stopped) == (["running", "next"], ["running"])
    await executor.shutdown(0)


async def test_a_job_never_runs_twice_at_once() -> None:
    """A job that is submitted again while it runs runs again afterwards, unless it is withdrawn."""
    runs, executor = Runs(), InProcessExecutor(max_running=3, max_running_per_user=3)
    await executor.start(runs.process_job)
    for name in ("again", "withdrawn"):
        for _ in range(2):
            await executor.submit(name, user="ana")
    await executor.withdraw("withdrawn")
    await runs.until_started(2)
    assert runs.started == ["again", "withdrawn"]
    for name in ("withdrawn", "again"):
        runs.end(name)
    await runs.until_started(3)
    assert runs.started == ["again", "withdrawn", "again"]
    await executor.shutdown(0)


async def test_nothing_runs_and_nothing_starts_after_shutdown() -> None:
    runs, executor = Runs(), InProcessExecutor(max_running=1, max_running_per_user=1)
    await executor.start(runs.process_job)
    await executor.submit("first", user="ana")
    await executor.submit("second", user="ana")
    await runs.until_started(1)
    await executor.shutdown(0)
    assert (runs.started, runs.stopped) == (["first"], ["first"])
