"""The steering half of the backend over a real store: with an executor that only records, or with one that runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from backend.delivery.hub import ProgressHub
from backend.delivery.journal import Journal
from backend.domain.auth import User
from backend.domain.job import Job
from backend.domain.video import Video
from backend.errors import Fault, StoreRefused
from backend.executors.inprocess import InProcessExecutor
from backend.executors.runs import LocalRuns, OnReturn, OnStart, OnStep, RunOutcome, Runs, UntilDraining
from backend.executors.slots import Slots
from backend.executors.video_work import RetryPolicy, VideoWork
from backend.jobs.active import ActiveJobs
from backend.jobs.courses import Courses
from backend.jobs.executor import Executor, ProcessJob
from backend.jobs.external import ExternalJobs
from backend.jobs.leases import Lease, Leases, Report, VideoFinished
from backend.jobs.manager import JobManager
from backend.jobs.outputs import Outputs
from backend.jobs.queries import JobQueries
from backend.jobs.submission import Order
from backend.lists.csv_files import list_of_ids
from backend.media.demo import DemoClips
from backend.media.directory import MediaDirectory
from backend.media.sources import MediaSources
from backend.processors import Step
from backend.store import Store
from backend.store.changes import Tick
from backend.store.database import Database
from progress_dashboard.protocol import Status
from tests.support.clock import NOON, QuickClock, VirtualClock
from tests.support.fake_children import Processes
from tests.support.run_places import JobsInFlight, placed

TIMEOUT_SECONDS = 10
SCAN_SECONDS = 60  # after which files that were added are found
REFUSAL_SECONDS = 0.005
RETRIES = 2
PAUSE_AFTER_FAILURES = 3
ANA = User(id="ana", name="ana", is_admin=False)
BEN = User(id="ben", name="ben", is_admin=False)
ADMIN = User(id="admin", name="admin", is_admin=True)


def finished(
    video: Video, error: str | None = None, *, fault: Fault | None = None, traceback: str | None = None
) -> VideoFinished:
    """Return the report that a video has its result."""
    if error is None:
        return VideoFinished(video, NOON, 1.5, result={"frames": 25})
    return VideoFinished(video, NOON, 1.5, error=error, fault=fault, traceback=traceback)


class RefusingStore(Store):
    """Refuses every tick from `refuse` to `accept`, as when a disk is full for a while."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._accepted = inf

    def refuse(self, *, after: int = 0) -> None:
        """Refuse all ticks after this many."""
        self._accepted = after

    def accept(self) -> None:
        """Accept everything again."""
        self._accepted = inf

    async def commit(self, tick: Tick) -> None:
        if self._accepted == 0:
            await asyncio.sleep(REFUSAL_SECONDS)
            raise StoreRefused
        self._accepted -= 1
        await super().commit(tick)


class RecordingExecutor:
    """Runs nothing. Records submissions (job ID, user, whether the job was stored by then) and withdrawn IDs."""

    def __init__(self, store: Store) -> None:
        self.submitted: list[tuple[str, str, bool]] = []
        self.priorities: dict[str, int] = {}
        self.withdrawn: list[str] = []
        self._store = store

    async def start(self, process_job: ProcessJob) -> None:
        raise AssertionError("this executor runs nothing")

    async def submit(self, job_id: str, *, user: str, priority: int = 0) -> None:
        is_stored = await self._store.jobs.find(job_id, owner_id=None) is not None
        self.submitted.append((job_id, user, is_stored))
        self.priorities[job_id] = priority

    async def withdraw(self, job_id: str) -> None:
        self.withdrawn.append(job_id)

    async def shutdown(self, grace: float) -> None:
        raise AssertionError("this executor runs nothing")


@dataclass(frozen=True)
class Parts:
    """The parts that steer jobs. The journal ticks without waiting, the clock moves only by `advance`."""

    store: Store
    hub: ProgressHub
    journal: Journal
    active: ActiveJobs
    queries: JobQueries
    external: ExternalJobs
    leases: Leases
    manager: JobManager
    sources: MediaSources
    clock: QuickClock
    courses: Courses

    def add_file(self, video_id: str) -> None:
        """Put something under this ID into the media directory."""
        (self.sources.media.root / f"{video_id}.mp4").write_bytes(b"no video, but not empty")

    async def submit(
        self, *video_ids: str, by: User = ANA, name: str = "list.csv", processor: str = "probe", key: str | None = None
    ) -> Job:
        """Return a new job over these videos; `key` is the idempotency key of the request."""
        await self.clock.advance(SCAN_SECONDS)
        order = Order(name=name, processor=processor)
        return (await self.manager.submit(list_of_ids(video_ids), order, by=by, idempotency_key=key)).job

    async def new_job(self, name: str, videos: int, *, by: User = ANA) -> Job:
        """Return a new job over this number of files, which are named after it."""
        video_ids = [f"{name}-{number}" for number in range(videos)]
        for video_id in video_ids:
            self.add_file(video_id)
        return await self.submit(*video_ids, by=by, name=name)

    async def stored(self, job: Job) -> Job:
        """Return the job as it is stored after everything staged so far."""
        await self.journal.durable()
        return await self.queries.find(job.id, by=ADMIN)

    async def videos(self, job: Job) -> list[Video]:
        """Return the job's videos as they are stored after everything staged so far."""
        await self.journal.durable()
        return (await self.queries.videos(job.id, by=ADMIN)).items


@dataclass(frozen=True)
class Managed(Parts):
    """Nothing runs but what the test claims and reports. `held` is the newest lease of each job that it claimed."""

    executor: RecordingExecutor
    held: dict[str, Lease] = field(default_factory=dict)

    async def claim(self, job: Job) -> Lease:
        """Return a lease of the job, held by the test."""
        lease = await self.leases.claim(job.id)
        assert lease is not None
        self.held[job.id] = lease
        return lease

    async def report(self, lease: Lease, *reports: Report) -> None:
        """Record these reports; they are stored and shown when this returns."""
        for report in reports:
            self.leases.record(lease, report)
        await self.journal.durable()

    async def run(self, job: Job, errors: Iterable[str | None]) -> Job:
        """Claim the job, and finish as many of its videos as there are `errors`; returns the stored job."""
        return await self.run_under(await self.claim(job), errors)

    async def run_under(self, lease: Lease, errors: Iterable[str | None]) -> Job:
        """Finish videos of a job that the test holds already."""
        for error in errors:
            video = await anext(self.leases.pending_videos(lease))
            await self.report(lease, finished(video, error))
        return await self.stored(lease.job)


@dataclass(frozen=True)
class Working(Parts):
    """Jobs run, with processes that end when the test says so. `waits` is the clock of the pauses between tries."""

    executor: InProcessExecutor
    work: VideoWork
    slots: Slots
    processes: Processes
    waits: VirtualClock

    async def started_job(self, name: str, videos: int, *, running: int) -> Job:
        """Return a new job over so many videos, once this many processes have been started in all."""
        job = await self.new_job(name, videos)
        await self.processes.until_started(running)
        return job

    async def statuses(self, job: Job) -> list[str]:
        """Return the status of each of the job's videos as it is stored."""
        return [video.status.value for video in await self.videos(job)]

    async def reaches(self, job: Job, status: Status) -> list[Job]:
        """Return the states of the job that a reader sees from now until this status."""
        return await self.sees(job, lambda state: state.status is status)

    async def sees(self, job: Job, happened: Callable[[Job], bool]) -> list[Job]:
        """Return the states of the job that a reader sees from now until one for which `happened` is True."""
        reader, seen = self.queries.watch(by=ADMIN), list[Job]()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not seen or not happened(seen[-1]):
                seen += [state for state in (await reader.next()).updates if state.id == job.id]
        return seen


def build_parts(
    store: Store,
    directory: Path,
    executor: Executor,
    clock: QuickClock,
    *,
    hub: ProgressHub | None = None,
    pause_after_failures: int = PAUSE_AFTER_FAILURES,
    jobs_in_flight: JobsInFlight | None = None,
) -> Parts:
    """Return the parts over `store`, with the media directory `directory/media`."""
    hub = hub or ProgressHub()
    journal = Journal(store, hub, clock)
    active, queries = ActiveJobs(journal, hub, clock), JobQueries(store, hub)
    external = ExternalJobs(active, queries, store.videos, clock)
    sources = media_sources(directory, clock)
    courses = Courses(store.forecasts, sources, clock, slots=lambda: 1)
    leases = Leases(
        active,
        journal,
        store.videos,
        executor,
        clock,
        pause_after_failures=pause_after_failures,
        on_report=courses.report,
    )
    manager = JobManager(
        store=store,
        journal=journal,
        active=active,
        queries=queries,
        external=external,
        executor=executor,
        sources=sources,
        clock=clock,
        jobs_in_flight=jobs_in_flight,
    )
    return Parts(store, hub, journal, active, queries, external, leases, manager, sources, clock, courses)


@asynccontextmanager
async def open_managed(store: Store, directory: Path) -> AsyncIterator[Managed]:
    """Yield the parts over `store`; they end with the journal's last tick."""
    executor = RecordingExecutor(store)
    async with _opened(store, directory, executor, QuickClock()) as parts:
        yield Managed(**vars(parts), executor=executor)


@asynccontextmanager
async def open_working(
    store: Store, directory: Path, *, slots: int = 2, max_running: int = 4, max_running_per_user: int = 4
) -> AsyncIterator[Working]:
    """Yield the parts over `store`, with jobs that run: here, or as runs of a worker (`tests.support.run_places`)."""
    executor = InProcessExecutor(max_running=max_running, max_running_per_user=max_running_per_user)
    clock, waits, processes, shared = QuickClock(), VirtualClock(), Processes(), Slots(slots)
    children: Any = processes
    sources, outputs = media_sources(directory, clock), Outputs(directory / "outputs")

    def make_runs(machine: str) -> LocalRuns:
        return LocalRuns(children, sources, outputs, waits, machine=machine)

    async with (
        placed(directory, shared, children, make_runs) as place,
        _opened(store, directory, executor, clock, jobs_in_flight=place.jobs_in_flight) as parts,
    ):
        policy = RetryPolicy(RETRIES, PAUSE_AFTER_FAILURES)
        work = VideoWork(parts.leases, KnownRuns(place.runs, processes), shared, waits, policy, rng=lambda: 0.0)
        await executor.start(work.process_job)
        yield Working(**vars(parts), executor=executor, work=work, slots=shared, processes=processes, waits=waits)
        processes.may_exit.set()
        parts.leases.drain()
        await asyncio.gather(executor.shutdown(0), place.drain())


class KnownRuns:
    """Runs of which the processes learn what the server knows: on a worker, all is a little earlier than here."""

    def __init__(self, runs: Runs, processes: Processes) -> None:
        self._runs = runs
        self._processes = processes
        self.in_flight, self.withdraw, self.goes_on = runs.in_flight, runs.withdraw, runs.goes_on

    async def run(
        self,
        job: Job,
        video: Video,
        *,
        try_number: int,
        on_start: OnStart,
        on_return: OnReturn,
        on_step: OnStep,
        until_draining: UntilDraining,
    ) -> RunOutcome | None:
        is_known = False

        def has_begun() -> None:
            nonlocal is_known
            if not is_known:
                is_known = True
                self._processes.has_begun()

        def stepped(step: Step) -> None:  # each process takes one, as soon as it begins
            on_step(step)
            has_begun()

        try:
            outcome = await self._runs.run(
                job,
                video,
                try_number=try_number,
                on_start=on_start,
                on_return=on_return,
                on_step=stepped,
                until_draining=until_draining,
            )
        finally:
            has_begun()
        self._processes.has_ended()
        return outcome


def media_sources(directory: Path, clock: QuickClock) -> MediaSources:
    """Return the sources with the media directory `directory/media`."""
    return MediaSources(MediaDirectory(directory / "media", clock), DemoClips(directory / "demo"))


@asynccontextmanager
async def _opened(
    store: Store, directory: Path, executor: Executor, clock: QuickClock, **more: Any
) -> AsyncIterator[Parts]:
    (directory / "media").mkdir(exist_ok=True)
    parts = build_parts(store, directory, executor, clock, **more)
    await parts.journal.load()
    ticking = asyncio.create_task(parts.journal.run())
    yield parts
    parts.journal.close()
    await ticking
