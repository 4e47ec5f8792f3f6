"""When the processing jobs will be done: by what is known of their work, else learned by watching them.

What is said at the start and at 10, 25 and 50 % is stored, and judged when the job ends (`domain.judgement`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from backend.clock import Clock
from backend.delivery.hub import Reader
from backend.domain.job import Job
from backend.domain.judgement import SaidForecast, stage_of
from backend.domain.pace import REPAINT_SECONDS, Estimate, Forecast, share_of_work
from backend.jobs.courses import Courses
from progress_dashboard.protocol import Status

RESTING = (Status.PENDING, Status.PAUSED)  # they may continue


class Forecasts:
    """Watches all jobs. `courses` knows the work of those that run here, `say` stores what is said."""

    def __init__(
        self,
        watch: Callable[[], Reader],
        clock: Clock,
        *,
        courses: Courses | None = None,
        say: Callable[[SaidForecast], None] = lambda said: None,
    ) -> None:
        self._watch = watch
        self._clock = clock
        self._courses = courses
        self._say = say
        self._of: dict[str, Forecast] = {}
        self._shown: dict[str, tuple[int, datetime, Estimate | None]] = {}
        self._said: dict[str, tuple[int, int]] = {}

    async def run(self) -> None:
        """Learn from every state that comes, until cancelled."""
        await self._watch().follow(self._learn, self._forget)

    def of(self, job: Job) -> Estimate | None:
        """Return the estimate to show now; None while too little is known, and unless the job is processing.

        It is the same for some seconds.
        """
        if job.status is not Status.PROCESSING:
            return None
        known = self._courses.known(job) if self._courses else None
        if known is None:
            return self._by_counting(job)
        now = self._clock.now()
        attempt, at, estimate = self._shown.get(job.id, (0, now, None))
        if attempt != job.attempt or now - at >= timedelta(seconds=REPAINT_SECONDS):
            estimate = known.trusted(self._by_work(job))
            self._shown[job.id] = job.attempt, now, estimate
        return estimate

    def _by_work(self, job: Job) -> Estimate | None:
        return self._courses.estimate(job) if self._courses else None

    def _by_counting(self, job: Job) -> Estimate | None:
        forecast = self._of.get(job.id)
        if forecast is None or forecast.attempt != job.attempt:
            return None
        share = 1.0 if job.is_external else _share_of_work(job)
        self._of[job.id] = forecast = forecast.estimated(job.undone, self._clock.now(), share)
        return forecast.estimate

    def _learn(self, job: Job) -> None:
        if self._courses:
            self._courses.learn(job)
        is_at_work = job.status is Status.PROCESSING
        if not is_at_work and job.status not in RESTING:
            self._forget(job.id)
            return
        forecast = self._of.get(job.id) or Forecast()
        self._of[job.id] = forecast.after(
            attempt=job.attempt,
            finished=job.current_video,
            failed=job.failed,
            is_at_work=is_at_work,
            at=job.updated_at,
        )
        if is_at_work:
            self._note(job)

    def _note(self, job: Job) -> None:
        """Store what is said at the stage that the job has reached, once."""
        known = self._courses.known(job) if self._courses else None
        if known is None and not job.is_external:
            return
        done = (job.current_video, job.total_videos) if known is None else (known.course.finished, known.course.videos)
        stage = stage_of(*done)
        if self._said.get(job.id) == (job.attempt, stage):
            return
        estimate = self._by_counting(job) if known is None else self._by_work(job)
        if estimate is None:
            return
        self._said[job.id] = job.attempt, stage
        now = self._clock.now()
        said = SaidForecast.of(
            estimate, job_id=job.id, attempt=job.attempt, stage=stage, processor=job.processor, at=now
        )
        self._say(said)

    def _forget(self, job_id: str) -> None:
        for known in (self._of, self._shown, self._said):
            known.pop(job_id, None)
        if self._courses:
            self._courses.forget(job_id)


def _share_of_work(job: Job) -> float:
    return share_of_work(found=job.found, total=job.total_videos, finished=job.current_video, failed=job.failed)
