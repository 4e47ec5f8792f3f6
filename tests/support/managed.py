"""A manager over a real store and hub, with an executor that only writes down what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from backend.auth import User
from backend.csv_files import list_of_ids
from backend.demo import DemoClips
from backend.executors import ProcessJob
from backend.hub import ProgressHub
from backend.jobs import Job, Video
from backend.manager import JobManager
from backend.media import MediaDirectory
from backend.store import JobStore
from tests.support.clock import QuickClock

A_SCAN_SECONDS = 60
PAUSE_AFTER_FAILURES = 3
ANA = User(id="ana", name="ana", is_admin=False)
BEN = User(id="ben", name="ben", is_admin=False)
ADMIN = User(id="admin", name="admin", is_admin=True)


class RecordingExecutor:
    """Runs nothing: (job ID, user, whether the job was stored by then) of each submission, the IDs cancelled."""

    def __init__(self, store: JobStore) -> None:
        self.submitted: list[tuple[str, str, bool]] = []
        self.cancelled: list[str] = []
        self._store = store

    async def start(self, process_job: ProcessJob) -> None:
        raise AssertionError("this executor runs nothing")

    async def submit(self, job_id: str, *, user: str, priority: int = 0) -> None:
        is_stored = await self._store.find(job_id, owner_id=None) is not None
        self.submitted.append((job_id, user, is_stored))

    async def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)

    async def shutdown(self, grace: float) -> None:
        raise AssertionError("this executor runs nothing")


@dataclass(frozen=True)
class Managed:
    """The manager with what it stands on; the hub ticks without waiting, the clock moves only by `advance`."""

    manager: JobManager
    hub: ProgressHub
    store: JobStore
    executor: RecordingExecutor
    clock: QuickClock
    media: Path

    def add_file(self, video_id: str) -> None:
        """Something under this ID in the media directory."""
        (self.media / f"{video_id}.mp4").write_bytes(b"no video, but not empty")

    async def submit(self, *video_ids: str, by: User = ANA, name: str = "list.csv") -> Job:
        """A new job over these videos."""
        await self.clock.advance(A_SCAN_SECONDS)  # so that files that were added count
        return (await self.manager.submit(list_of_ids(video_ids), by=by, name=name)).job

    async def claim(self, job: Job) -> Job:
        """The same job, in the hands of the test."""
        claimed = await self.manager.claim(job.id)
        assert claimed is not None
        return claimed

    async def stored(self, job: Job) -> Job:
        """The job as it is stored once everything told so far is."""
        await self.hub.durable()
        return await self.manager.find(job.id, by=ADMIN)

    async def videos(self, job: Job) -> list[Video]:
        """Its videos, likewise."""
        await self.hub.durable()
        return (await self.manager.videos(job.id, by=ADMIN)).items


@asynccontextmanager
async def open_managed(store: JobStore, directory: Path) -> AsyncIterator[Managed]:
    """A manager over `store`, with the media directory `directory/media`; it ends with its hub's last tick."""
    clock, executor, media = QuickClock(), RecordingExecutor(store), directory / "media"
    media.mkdir()
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
    yield Managed(manager, hub, store, executor, clock, media)
    hub.close()
    await ticking
