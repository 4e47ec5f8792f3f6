"""The default executor: asyncio tasks in the server's own process."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from itertools import count

from backend.executors import ProcessJob

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job in line; `turn` grows with every submission."""

    job_id: str
    user: str
    priority: int
    turn: int


class InProcessExecutor:
    """At most `max_running` jobs at once; the same job never twice."""

    def __init__(self, *, max_running: int) -> None:
        self._max_running = max_running
        self._turns = count()
        self._waiting: dict[str, Waiting] = {}
        self._running: dict[asyncio.Task[None], Waiting] = {}
        self._process_job: ProcessJob | None = None

    async def start(self, process_job: ProcessJob) -> None:
        self._process_job = process_job
        self._fill()

    async def submit(self, job_id: str, *, user: str, priority: int = 0) -> None:
        self._waiting[job_id] = Waiting(job_id, user, priority, next(self._turns))
        self._fill()

    async def shutdown(self, grace: float) -> None:
        self._process_job = None
        tasks = list(self._running)
        if not tasks:
            return
        await asyncio.wait(tasks, timeout=grace)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fill(self) -> None:
        while self._process_job is not None and self._waiting and len(self._running) < self._max_running:
            busy = Counter(job.user for job in self._running.values())
            chosen = min(self._waiting.values(), key=lambda job: (-job.priority, busy[job.user], job.turn))
            del self._waiting[chosen.job_id]
            task = asyncio.create_task(self._process_job(chosen.job_id), name=f"job {chosen.job_id}")
            self._running[task] = chosen
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        ended = self._running.pop(task)
        if not task.cancelled() and task.exception() is not None:
            log.error(
                "a job's run ended with an error",
                exc_info=task.exception(),
                extra={"action": "run_failed", "job_id": ended.job_id},
            )
        self._fill()
