"""What makes jobs run. It only decides which job runs when; the truth about a job is in the store."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from backend.domain.job import Job

ProcessJob = Callable[[str], Coroutine[Any, Any, None]]


class Executor(Protocol):
    """Delivers job IDs to `process_job`, at least once each."""

    async def start(self, process_job: ProcessJob) -> None:
        """Begin to run what is submitted."""

    async def submit(self, job_id: str, *, user: str, priority: int = 0) -> None:
        """Let the job run in its turn; submitted again while it waits or runs, it keeps its age and takes the priority.

        Users with fewer running jobs come first, then who was served longest ago; among a user's own jobs the higher
        priority, then age.
        """

    async def withdraw(self, job_id: str) -> None:
        """Take the job out of the queue. A run that has begun is stopped through its lease, not here."""

    async def shutdown(self, grace: float) -> None:
        """Start nothing more, wait `grace` seconds for what runs, cancel the rest and wait until it has ended."""


async def enqueue(executor: Executor, job: Job) -> None:
    """Let the job run in the turn of its owner."""
    await executor.submit(job.id, user=job.owner_id, priority=job.priority)
