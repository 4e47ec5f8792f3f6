"""What a change costs the server: `python -m tests.bench.conflation [seconds]`.

1,000 jobs, and 1,000, 10,000 and 50,000 changes a second (each for 10 seconds by default) given to `manager.record` by
a paced task in the server's own process: hub, store, REST and progress socket, without the pages. A video ends with
every twentieth change of its job (at least one a job), a fifth of them fail. One watcher in another process reads
batches and counts. A change's cost is the CPU time of the whole server process, without what it needs when idle and
what the paced task needs into an empty sink. Change → client is counted from the update's `timestamp`, which is rounded
down to the millisecond.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import NoReturn

import msgspec
import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from backend import Backend, open_backend
from backend.api import build_app
from backend.api.uvicorn_internals import DirectProtocol
from backend.app import running
from backend.delivery.hub import ProgressHub
from backend.domain.job import Job
from backend.domain.video import Video
from backend.jobs.manager import JobManager, Report, VideoFinished, VideoProgressed
from backend.lists.csv_files import list_of_ids
from backend.media.demo import DemoClips
from backend.settings import ADMIN, load_settings
from backend.store import Database, JobStore, Tick
from progress_dashboard.protocol import UNFINISHED, ProgressUpdate
from tests.bench.measure import load as busy
from tests.bench.measure import percentile, row
from tests.support.servers import free_port
from ui.cli.serve import Server

RATES = (1_000, 10_000, 50_000)
SECONDS, IDLE_SECONDS = 10.0, 2.0
JOBS, CHANGES_A_VIDEO, FAILS_EVERY = 1_000, 20, 5
PACE_SECONDS, MOST_AT_ONCE = 0.002, 500
LAG_SECONDS, LAG_AIM_MS = 0.005, 20
WIDTHS = (9, 9, 10, 7, 8, 8, 9, 10, 10, 9, 9, 9, 12, 12)
HEADER = (
    "asked/s,given/s,µs/change,core %,lag p50,lag p99,lag worst,commit p50,updates/s,rows,seen p50,seen p99,ends,errors"
)
Record = Callable[[str, int, Report], None]


class TimedStore(JobStore):
    """A store that writes down how long its transactions take, in seconds."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.commits: list[float] = []

    async def commit(self, tick: Tick) -> None:
        began = time.perf_counter()
        await super().commit(tick)
        self.commits.append(time.perf_counter() - began)


@dataclass
class Heard:
    """What a watcher learned: the newest status of each job, the failed videos, milliseconds from change to client."""

    updates: int = 0
    statuses: dict[str, str] = field(default_factory=dict)
    errors: set[tuple[str, str]] = field(default_factory=set)
    delays: list[float] = field(default_factory=list)

    def take(self, update: ProgressUpdate, at: float) -> None:
        self.updates += 1
        self.statuses[update.job_id] = update.status
        self.delays.append((at - datetime.fromisoformat(update.timestamp).timestamp()) * 1000)
        if update.error == error_of(update.video_id):
            self.errors.add((update.job_id, update.error))

    @property
    def ended(self) -> int:
        return sum(status not in UNFINISHED for status in self.statuses.values())


class Frame(msgspec.Struct):
    """A batch; what it says besides does not matter here."""

    updates: list[ProgressUpdate]


def watch(address: str, pipe: Connection) -> None:
    """Read until the server ends; `Heard` so far is the answer to each word in the pipe."""
    heard, decoder = Heard(), msgspec.json.Decoder(Frame)
    with connect(address, max_size=None, compression=None) as socket:
        decoder.decode(socket.recv(decode=False))
        pipe.send("ready")
        while True:
            try:
                text = socket.recv(timeout=0.5, decode=False)
            except TimeoutError:
                if pipe.poll() and pipe.recv() == "report":
                    pipe.send(heard)
                continue
            except ConnectionClosed:
                return
            now = time.time()
            for update in decoder.decode(text).updates:
                heard.take(update, now)


@dataclass(frozen=True)
class Load:
    """`of_each` changes of each job, at least one a video; the last one ends the job."""

    jobs: list[tuple[Job, list[Video]]]
    of_each: int

    def reports(self) -> Iterator[tuple[Job, Report]]:
        """The changes, each job's in turn."""
        for turn in range(self.of_each):
            for job, videos in self.jobs:
                yield job, self._report(job, videos, turn)

    @property
    def total(self) -> int:
        return self.of_each * len(self.jobs)

    @property
    def errors(self) -> int:
        """Videos that fail, of all jobs."""
        return sum(fails(job, video) for job, videos in self.jobs for video in videos)

    def _report(self, job: Job, videos: list[Video], turn: int) -> Report:
        position, step = divmod(turn * len(videos), self.of_each)
        video, share = videos[position], step / self.of_each
        if step + len(videos) < self.of_each:
            return VideoProgressed(video, share, "decoding")
        error = error_of(video.video_id) if fails(job, video) else None
        return VideoFinished(video, datetime.now(UTC), 1.0, error=error, result=None if error else {"width": 1920})


def fails(job: Job, video: Video) -> bool:
    return (int(job.id[-4:], 16) + video.position) % FAILS_EVERY == 0


def error_of(video_id: str | None) -> str:
    return f"The video {video_id} ends before its time."


@asynccontextmanager
async def serving(home: Path) -> AsyncIterator[tuple[Backend, TimedStore]]:
    """The server in this process, over a hub whose transactions are timed; no job runs by itself."""
    async with open_backend(load_settings(data_dir=home, port=free_port())) as opened:
        await opened.drain()
        store = TimedStore(opened.database)
        hub = ProgressHub(store, opened.clock)
        await hub.load()
        demo = DemoClips(home / "no-clips")
        manager = JobManager(
            store=store, hub=hub, executor=opened.executor, media=opened.media, demo=demo, clock=opened.clock
        )
        backend = replace(opened, store=store, hub=hub, manager=manager)
        server = Server(
            uvicorn.Config(build_app(backend), port=backend.settings.port, log_config=None, ws=DirectProtocol)
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hub.run())
            tasks.create_task(server.serve())
            await server.ready.wait()
            yield backend, store
            server.should_exit = True
            hub.close()


async def claimed_jobs(backend: Backend, videos_each: int) -> list[tuple[Job, list[Video]]]:
    """`JOBS` jobs in the bench's hands, with their videos."""
    admin, manager = await backend.accounts.user(ADMIN), backend.manager
    names = list_of_ids([f"clip-{number:02}" for number in range(videos_each)])
    made = await asyncio.gather(*(manager.submit(names, by=admin, name=f"list {number}") for number in range(JOBS)))
    claimed = [await manager.claim(submission.job.id) for submission in made]
    await backend.hub.durable()
    return [(job, [video async for video in manager.todo(job)]) for job in claimed if job is not None]


@asynccontextmanager
async def watching(backend: Backend) -> AsyncIterator[Connection]:
    """A watcher of everything in a process of its own; the other end of its pipe."""
    admin = await backend.accounts.user(ADMIN)
    token = await backend.accounts.issue_token(admin, lifetime_seconds=3600)
    address = f"ws://127.0.0.1:{backend.settings.port}/api/ws/progress?format=batch&token={token}"
    context = multiprocessing.get_context("spawn")
    here, there = context.Subscription()
    process = context.Process(target=watch, args=(address, there), daemon=True)
    process.start()
    try:
        await asyncio.to_thread(here.recv)
        yield here
    finally:
        process.kill()
        await asyncio.to_thread(process.join)


async def paced(given: Load, rate: int, record: Record) -> float:
    """Give all changes at the rate, or as fast as they are taken; the seconds that it took."""
    began, done, coming = time.perf_counter(), 0, given.reports()
    while done < given.total:
        due = min(int((time.perf_counter() - began) * rate) + 1 - done, MOST_AT_ONCE)
        for job, report in islice(coming, due):
            record(job.id, job.epoch, report)
            done += 1
        await asyncio.sleep(PACE_SECONDS)
    return time.perf_counter() - began


async def notice_lag(lags: list[float]) -> NoReturn:
    """How many milliseconds too late the loop came back, again and again."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(LAG_SECONDS)
        lags.append((time.perf_counter() - began - LAG_SECONDS) * 1000)


async def cpu_of(work: Awaitable[object]) -> tuple[float, float]:
    """(CPU seconds of the whole process, seconds) while this is awaited."""
    cpu, began = time.process_time(), time.perf_counter()
    await work
    return time.process_time() - cpu, time.perf_counter() - began


@dataclass(frozen=True)
class Kept:
    """What is stored in the end."""

    rows: int
    ended: int
    errors: int


async def kept(store: JobStore, jobs: list[Job]) -> Kept:
    """Read everything back."""
    rows, ended, errors = 0, 0, set()
    for job in jobs:
        found = await store.find(job.id, owner_id=None)
        ended += found is not None and found.is_finished
        for body in await store.history(job.id, since=None, after=None, limit=100_000):
            rows += 1
            update = msgspec.json.decode(body, type=ProgressUpdate)
            if update.error == error_of(update.video_id):
                errors.add((job.id, update.error))
    return Kept(rows, ended, len(errors))


@dataclass(frozen=True)
class Outcome:
    """What came of a load: `cpu` and `took` in seconds, `lags` in milliseconds, `commits` in seconds."""

    load: Load
    cpu: float
    took: float
    lags: list[float]
    commits: list[float]
    heard: Heard
    kept: Kept

    @property
    def is_whole(self) -> bool:
        """Whether every end and every failed video was heard and is stored."""
        heard, kept = self.heard, self.kept
        return (heard.ended, len(heard.errors)) == (kept.ended, kept.errors) == (JOBS, self.load.errors)

    def show(self, rate: int) -> None:
        """A line of the table."""
        lags, delays, total = sorted(self.lags), sorted(self.heard.delays), self.load.total
        row(
            f"{rate:,}",
            f"{total / self.took:,.0f}",
            f"{self.cpu / total * 1e6:.1f}",
            f"{self.cpu / self.took * 100:.0f}",
            *(f"{percentile(lags, percent):.1f}" for percent in (50, 99, 100)),
            f"{median(self.commits) * 1000:.1f}",
            f"{self.heard.updates / self.took:,.0f}",
            f"{self.kept.rows:,}",
            *(f"{percentile(delays, percent):.0f}" for percent in (50, 99)),
            f"{self.heard.ended}/{self.kept.ended}",
            f"{len(self.heard.errors)}/{self.kept.errors}",
            widths=WIDTHS,
        )


async def measure(home: Path, rate: int, seconds: float) -> Outcome:
    """A server of its own under this load."""
    of_each = max(1, int(rate * seconds) // JOBS)
    async with serving(home) as (backend, store):
        load = Load(await claimed_jobs(backend, max(1, of_each // CHANGES_A_VIDEO)), of_each)
        async with watching(backend) as watcher:
            idle, idle_seconds = await cpu_of(asyncio.sleep(IDLE_SECONDS))
            own, own_seconds = await cpu_of(paced(load, rate, lambda *_: None))
            store.commits.clear()
            lags: list[float] = []
            async with running(notice_lag(lags), "lag"):
                cpu, took = await cpu_of(paced(load, rate, backend.manager.record))
            rest, rest_seconds = await cpu_of(backend.hub.durable())
            commits = list(store.commits)
            watcher.send("report")
            heard: Heard = await asyncio.to_thread(watcher.recv)
        stored = await kept(store, [job for job, _ in load.jobs])
        net = cpu + rest - own - idle / idle_seconds * (took + rest_seconds - own_seconds)
        return Outcome(load, net, took, lags, commits, heard, stored)


def main(seconds: float) -> None:
    print(f"{JOBS:,} jobs, {seconds:.0f} s each; milliseconds; ends and errors: heard/stored; {busy()}")
    row(*HEADER.split(","), widths=WIDTHS)
    is_whole = True
    for rate in RATES:
        with tempfile.TemporaryDirectory() as home:
            outcome = asyncio.run(measure(Path(home), rate, seconds))
        outcome.show(rate)
        is_whole &= outcome.is_whole
    print(f"aim: lag p99 below {LAG_AIM_MS} ms; every end and every error of a video heard and stored: {is_whole}")
    sys.exit(not is_whole)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
