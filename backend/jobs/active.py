"""The jobs that are unfinished or on the dashboard, and the only writer of their live state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from backend.clock import Clock
from backend.delivery.hub import ProgressHub
from backend.delivery.journal import Journal
from backend.domain.auth import User
from backend.domain.job import Job, Selection
from backend.domain.video import Video
from backend.errors import JobNotFound
from backend.store.changes import NewJob, Reset, VideoChange

log = logging.getLogger(__name__)


class StopSignal:
    """The one way to stop the holder of a lease: `drain` starts no further videos, `kill` also ends running ones."""

    def __init__(self) -> None:
        self._drain, self._kill = asyncio.Event(), asyncio.Event()

    @property
    def is_draining(self) -> bool:
        """True after `drain` and after `kill`."""
        return self._drain.is_set()

    @property
    def is_killed(self) -> bool:
        """True after `kill`."""
        return self._kill.is_set()

    def drain(self) -> None:
        self._drain.set()

    def kill(self) -> None:
        self._drain.set()
        self._kill.set()

    async def until_draining(self) -> None:
        """Return after `drain` or `kill`."""
        await self._drain.wait()

    async def until_killed(self) -> None:
        """Return after `kill`."""
        await self._kill.wait()


@dataclass(frozen=True, slots=True)
class FailureStreak:
    """Failures in a row, since a video succeeded, for one cause that lies with the machine."""

    cause: str = ""
    failures: int = 0

    def with_failure(self, cause: str) -> FailureStreak:
        """Return the streak with one more failure."""
        return FailureStreak(cause, self.failures + 1 if cause == self.cause else 1)


@dataclass(frozen=True, slots=True)
class VideoStep:
    """The newest step of one of a job's running videos."""

    video_id: str
    doing: str
    at: datetime


@dataclass(eq=False)
class ActiveJob:
    """A job with the state of its work that is not stored.

    `fractions` are the shares of the running videos (0 to 1) by position. `retried` is what the current attempt
    took, if it began in this run of the server. `is_left_over`: its videos go on, on workers, since an earlier run
    of it. For an external job: `positions` of its videos by ID, read with the first report that names one,
    `failed_positions`, and `last_report_at`, the monotonic time of the newest report.
    """

    job: Job
    last_report_at: float
    fractions: dict[int, float] = field(default_factory=dict)
    stop: StopSignal = field(default_factory=StopSignal)
    streak: FailureStreak = FailureStreak()
    retried: Selection | None = None
    is_left_over: bool = False
    positions: Mapping[str, int] = field(default_factory=dict)
    failed_positions: set[int] = field(default_factory=set)
    _step: VideoStep | None = None

    @property
    def id(self) -> str:
        return self.job.id

    def snapshot(self) -> Job:
        """Return the newest state. The newest step goes into it only now, since most steps are overtaken before."""
        if self._step is not None:
            step, fractions = self._step, self.fractions.values()
            self.replace(
                self.job.progressed(
                    fractions=sum(fractions),
                    running=len(fractions),
                    video_id=step.video_id,
                    doing=step.doing,
                    at=step.at,
                )
            )
        return self.job

    def replace(self, job: Job) -> None:
        """Take the next state, which includes the steps so far."""
        self.job, self._step = job, None

    def take_step(self, video: Video, doing: str, *, at: datetime) -> None:
        """Take a step of a running video."""
        self._step = VideoStep(video.video_id, doing, at)


class ActiveJobs:
    """Decides on the next state of jobs and stages it; the journal stores and shows it with its next tick."""

    def __init__(self, journal: Journal, hub: ProgressHub, clock: Clock) -> None:
        self._journal = journal
        self._hub = hub
        self._clock = clock
        self._active: dict[str, ActiveJob] = {}

    def __iter__(self) -> Iterator[ActiveJob]:
        return iter(tuple(self._active.values()))

    def load(self, jobs: Iterable[Job]) -> None:
        """Begin with these jobs, as they are stored."""
        now = self._clock.monotonic()
        self._active = {job.id: ActiveJob(job, now) for job in jobs}

    def get(self, job_id: str) -> ActiveJob | None:
        return self._active.get(job_id)

    def visible(self, job_id: str, by: User) -> ActiveJob | None:
        """Return the job if it is active. Raises `JobNotFound` if it is another user's."""
        active = self._active.get(job_id)
        if active is not None and not by.may_see(active.job.owner_id):
            raise JobNotFound
        return active

    def unfinished(self, job_id: str, by: User) -> ActiveJob | None:
        """Return the job if it is active and has not ended. Raises `JobNotFound` if it is another user's."""
        active = self.visible(job_id, by)
        return active if active is not None and not active.job.is_finished else None

    def add(self, new: NewJob) -> None:
        """Let a new job appear."""
        self._active[new.job.id] = ActiveJob(new.job, self._clock.monotonic())
        self._journal.stage_new(new)

    def revive(self, job: Job) -> ActiveJob:
        """Return the job as an active one, also if it has left the dashboard."""
        return self._active.setdefault(job.id, ActiveJob(job, self._clock.monotonic()))

    def change(
        self, active: ActiveJob, job: Job, *, videos: Sequence[VideoChange] = (), resets: Sequence[Reset] = ()
    ) -> Job:
        """Give the job its next state, which is stored and sent for itself."""
        has_ended = job.is_finished and not active.job.is_finished
        active.replace(job)
        self._journal.stage(job, videos=videos, resets=resets)
        if has_ended:
            extra = {"action": "job_ended", "job_id": job.id, "status": job.status.value, "failed": job.failed}
            log.info("job ended", extra=extra)
        return job

    def progress(self, active: ActiveJob, *, videos: Sequence[VideoChange] = ()) -> None:
        """Show the job's newest state, conflated with what follows until the next tick."""
        self._journal.stage_progress(active, videos=videos)

    def request(self, active: ActiveJob, requested: str | None, message: str, pause_reason: str | None = None) -> None:
        """Request something of a running job; it is applied when the holder releases the job."""
        now = self._clock.now()
        self.change(
            active, active.snapshot().with_request(requested, at=now, message=message, pause_reason=pause_reason)
        )

    def remove(self, job: Job, *, is_deleted: bool = False) -> None:
        """Remove the job from the dashboard; it stays in History unless it `is_deleted`."""
        self._active.pop(job.id, None)
        self._journal.stage_removal(job, is_deleted=is_deleted)
        if not is_deleted:
            log.info("job left the dashboard", extra={"action": "job_removed", "job_id": job.id})

    async def stored(self, job_id: str) -> Job | None:
        """Return the newest stored state once everything decided so far is stored; None if the job is not active.

        Raises `StoreRefused` if that has to wait.
        """
        await self._journal.durable(patient=False)
        return self._hub.job(job_id) if job_id in self._active else None
