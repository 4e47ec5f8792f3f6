"""Workers in the test's own process, whose videos run until the test ends them, and the rows that a server sees."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.rows import dict_row

from backend.clock import SystemClock
from backend.database_url import DatabaseUrl
from backend.domain.job import Source
from backend.engine.joining import Identity
from backend.engine.marker import leave_marker
from backend.engine.reporter import Name
from backend.engine.worker import Worker
from backend.executors.runs import LocalRuns
from backend.jobs.outputs import Outputs
from backend.media.demo import DemoClips
from backend.media.directory import MediaDirectory
from backend.media.sources import MediaSources
from backend.store.runs import TASK
from tests.support.fake_children import Processes

TIMEOUT_SECONDS = 20.0
POLL_SECONDS = 0.01
LEASE_SECONDS = 30.0
GRACE_SECONDS = 20.0
SCAN_SECONDS = 60.0  # after which files that were added are found
T = TypeVar("T")


class LoneProcesses(Processes):
    """Processes of a worker whose server is the test."""

    async def until_started(self, number: int) -> None:
        """Return when this many processes have been started in all."""
        await self._until(lambda: len(self.started) >= number)


class ScanClock(SystemClock):
    """A clock that a test sets forward, so that the media directory is searched again."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class ServerRows:
    """What a server writes and reads: runs, workers, the engine's jobs."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def execute(self, statement: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Execute one statement, as another program would."""
        connection = await psycopg.AsyncConnection.connect(self.url, autocommit=True)
        async with connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def hand_over(
        self,
        video_id: str,
        *,
        processor: str = "probe",
        source: Source = Source.MEDIA,
        options: Mapping[str, Any] | None = None,
    ) -> int:
        """Make a run of this video and tell the workers; returns its ID."""
        spec = json.dumps({"video_id": video_id, "source": source.value, "options": options or {}})
        [row] = await self.execute(
            "INSERT INTO run (job_id, position, attempt, try, processor, spec) "
            "SELECT 'a-job', count(*), 1, 1, %s, %s FROM run RETURNING id",
            (processor, spec),
        )
        await self.tell(row["id"], processor)
        return int(row["id"])

    async def tell(self, run_id: int, processor: str = "probe") -> None:
        """Tell the workers that this run waits."""
        await self.execute(
            "SELECT procrastinate_defer_jobs_v1(ARRAY[(%s, %s, 0, NULL, NULL, jsonb_build_object('run', %s::bigint), "
            "NULL)::procrastinate_job_to_defer_v1])",
            (processor, TASK, run_id),
        )

    async def withdraw(self, run_id: int) -> None:
        """Ask for the end of this run, as a cancel does."""
        await self.execute("UPDATE run SET wanted = false WHERE id = %s", (run_id,))
        await self.execute(
            "SELECT procrastinate_cancel_job_v1(id, true, true) FROM procrastinate_jobs WHERE args->>'run' = %s",
            (str(run_id),),
        )

    async def run(self, run_id: int) -> dict[str, Any]:
        """Return the row of this run."""
        [row] = await self.execute("SELECT * FROM run WHERE id = %s", (run_id,))
        return row

    async def worker(self, name: str) -> dict[str, Any] | None:
        """Return the row of this worker."""
        return next(iter(await self.execute("SELECT * FROM worker WHERE name = %s", (name,))), None)

    async def until_run(self, run_id: int, happened: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the row of the run once this is true of it."""
        return await until(lambda: self.run(run_id), happened)

    async def until_state(self, run_id: int, state: str) -> dict[str, Any]:
        """Return the row of the run once it is in this state."""
        return await self.until_run(run_id, lambda row: row["state"] == state)

    async def until_worker(self, name: str, happened: Callable[[dict[str, Any] | None], bool]) -> None:
        """Return when this is true of the row of the worker."""
        await until(lambda: self.worker(name), happened)

    async def until_beats(self, name: str, number: int = 1) -> None:
        """Return when the worker has beaten this often from now on."""
        before = (await self.worker(name) or {"beats": 0})["beats"]
        await self.until_worker(name, lambda row: row is not None and row["beats"] >= before + number)

    async def until_no_engine_jobs(self, *, but: int = 0) -> None:
        """Return when the engine has no jobs, or only so many."""
        await until(lambda: self.execute("SELECT id FROM procrastinate_jobs"), lambda jobs: len(jobs) == but)


async def until(look: Callable[[], Awaitable[T]], happened: Callable[[T], bool]) -> T:
    """Return what there is to see once this is true of it."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not happened(seen := await look()):  # noqa: ASYNC110  a row of a table has no event
            await asyncio.sleep(POLL_SECONDS)
    return seen


@dataclass
class RunningWorker:
    """A worker that works, with processes that end when the test says so. `alarms` are what it set for them."""

    worker: Worker
    processes: LoneProcesses
    media: Path
    outputs: Path
    scans: ScanClock
    alarms: list[float] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def add_file(self, video_id: str) -> None:
        """Put something under this ID into the media directory, where it is found at once."""
        self.scans.ahead += SCAN_SECONDS
        (self.media / f"{video_id}.mp4").write_bytes(b"no video, but not empty")

    async def start(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Join and work."""
        assert await self.worker.join()
        self.task = asyncio.create_task(self.worker.run(grace_seconds=grace_seconds))

    async def ended(self) -> None:
        """Return when the worker has ended, or raise its error."""
        assert self.task is not None
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self.task


def database_id(url: str) -> str:
    """Return the ID of the database."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT database_id::text FROM life").fetchone()
    assert row is not None
    return str(row[0])


def identity(name: str = "attic", *, slots: int = 2, processors: Sequence[str] = ("probe",)) -> Identity:
    """Return the identity of a worker in this process."""
    return Identity(Name(name, socket.gethostname(), os.getpid()), slots, tuple(processors))


@asynccontextmanager
async def a_worker(
    url: str,
    directory: Path,
    *,
    through: str | None = None,
    who: Identity | None = None,
    lease_seconds: float = LEASE_SECONDS,
    may_be_empty: bool = True,
) -> AsyncIterator[RunningWorker]:
    """Yield a worker that has not joined yet; `through` is another address of the same database."""
    media, outputs, clock, scans = directory / "media", directory / "outputs", SystemClock(), ScanClock()
    media.mkdir(exist_ok=True)
    leave_marker(outputs, database_id(url))
    processes, who = LoneProcesses(), who or identity()
    children: Any = processes
    sources = MediaSources(MediaDirectory(media, scans, may_be_empty=may_be_empty), DemoClips(outputs / "demo"))
    runs = LocalRuns(children, sources, Outputs(outputs), clock, machine=who.name.worker)
    alarms: list[float] = []
    worker = Worker(
        DatabaseUrl(through or url), who, runs, outputs, clock, lease_seconds=lease_seconds, set_alarm=alarms.append
    )
    running = RunningWorker(worker, processes, media, outputs, scans, alarms)
    try:
        yield running
    finally:
        processes.may_exit.set()
        worker.drain()
        worker.drain()
        if running.task is not None:
            await asyncio.gather(running.task, return_exceptions=True)
        await worker.close()
