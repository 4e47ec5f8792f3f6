"""When the processing jobs will be done, learned by watching them."""

from __future__ import annotations

from collections.abc import Callable

from backend.clock import Clock
from backend.delivery.hub import Reader
from backend.domain.job import Job
from backend.domain.pace import Estimate, Forecast, share_of_work
from progress_dashboard.protocol import Status

RESTING = (Status.PENDING, Status.PAUSED)  # they may continue


class Forecasts:
    """Watches all jobs. What was before this start of the server is unknown."""

    def __init__(self, watch: Callable[[], Reader], clock: Clock) -> None:
        self._watch = watch
        self._clock = clock
        self._of: dict[str, Forecast] = {}

    async def run(self) -> None:
        """Learn from every state that comes, until cancelled."""
        reader = self._watch()
        while True:
            view = await reader.next()
            for job in view.updates:
                self._learn(job)
            for job_id in view.removed:
                self._of.pop(job_id, None)

    def of(self, job: Job) -> Estimate | None:
        """Return the estimate to show now; None while too little was seen, and unless the job is processing."""
        forecast = self._of.get(job.id)
        if forecast is None or forecast.attempt != job.attempt or job.status is not Status.PROCESSING:
            return None
        share = 1.0 if job.is_external else _share_of_work(job)
        self._of[job.id] = forecast = forecast.estimated(job.undone, self._clock.now(), share)
        return forecast.estimate

    def _learn(self, job: Job) -> None:
        is_at_work = job.status is Status.PROCESSING
        if not is_at_work and job.status not in RESTING:
            self._of.pop(job.id, None)
            return
        forecast = self._of.get(job.id) or Forecast()
        self._of[job.id] = forecast.after(
            attempt=job.attempt,
            finished=job.current_video,
            failed=job.failed,
            is_at_work=is_at_work,
            at=job.updated_at,
        )


def _share_of_work(job: Job) -> float:
    return share_of_work(found=job.found, total=job.total_videos, finished=job.current_video, failed=job.failed)
