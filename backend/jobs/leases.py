"""What a worker may do: claim a job, ask for its videos, record what happened to them, release the job.

This is the entry point of every worker. Whatever it says under a lease that it no longer holds is ignored.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backend.clock import Clock
from backend.delivery.journal import Journal
from backend.domain import messages
from backend.domain.causes import fingerprint
from backend.domain.job import Job
from backend.domain.texts import storable
from backend.domain.video import Video, VideoStatus
from backend.errors import Fault, StoreRefused
from backend.jobs.active import ActiveJob, ActiveJobs, FailureStreak, StopSignal
from backend.jobs.executor import Executor, enqueue
from backend.store.changes import Reset, VideoChange
from backend.store.videos import VideoStore
from progress_dashboard.protocol import CANCEL, MAX_ERROR_LENGTH, MAX_TEXT_LENGTH, PAUSE, Status

log = logging.getLogger(__name__)
VIDEOS_AT_ONCE = 200
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a job, in its state when it was claimed; `stop` tells the holder to end the work."""

    job: Job
    stop: StopSignal


@dataclass(frozen=True, slots=True)
class VideoStarted:
    """The work on a video begins."""

    video: Video


@dataclass(frozen=True, slots=True)
class VideoProgressed:
    """A running video got to `fraction` (0 to 1) of its work; `doing` is a word such as "decoding"."""

    video: Video
    fraction: float
    doing: str


@dataclass(frozen=True, slots=True)
class VideoReturned:
    """No machine works on a video any more, although its try has not ended; another one may begin with it."""

    video: Video


@dataclass(frozen=True, slots=True)
class TryFailed:
    """A try at a video failed in a way that may pass; the next try follows in `seconds`."""

    video: Video
    error: str
    fault: Fault
    seconds: float
    run_id: int | None = None


@dataclass(frozen=True, slots=True)
class VideoFinished:
    """A video has its result after `tries` tries: `error`, `traceback` and `fault`, or `result`.

    `is_changing` is True if the file is still changing. `machine` worked on it; `run_id` is its run there, if that has
    a row (`store.runs`).
    """

    video: Video
    started_at: datetime
    duration_seconds: float
    result: Mapping[str, Any] | None = None
    error: str | None = None
    traceback: str | None = None
    fault: Fault | None = None
    tries: int = 1
    is_changing: bool = False
    machine: str | None = None
    run_id: int | None = None


Report = VideoStarted | VideoProgressed | VideoReturned | TryFailed | VideoFinished


class Leases:
    """Hands jobs to workers. A job pauses itself after `pause_after_failures` in a row for one cause of the machine.

    `on_report` hears each report that counts.
    """

    def __init__(
        self,
        active: ActiveJobs,
        journal: Journal,
        videos: VideoStore,
        executor: Executor,
        clock: Clock,
        *,
        pause_after_failures: int,
        on_report: Callable[[Job, Report], None] = lambda job, report: None,
    ) -> None:
        self._active = active
        self._journal = journal
        self._videos = videos
        self._executor = executor
        self._clock = clock
        self._pause_after_failures = pause_after_failures
        self._on_report = on_report
        self._draining = False

    def drain(self) -> None:
        """Start no further videos, because the server stops."""
        self._draining = True
        for active in self._active:
            active.stop.drain()

    async def claim(self, job_id: str) -> Lease | None:
        """Return a lease of the job, now processing; None if it is no longer waiting, or the server stops."""
        active = self._active.get(job_id)
        if active is not None and active.job.lease_id:
            await self._journal.durable()  # the new holder reads the unfinished videos from the store
        if active is not None and active.is_left_over and not self._draining:
            return self._claim_left_over(active)
        if active is None or active.job.status is not Status.PENDING or self._draining:
            return None
        active.fractions.clear()
        active.stop, active.streak = StopSignal(), FailureStreak()
        return Lease(self._active.change(active, active.job.claimed(at=self._clock.now())), active.stop)

    def _claim_left_over(self, active: ActiveJob) -> Lease | None:
        """Return a lease to end what goes on since an earlier run of the server, and was requested to end."""
        active.is_left_over = False
        if active.job.status is not Status.PROCESSING:
            return None
        if active.job.requested == CANCEL:
            active.stop.kill()
        elif active.job.requested == PAUSE:
            active.stop.drain()
        job = active.snapshot().evolve(lease_id=active.job.lease_id + 1)
        return Lease(self._active.change(active, job), active.stop)

    def is_held(self, lease: Lease) -> bool:
        """Return True if the job is still under this lease."""
        return self._held(lease) is not None

    async def until_storing(self) -> None:
        """Return when results can be stored: work whose results pile up in memory is not begun."""
        await self._journal.until_storing()

    async def pending_videos(self, lease: Lease) -> AsyncIterator[Video]:
        """Yield the job's videos without a result, in the order of the list."""
        position = -1
        while videos := await self._next_pending(lease.job, position):
            for video in videos:
                yield video
            position = videos[-1].position

    async def videos_at(self, lease: Lease, positions: Collection[int]) -> list[Video]:
        """Return the videos at these positions that have no result yet."""
        return await self._read(lease.job, lambda: self._videos.pending_at(lease.job.id, positions))

    def record(self, lease: Lease, report: Report) -> None:
        """Record what happened to a video."""
        active = self._held(lease)
        if active is None:
            return
        match report:
            case VideoStarted(video):
                self._started(active, video)
            case VideoProgressed(video, fraction, doing):
                self._progressed(active, video, fraction, doing)
            case VideoReturned(video):
                self._returned(active, video)
            case TryFailed():
                self._try_failed(active, report)
            case VideoFinished():
                self._finished(active, report)
        self._on_report(active.job, report)

    async def release(self, lease: Lease, *, goes_on: bool = False) -> None:
        """Release the job after all its child processes have exited. Unfinished videos become pending again.

        Applies a pending cancel or pause; otherwise the job waits again. `goes_on`: its videos go on without this
        server, so that the next run of the server applies what is pending.
        """
        active = self._held(lease)
        if active is None or (goes_on and active.job.requested is not None):
            return
        now, job = self._clock.now(), active.snapshot()
        continues = job.requested is None and not self._draining
        job = job.enqueued(at=now) if continues else job.released(at=now, message=messages.WAITING_TO_CONTINUE)
        self._active.change(active, job, resets=(Reset(job.id),))
        if continues:
            await enqueue(self._executor, job)

    def fail(self, lease: Lease, sentence: str) -> None:
        """End a job that itself failed, whatever its videos did. Running videos become pending again."""
        if active := self._held(lease):
            failed = active.snapshot().with_job_error(sentence, at=self._clock.now())
            self._active.change(active, failed, resets=(Reset(failed.id),))

    def _held(self, lease: Lease) -> ActiveJob | None:
        active = self._active.get(lease.job.id)
        if active is None or active.job.lease_id != lease.job.lease_id or active.job.status is not Status.PROCESSING:
            return None
        return active

    async def _next_pending(self, job: Job, position: int) -> list[Video]:
        return await self._read(job, lambda: self._videos.pending(job.id, after=position, limit=VIDEOS_AT_ONCE))

    async def _read(self, job: Job, videos: Callable[[], Coroutine[Any, Any, list[Video]]]) -> list[Video]:
        """Read videos, retrying while the database is busy or away: a job does not end by that."""
        while True:
            try:
                return await videos()
            except StoreRefused as error:
                extra = {"action": "videos_refused", "job_id": job.id}
                log.warning("a job's videos are read again later: %s", error.sentence, extra=extra)
                await self._clock.sleep(RETRY_SECONDS)

    def _started(self, active: ActiveJob, video: Video) -> None:
        active.fractions[video.position] = 0.0
        self._step(active, video, "starting", videos=(_with_status(video, VideoStatus.PROCESSING),))

    def _progressed(self, active: ActiveJob, video: Video, fraction: float, doing: str) -> None:
        active.fractions[video.position] = min(1.0, max(active.fractions.get(video.position, 0.0), fraction))
        self._step(active, video, doing)

    def _returned(self, active: ActiveJob, video: Video) -> None:
        if active.fractions.pop(video.position, None) is not None:
            self._step(active, video, "waiting for a worker", videos=(_with_status(video, VideoStatus.PENDING),))

    def _try_failed(self, active: ActiveJob, report: TryFailed) -> None:
        video = report.video
        active.fractions.pop(video.position, None)
        waiting = f"trying again in {report.seconds:.0f} s"
        self._step(active, video, waiting, videos=(_with_status(video, VideoStatus.PENDING, run_id=report.run_id),))
        self._count_failure(active, video, report.error, report.fault)

    def _finished(self, active: ActiveJob, report: VideoFinished) -> None:
        video, error = report.video, storable(report.error, max_length=MAX_ERROR_LENGTH)
        active.fractions.pop(video.position, None)
        job = active.job.with_result(
            video_id=video.video_id,
            error=error,
            fractions=sum(active.fractions.values()),
            running=len(active.fractions),
            at=self._clock.now(),
        )
        videos = (_with_result(video, report, error, job_attempt=job.attempt),)
        if error is not None or job.is_finished:
            self._active.change(active, job, videos=videos)
        else:
            active.replace(job)
            self._active.progress(active, videos=videos)
        if error is None:
            active.streak = FailureStreak()
        else:
            self._count_failure(active, video, error, report.fault or Fault.PERMANENT)

    def _step(self, active: ActiveJob, video: Video, doing: str, *, videos: tuple[VideoChange, ...] = ()) -> None:
        active.take_step(video, doing, at=self._clock.now())
        self._active.progress(active, videos=videos)

    def _count_failure(self, active: ActiveJob, video: Video, error: str, fault: Fault) -> None:
        """Pause the job if the machine spoils one try after the other: every further video would only fail too."""
        if fault is not Fault.MACHINE:
            return
        active.streak = active.streak.with_failure(fingerprint(error, video.video_id))
        failures = active.streak.failures
        if failures < self._pause_after_failures or active.job.requested is not None or active.job.is_finished:
            return
        reason = messages.failures_in_a_row(failures, storable(error, max_length=MAX_TEXT_LENGTH) or "")
        active.stop.drain()
        self._active.request(active, PAUSE, messages.pausing_itself(reason), reason)
        extra = {"action": "job_paused_itself", "job_id": video.job_id, "pause_reason": reason}
        log.warning("job paused itself", extra=extra)


def _with_status(video: Video, status: VideoStatus, *, run_id: int | None = None) -> VideoChange:
    return VideoChange(
        job_id=video.job_id, position=video.position, status=status, attempts=video.attempts, run_id=run_id
    )


def _with_result(video: Video, report: VideoFinished, error: str | None, *, job_attempt: int) -> VideoChange:
    return VideoChange(
        job_id=video.job_id,
        position=video.position,
        status=VideoStatus.COMPLETED if error is None else VideoStatus.FAILED,
        attempts=video.attempts + 1,
        started_at=report.started_at,
        duration_seconds=report.duration_seconds,
        error=error,
        traceback=storable(report.traceback),
        fault=report.fault,
        fingerprint=None if error is None else fingerprint(error, video.video_id),
        job_attempt=job_attempt,
        tries=report.tries,
        result=report.result,
        machine=report.machine,
        run_id=report.run_id,
    )
