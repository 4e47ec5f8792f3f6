"""What leaves the dashboard and the history, and when: the rules, and the timers that apply them."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from backend.accounts.accounts import Accounts
from backend.clock import Clock, repeat
from backend.domain.job import Job
from backend.domain.notification import KEPT_DAYS
from backend.jobs.external import ExternalJobs
from backend.jobs.manager import JobManager
from backend.jobs.outputs import Outputs
from backend.settings import Settings
from backend.store import Store
from backend.store.history import HistoryStore
from backend.store.notifications import NotificationStore
from progress_dashboard.protocol import WITH_FAILURES

log = logging.getLogger(__name__)
PRUNING_INTERVAL_SECONDS = 3600.0
PAUSE_SECONDS = 0.1


def leaves_at(job: Job, settings: Settings) -> datetime | None:
    """Return when a finished job leaves the dashboard; None while it is unfinished, or pinned."""
    if job.finished_at is None or not job.is_finished or job.pinned:
        return None
    failed = job.status in WITH_FAILURES
    return job.finished_at + timedelta(
        seconds=settings.failed_job_ttl_seconds if failed else settings.completed_job_ttl_seconds
    )


def leaves(job: Job, now: datetime, settings: Settings) -> bool:
    """Return True if the job's time on the dashboard is over."""
    at = leaves_at(job, settings)
    return at is not None and at <= now


class Cleanup:
    """Cleans up every `cleanup_interval_seconds`: the dashboard, jobs with silent senders, expired sign-ins."""

    def __init__(
        self, manager: JobManager, external: ExternalJobs, accounts: Accounts, settings: Settings, clock: Clock
    ) -> None:
        self._manager = manager
        self._external = external
        self._accounts = accounts
        self._settings = settings
        self._clock = clock

    async def run_once(self) -> None:
        self._external.fail_silent(self._settings.external_timeout_seconds)
        self._manager.remove_from_dashboard(lambda job, now: leaves(job, now, self._settings))
        await self._accounts.prune()

    async def run(self) -> None:
        """Clean up until cancelled."""
        await repeat(self.run_once, every=self._settings.cleanup_interval_seconds, clock=self._clock, what="cleanup")


class Pruning:
    """Deletes progress history after `progress_retention_days` and notifications after 30 days, every hour.

    Jobs, videos and results stay.

    It works in small batches with pauses, so that ticks and readers never wait for long.
    """

    def __init__(
        self,
        history: HistoryStore,
        settings: Settings,
        clock: Clock,
        *,
        notifications: NotificationStore | None = None,
    ) -> None:
        self._history = history
        self._notifications = notifications
        self._settings = settings
        self._clock = clock

    async def run_once(self) -> None:
        before = self._clock.now() - timedelta(days=self._settings.progress_retention_days)
        rows = 0
        after_job: str | None = ""
        while after_job is not None:
            old = await self._history.old(before=before, after_job=after_job)
            if old.rows:
                await self._history.delete_old(old)
            rows, after_job = rows + old.rows, old.next_after
            await self._clock.sleep(PAUSE_SECONDS)
        if rows:
            log.info("old progress history was pruned", extra={"action": "history_pruned", "rows": rows})
        kept_from = self._clock.now() - timedelta(days=KEPT_DAYS)
        while self._notifications and await self._notifications.prune(before=kept_from):
            await self._clock.sleep(PAUSE_SECONDS)

    async def run(self) -> None:
        """Prune until cancelled."""
        await repeat(self.run_once, every=PRUNING_INTERVAL_SECONDS, clock=self._clock, what="pruning")


class Erasure:
    """Erases the rows and files that are left of deleted jobs, every `cleanup_interval_seconds`.

    Their results are counted for the statistics before.

    It works in small batches with pauses, so that ticks and readers never wait for long.
    """

    def __init__(self, store: Store, outputs: Outputs, settings: Settings, clock: Clock) -> None:
        self._jobs = store.jobs
        self._statistics = store.statistics
        self._outputs = outputs
        self._settings = settings
        self._clock = clock

    async def run_once(self) -> None:
        deleted = await self._jobs.deleted()
        if deleted:
            await self._statistics.count()
        for job_id in deleted:
            try:
                await asyncio.to_thread(self._outputs.remove, job_id)
            except OSError:
                log.exception(
                    "a deleted job's files cannot be removed; tried again",
                    extra={"action": "erasure_failed", "job_id": job_id},
                )
                continue
            while await self._jobs.erase_some(job_id):
                await self._clock.sleep(PAUSE_SECONDS)
            log.info("a deleted job was erased", extra={"action": "job_erased", "job_id": job_id})

    async def run(self) -> None:
        """Erase until cancelled."""
        every = self._settings.cleanup_interval_seconds
        await repeat(self.run_once, every=every, clock=self._clock, what="erasure")
