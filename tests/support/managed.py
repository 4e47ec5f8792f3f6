"""A manager over a real store and hub: with an executor that only writes down, or with one that runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from backend.auth import User
from backend.csv_files import list_of_ids
from backend.demo import DemoClips
from backend.errors import Fault, StoreRefused
from backend.executors import Executor, ProcessJob
from backend.executors.inprocess import InProcessExecutor
from backend.hub import ProgressHub
from backend.jobs import Job, Status, Video
from backend.manager import Ended, JobManager, Report
from backend.media import MediaDirectory
from backend.store import Database, JobStore, Tick
from backend.work import VideoWork
from tests.support.children import Processes
from tests.support.clock import NOON, QuickClock, VirtualClock

WAIT = 10
A_SCAN_SECONDS = 60
A_REFUSAL_SECONDS = 0.005
PAUSE_AFTER_FAILURES = 3
ANA = User(id="ana", name="ana", is_admin=False)
BEN = User(id="ben", name="ben", is_admin=False)
ADMIN = User(id="admin", name="admin", is_admin=True)


def ended(video: Video, error: str | None = None, *, fault: Fault | None = None) -> Ended:
    """The report that a video has its result."""
    result = {"frames": 25} if error is None else None
    return Ended(video, NOON, 1.5, result=result, error=error, fault=fault if error else None)


class RefusingStore(JobStore):
    """Takes no tick from `refuse` to `accept`, as when a disk is full for a while."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._takes = inf

    def refuse(self, *, after: int = 0) -> None:
        """From now on, but for so many ticks."""
        self._takes = after

    def accept(self) -> None:
        """Everything again."""
        self._takes = inf

    async def commit(self, tick: Tick) -> None:
        if self._takes == 0:
            await asyncio.sleep(A_REFUSAL_SECONDS)
            raise StoreRefused
        self._takes -= 1
        await super().commit(tick)


class RecordingExecutor:
    """Runs nothing: (job ID, user, whether the job was stored by then) of each submission, the IDs cancelled."""

    def __init__(self, store: JobStore) -> None:
        self.submitted: list[tuple[str, str, bool]] = []
        self.priorities: dict[str, int] = {}
        self.cancelled: list[str] = []
        self._store = store

    async def start(self, process_job: ProcessJob) -> None:
        raise AssertionError("this executor runs nothing")

    async def submit(self, job_id: str, *, user: str, priority: int = 0) -> None:
        is_stored = await self._store.find(job_id, owner_id=None) is not None
        self.submitted.append((job_id, user, is_stored))
        self.priorities[job_id] = priority

    async def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)

    async def shutdown(self, grace: float) -> None:
        raise AssertionError("this executor runs nothing")


@dataclass(frozen=True)
class Parts:
    """The manager with what it stands on; the hub ticks without waiting, the clock moves only by `advance`."""

    manager: JobManager
    hub: ProgressHub
    store: JobStore
    clock: QuickClock
    media: Path

    def add_file(self, video_id: str) -> None:
        """Something under this ID in the media directory."""
        (self.media / f"{video_id}.mp4").write_bytes(b"no video, but not empty")

    async def submit(self, *video_ids: str, by: User = ANA, name: str = "list.csv") -> Job:
        """A new job over these videos."""
        await self.clock.advance(A_SCAN_SECONDS)  # so that files that were added count
        return (await self.manager.submit(list_of_ids(video_ids), by=by, name=name)).job

    async def new_job(self, name: str, videos: int, *, by: User = ANA) -> Job:
        """A job over that many files, which are called like it."""
        video_ids = [f"{name}-{number}" for number in range(videos)]
        for video_id in video_ids:
            self.add_file(video_id)
        return await self.submit(*video_ids, by=by, name=name)

    async def stored(self, job: Job) -> Job:
        """The job as it is stored once everything told so far is."""
        await self.hub.durable()
        return await self.manager.find(job.id, by=ADMIN)

    async def videos(self, job: Job) -> list[Video]:
        """Its videos, likewise."""
        await self.hub.durable()
        return (await self.manager.videos(job.id, by=ADMIN)).items


@dataclass(frozen=True)
class Managed(Parts):
    """Nothing runs but what the test claims and reports."""

    executor: RecordingExecutor

    async def claim(self, job: Job) -> Job:
        """The same job, in the hands of the test."""
        claimed = await self.manager.claim(job.id)
        assert claimed is not None
        return claimed

    async def report(self, job: Job, *reports: Report) -> None:
        """These reports of the job's holder, stored and shown."""
        for report in reports:
            self.manager.record(job.id, job.epoch, report)
        await self.hub.durable()

    async def run(self, job: Job, errors: Iterable[str | None]) -> Job:
        """The job claimed, and as many of its videos with their results as there are `errors`."""
        return await self.run_on(await self.claim(job), errors)

    async def run_on(self, claimed: Job, errors: Iterable[str | None]) -> Job:
        """The same, of a job that the test holds already."""
        for error in errors:
            video = await anext(self.manager.todo(claimed))
            await self.report(claimed, ended(video, error))
        return await self.stored(claimed)


@dataclass(frozen=True)
class Working(Parts):
    """Jobs run, with processes that end when the test says so; `waits` is the time of what is tried again."""

    executor: InProcessExecutor
    work: VideoWork
    processes: Processes
    waits: VirtualClock

    async def reaches(self, job: Job, status: Status) -> list[Job]:
        """The states of the job that a reader sees from now until this status."""
        return await self.sees(job, lambda state: state.status is status)

    async def sees(self, job: Job, happened: Callable[[Job], bool]) -> list[Job]:
        """The states of the job that a reader sees from now until one like this."""
        reader, seen = self.manager.watch(by=ADMIN), list[Job]()
        async with asyncio.timeout(WAIT):
            while not seen or not happened(seen[-1]):
                seen += [state for state in (await reader.next()).updates if state.id == job.id]
        return seen


@asynccontextmanager
async def open_managed(store: JobStore, directory: Path) -> AsyncIterator[Managed]:
    """A manager over `store`, with the media directory `directory/media`; it ends with its hub's last tick."""
    executor = RecordingExecutor(store)
    async with _opened(store, directory, executor) as parts:
        yield Managed(parts.manager, parts.hub, parts.store, parts.clock, parts.media, executor)


@asynccontextmanager
async def open_working(
    store: JobStore, directory: Path, *, slots: int = 2, max_running: int = 4, max_running_per_user: int = 4
) -> AsyncIterator[Working]:
    """The same, with jobs that run."""
    executor = InProcessExecutor(max_running=max_running, max_running_per_user=max_running_per_user)
    async with _opened(store, directory, executor) as parts:
        processes, waits = Processes(), VirtualClock()
        children: Any = processes
        work = VideoWork(
            parts.manager,
            children,
            slots=slots,
            pause_after_failures=PAUSE_AFTER_FAILURES,
            outputs=directory / "outputs",
            clock=waits,
            chance=lambda: 0.0,
        )
        await executor.start(work.process_job)
        yield Working(parts.manager, parts.hub, parts.store, parts.clock, parts.media, executor, work, processes, waits)
        processes.may_die.set()
        parts.manager.wind_down()
        await executor.shutdown(0)


@asynccontextmanager
async def _opened(store: JobStore, directory: Path, executor: Executor) -> AsyncIterator[Parts]:
    clock, media = QuickClock(), directory / "media"
    media.mkdir(exist_ok=True)
    hub = ProgressHub(store, clock)
    await hub.load()
    manager = JobManager(
        store=store,
        hub=hub,
        executor=executor,
        media=MediaDirectory(media, clock),
        demo=DemoClips(directory / "demo"),
        clock=clock,
        pause_after_failures=PAUSE_AFTER_FAILURES,
    )
    ticking = asyncio.create_task(hub.run())
    yield Parts(manager, hub, store, clock, media)
    hub.close()
    await ticking
