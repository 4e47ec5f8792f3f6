"""What leaves the dashboard, and when: one rule and the timer that applies it."""

from __future__ import annotations

from datetime import datetime, timedelta

from backend.accounts import Accounts
from backend.clock import Clock, repeat
from backend.jobs import WITH_FAILURES, Job
from backend.manager import JobManager
from backend.settings import Settings


def leaves_at(job: Job, settings: Settings) -> datetime | None:
    """When a finished job leaves the dashboard; None while it is unfinished."""
    if job.finished_at is None or not job.is_finished:
        return None
    failed = job.status in WITH_FAILURES
    return job.finished_at + timedelta(
        seconds=settings.failed_job_ttl_seconds if failed else settings.completed_job_ttl_seconds
    )


def leaves(job: Job, now: datetime, settings: Settings) -> bool:
    """Whether the job's time on the dashboard is over."""
    at = leaves_at(job, settings)
    return at is not None and at <= now


class Cleanup:
    """Tidies the dashboard every `cleanup_interval_seconds`, and forgets sign-ins that ran out."""

    def __init__(self, manager: JobManager, accounts: Accounts, settings: Settings, clock: Clock) -> None:
        self._manager = manager
        self._accounts = accounts
        self._settings = settings
        self._clock = clock

    async def run_once(self) -> None:
        self._manager.remove_from_dashboard(lambda job, now: leaves(job, now, self._settings))
        await self._accounts.prune()

    async def run(self) -> None:
        """Tidy until cancelled."""
        await repeat(self.run_once, every=self._settings.cleanup_interval_seconds, clock=self._clock, what="cleanup")
