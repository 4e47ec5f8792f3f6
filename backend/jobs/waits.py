"""Jobs whose videos no machine takes: their state says why, in every place that shows a job."""

from __future__ import annotations

from collections.abc import Callable

from backend.clock import Clock, repeat
from backend.domain.job import Job
from backend.jobs.active import ActiveJob, ActiveJobs
from progress_dashboard.protocol import Status

CHECK_SECONDS = 1.0
WAITING = (Status.PENDING, Status.PROCESSING)


class Waits:
    """`reason` returns why no machine takes the videos of a processor; None if one does, be it a busy one.

    A reason counts when it is found twice in a row, so that a machine that connects again at once is not missed, and
    not in the first `settling_seconds`, in which all machines connect again.
    """

    def __init__(
        self,
        active: ActiveJobs,
        reason: Callable[[str], str | None],
        clock: Clock,
        *,
        settling_seconds: float = 0.0,
    ) -> None:
        self._active = active
        self._reason = reason
        self._clock = clock
        self._settling_seconds = settling_seconds
        self._found: dict[str, str | None] = {}

    async def run(self) -> None:
        """Check once a second, until cancelled."""
        await self._clock.sleep(self._settling_seconds)
        await repeat(self.run_once, every=CHECK_SECONDS, clock=self._clock, what="the check of waiting jobs")

    async def run_once(self) -> None:
        """Let each job that waits for a machine say so, and each one that no longer does be as it was."""
        before, self._found = self._found, {}
        for active in self._active:
            reason = self._reason_of(active)
            if reason is not None and before.get(active.job.processor) is None:
                continue
            if reason != active.job.waiting_reason:
                active.replace(active.snapshot().waiting_for(reason, at=self._clock.now()))
                self._active.progress(active)

    def _reason_of(self, active: ActiveJob) -> str | None:
        job = active.job
        if not _may_wait(job) or active.fractions:
            return None
        if job.processor not in self._found:
            self._found[job.processor] = self._reason(job.processor)
        return self._found[job.processor]


def _may_wait(job: Job) -> bool:
    return job.status in WAITING and job.requested is None and not job.is_external
