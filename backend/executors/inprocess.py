"""The default executor: asyncio tasks in the server's own process."""

from __future__ import annotations

import asyncio
import logging
from itertools import count

from backend.domain.line import Queue, QueuedJob
from backend.jobs.executor import ProcessJob

log = logging.getLogger(__name__)


class InProcessExecutor:
    """Runs at most `max_running` jobs at once, `max_running_per_user` of one user, and never the same job twice."""

    def __init__(self, *, max_running: int, max_running_per_user: int) -> None:
        self._max_running = max_running
        self._max_running_per_user = max_running_per_user
        self._turns = count()
        self._served: dict[str, int] = {}
        self._waiting: dict[str, QueuedJob] = {}
        self._running: dict[asyncio.Task[None], QueuedJob] = {}
        self._process_job: ProcessJob | None = None

    async def start(self, process_job: ProcessJob) -> None:
        self._process_job = process_job
        self._fill()

    async def submit(self, job_id: str, *, user: str, priority: int = 0) -> None:
        earlier = self._waiting.get(job_id) or next(
            (job for job in self._running.values() if job.job_id == job_id), None
        )
        self._waiting[job_id] = QueuedJob(job_id, user, priority, earlier.turn if earlier else next(self._turns))
        self._fill()

    async def withdraw(self, job_id: str) -> None:
        self._waiting.pop(job_id, None)

    async def shutdown(self, grace: float) -> None:
        self._process_job = None
        tasks = list(self._running)
        if not tasks:
            return
        await asyncio.wait(tasks, timeout=grace)
        for task in tasks:
            if not task.cancelling():  # a second cancellation would interrupt the cleanup after the first
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def queue(self) -> Queue:
        """Return what runs and what waits now."""
        return Queue(
            running=tuple(self._running.values()),
            waiting=tuple(self._waiting.values()),
            served=self._served,
            max_running=self._max_running,
            max_running_per_user=self._max_running_per_user,
        )

    def _fill(self) -> None:
        while self._process_job is not None and (chosen := self.queue().next()) is not None:
            del self._waiting[chosen.job_id]
            self._served[chosen.user] = next(self._turns)
            task = asyncio.create_task(self._process_job(chosen.job_id), name=f"job {chosen.job_id}")
            self._running[task] = chosen
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        ended = self._running.pop(task)
        if not task.cancelled() and task.exception() is not None:
            log.error(
                "the run of a job raised an error",
                exc_info=task.exception(),
                extra={"action": "run_failed", "job_id": ended.job_id},
            )
        self._fill()
