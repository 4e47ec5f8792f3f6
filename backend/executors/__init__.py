"""What makes jobs run. It only decides which job runs when: the truth about a job is in the store."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

ProcessJob = Callable[[str], Coroutine[Any, Any, None]]


class Executor(Protocol):
    """Delivers job IDs to `process_job`, at least once each."""

    async def start(self, process_job: ProcessJob) -> None:
        """Begin to run what is submitted."""

    async def submit(self, job_id: str, *, user: str, priority: int = 0) -> None:
        """Have the job run in its turn: higher priority first, then users with fewer running jobs, then age."""

    async def shutdown(self, grace: float) -> None:
        """Start nothing more, wait `grace` seconds for what runs, cancel the rest and wait for it to be dead."""
