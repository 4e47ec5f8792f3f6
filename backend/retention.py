"""What leaves the dashboard and the history, and when: the rules and the timers that apply them."""

from __future__ import annotations

import asyncio
import logging
import shutil
from datetime import datetime, timedelta
from pathlib import Path

from backend.accounts import Accounts
from backend.clock import Clock, repeat
from backend.jobs import WITH_FAILURES, Job
from backend.manager import JobManager
from backend.settings import Settings
from backend.store import JobStore

log = logging.getLogger(__name__)
PRUNING_INTERVAL_SECONDS = 3600.0
PAUSE_SECONDS = 0.1


def leaves_at(job: Job, settings: Settings) -> datetime | None:
    """When a finished job leaves the dashboard; None while it is unfinished, or kept."""
    if job.finished_at is None or not job.is_finished or job.kept:
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
    """Tidies up every `cleanup_interval_seconds`: the dashboard, jobs with silent senders, sign-ins that ran out."""

    def __init__(self, manager: JobManager, accounts: Accounts, settings: Settings, clock: Clock) -> None:
        self._manager = manager
        self._accounts = accounts
        self._settings = settings
        self._clock = clock

    async def run_once(self) -> None:
        self._manager.break_off_silent(self._settings.external_timeout_seconds)
        self._manager.remove_from_dashboard(lambda job, now: leaves(job, now, self._settings))
        await self._accounts.prune()

    async def run(self) -> None:
        """Tidy until cancelled."""
        await repeat(self.run_once, every=self._settings.cleanup_interval_seconds, clock=self._clock, what="cleanup")


class Pruning:
    """Forgets progress history after `progress_retention_days`, every hour; jobs, videos and results stay.

    In small batches with pauses, so that ticks and readers never wait for long.
    """

    def __init__(self, store: JobStore, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock

    async def run_once(self) -> None:
        before = self._clock.now() - timedelta(days=self._settings.progress_retention_days)
        rows = 0
        after_job: str | None = ""
        while after_job is not None:
            old = await self._store.old_history(before=before, after_job=after_job)
            if old.rows:
                await self._store.forget_history(old)
            rows, after_job = rows + old.rows, old.look_after
            await self._clock.sleep(PAUSE_SECONDS)
        if rows:
            log.info("old progress history was pruned", extra={"action": "history_pruned", "rows": rows})

    async def run(self) -> None:
        """Prune until cancelled."""
        await repeat(self.run_once, every=PRUNING_INTERVAL_SECONDS, clock=self._clock, what="pruning")


class Erasure:
    """Wipes out what is left of deleted jobs, their rows and files, every `cleanup_interval_seconds`.

    In small batches with pauses, so that ticks and readers never wait for long.
    """

    def __init__(self, store: JobStore, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock

    async def run_once(self) -> None:
        for job_id in await self._store.deleted_jobs():
            try:
                await asyncio.to_thread(_remove, self._settings.outputs / job_id)
            except OSError:
                log.exception(
                    "a deleted job's files cannot be removed; tried again",
                    extra={"action": "erasure_failed", "job_id": job_id},
                )
                continue
            while await self._store.erase_some(job_id):
                await self._clock.sleep(PAUSE_SECONDS)
            log.info("a deleted job was erased", extra={"action": "job_erased", "job_id": job_id})

    async def run(self) -> None:
        """Erase until cancelled."""
        every = self._settings.cleanup_interval_seconds
        await repeat(self.run_once, every=every, clock=self._clock, what="erasure")


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
