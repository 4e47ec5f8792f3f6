"""What is known of the work on the jobs that run: sizes of files, earlier results, what each video took.

After a restart it is found again: the files and the results are stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backend.clock import Clock
from backend.domain.course import Course
from backend.domain.habits import Habit, Work, learned
from backend.domain.job import Job
from backend.domain.judgement import doubted, stage_of
from backend.domain.pace import Estimate
from backend.errors import StoreRefused
from backend.jobs.leases import Report, TryFailed, VideoFinished, VideoProgressed, VideoReturned, VideoStarted
from backend.media.sources import MediaSources
from backend.store.forecasts import DoneVideo, ForecastStore
from progress_dashboard.protocol import Status

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
Key = tuple[str, int]
"""A job and its attempt."""


@dataclass(frozen=True, slots=True)
class KnownCourse:
    """The course of an attempt, and by how much forecasts of its processor were off at each stage."""

    course: Course
    errors: dict[int, float | None]

    @property
    def finished(self) -> int:
        """Number of the attempt's videos with a result."""
        return self.course.finished

    def trusted(self, estimate: Estimate | None) -> Estimate | None:
        """Return the estimate as it may be shown."""
        stage = stage_of(self.course.finished, self.course.videos)
        return None if estimate is None else doubted(estimate, self.errors.get(stage))


@dataclass(frozen=True, slots=True)
class Preview:
    """How long a list will probably take with all `slots`: `size` bytes of files; learned from so many results."""

    videos: int
    size: float
    estimate: Estimate
    slots: int
    results: int


class Courses:
    """Follows the work on jobs of this server by the reports of their workers. `slots` gives the number of slots."""

    def __init__(self, store: ForecastStore, sources: MediaSources, clock: Clock, *, slots: Callable[[], int]) -> None:
        self._store = store
        self._sources = sources
        self._clock = clock
        self._slots = slots
        self._known: dict[Key, KnownCourse] = {}
        self._newest: dict[str, Job] = {}
        self._early: dict[Key, list[tuple[float, Report]]] = {}
        self._wanted: asyncio.Queue[Job] = asyncio.Queue()

    async def run(self) -> None:
        """Find out about the jobs that begin, one after the other, until cancelled."""
        while True:
            job = await self._wanted.get()
            key = job.id, job.attempt
            if key not in self._early:
                continue
            try:
                known = await self._find(job)
            except StoreRefused as error:
                extra = {"action": "course_refused", "job_id": job.id}
                log.warning("a job's results are read again later: %s", error.sentence, extra=extra)
                await self._clock.sleep(RETRY_SECONDS)
                self._wanted.put_nowait(job)
            else:
                self._begin(key, known)

    def learn(self, job: Job) -> None:
        """Take the newest state of a job."""
        key = job.id, job.attempt
        before = self._newest.get(job.id)
        if before is not None and before.attempt != job.attempt:
            self.forget(job.id)
        if job.is_external or job.is_finished:
            self.forget(job.id)
            return
        if known := self._known.get(key):
            self._newest[job.id] = job
            self._follow(known.course, job)
        elif job.status is Status.PROCESSING:
            self._want(job)
            self._newest[job.id] = job

    def forget(self, job_id: str) -> None:
        """Forget a job that is over or gone."""
        job = self._newest.pop(job_id, None)
        if job is not None:
            self._known.pop((job_id, job.attempt), None)
            self._early.pop((job_id, job.attempt), None)

    def report(self, job: Job, report: Report) -> None:
        """Take the report of a worker on one of the job's videos."""
        if job.is_finished:
            return
        key, now = (job.id, job.attempt), self._seconds()
        if known := self._known.get(key):
            _take(known.course, report, now)
        elif not isinstance(report, VideoProgressed):
            self._want(job)
            self._early[key].append((now, report))

    def known(self, job: Job) -> KnownCourse | None:
        """Return what is known of the job's attempt; None while that is nothing yet."""
        return self._known.get((job.id, job.attempt))

    def estimate(self, job: Job) -> Estimate | None:
        """Return when a job that runs will be done, as far as that is known."""
        known = self.known(job)
        return None if known is None else known.course.estimate(self._seconds(), self.lanes)

    def expected(self, job: Job) -> Estimate | None:
        """Return how long a waiting job will take with all slots for itself; finds out about it if need be."""
        known = self.known(job)
        if known is None:
            self._want(job)
            return None
        return known.trusted(known.course.estimate(self._seconds(), max(1, self._slots())))

    @property
    def lanes(self) -> float:
        """How many videos of each running job run at once: slots go round."""
        at_work = [job for job in self._newest.values() if job.status is Status.PROCESSING]
        running = [job for job in at_work if (known := self.known(job)) is None or not known.course.is_over]
        return max(1, self._slots()) / max(1, len(running))

    async def preview(self, video_ids: Sequence[str], work: Work) -> Preview | None:
        """Return how long a list would take, by what earlier results of the same work tell; None if that is nothing."""
        habit = await self.habit(work)
        if habit is None:
            return None
        sizes = await self._sources.of(work.source).sizes(video_ids)
        slots = max(1, self._slots())
        course = await asyncio.to_thread(_course, range(len(sizes)), sizes, (), habit, 0.0)
        known = KnownCourse(course, await self._store.usual_errors(work.processor))
        estimate = known.trusted(course.estimate(0.0, slots))
        sized = [size for size in sizes if size]
        present = sum(size != 0 for size in sizes)
        if estimate is None or not sized:
            return None
        return Preview(present, sum(sized) / len(sized) * present, estimate, slots, habit.results)

    async def habit(self, work: Work, *, but: str = "") -> Habit | None:
        """Return what earlier results of the same work tell, but those of one job; None if that is nothing."""
        results = await self._store.earlier_results(work, but=but)
        return await asyncio.to_thread(learned, results)

    def _want(self, job: Job) -> None:
        key = job.id, job.attempt
        if key not in self._early:
            self._early[key] = []
            self._newest[job.id] = job
            self._wanted.put_nowait(job)

    async def _find(self, job: Job) -> KnownCourse:
        left, done = await self._store.to_do(job)
        ids = {video.position: video.video_id for video in done} | left
        sizes = await self._sources.of(job.source).sizes(list(ids.values()))
        habit = await self.habit(Work.of(job), but=job.id)
        course = await asyncio.to_thread(_course, tuple(ids), sizes, done, habit, self._seconds())
        return KnownCourse(course, await self._store.usual_errors(job.processor))

    def _begin(self, key: Key, known: KnownCourse) -> None:
        reports = self._early.pop(key, None)
        if reports is None:  # it ended meanwhile
            return
        for at, report in reports:
            _take(known.course, report, at)
        self._known[key] = known
        self._follow(known.course, self._newest[key[0]])

    def _follow(self, course: Course, job: Job) -> None:
        at = job.updated_at.timestamp()
        if job.status is Status.PROCESSING:
            course.resume(at)
        else:
            course.pause(at)

    def _seconds(self) -> float:
        return self._clock.now().timestamp()


def _course(
    positions: Sequence[int], sizes: Sequence[int | None], done: Sequence[DoneVideo], habit: Habit | None, at: float
) -> Course:
    known = dict(sorted(zip(positions, sizes, strict=True)))
    course = Course(known, habit, at=at)
    for video in done:
        course.recall(video.position, video.seconds, failed=video.failed)
    return course


def _take(course: Course, report: Report, at: float) -> None:
    position = report.video.position
    match report:
        case VideoStarted():
            course.start(position, at)
        case VideoProgressed(_, fraction, _):
            course.progress(position, fraction, at)
        case TryFailed() | VideoReturned():
            course.give_back(position, at)
        case VideoFinished(_, _, seconds):
            course.end(position, seconds, failed=report.error is not None, at=at)
