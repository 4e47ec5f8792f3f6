"""The server's cost of a change: `python -m tests.bench.conflation [seconds] [--database postgresql]`.

1,000 jobs, and 1,000, 10,000 and 50,000 changes a second, each for 10 seconds by default. A paced task in the server's
own process calls `leases.record`; the server has journal, hub, store, REST and progress socket, but no pages. A video
is finished with every twentieth change of its job (at least one per job), and a fifth of the videos fail. One watcher
in another process reads batches and counts.

"µs/change": CPU time of the whole server process, without its time when idle and without the time of the paced task
that calls nothing. "lag": of the event loop. "delay": from the change to the client, counted from the update's
`timestamp`, which is rounded down to the millisecond. "rows": stored updates. "finished" and "errors": received/stored.
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
from itertools import islice, product
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
from backend.api.uvicorn_internals import DirectProtocol, Server
from backend.app import running
from backend.delivery.hub import ProgressHub
from backend.delivery.journal import Journal
from backend.domain.job import Job
from backend.domain.video import Video
from backend.jobs.active import ActiveJobs
from backend.jobs.external import ExternalJobs
from backend.jobs.leases import Lease, Leases, Report, VideoFinished, VideoProgressed
from backend.jobs.manager import JobManager
from backend.jobs.queries import JobQueries
from backend.jobs.submission import Order
from backend.lists.csv_files import list_of_ids
from backend.settings import ADMIN
from backend.store import Store
from backend.store.changes import Tick
from backend.store.database import Database
from progress_dashboard.protocol import UNFINISHED, ProgressUpdate
from tests.bench.beside import databases
from tests.bench.measure import load as machine_load
from tests.bench.measure import percentile, row
from tests.support.databases import settings_of, taken_kind
from tests.support.servers import free_port

RATES = (1_000, 10_000, 50_000)
SECONDS, IDLE_SECONDS = 10.0, 2.0
JOBS, CHANGES_PER_VIDEO, FAILS_EVERY = 1_000, 20, 5
PACE_SECONDS, MAX_AT_ONCE = 0.002, 500
LAG_SECONDS, LAG_AIM_MS = 0.005, 20
WIDTHS = (18, 9, 10, 7, 8, 8, 9, 10, 10, 9, 9, 9, 12, 12)
HEADER = (
    "target/s,actual/s,µs/change,core %,lag p50,lag p99,lag worst,commit p50,updates/s,rows,delay p50,delay p99,"
    "finished,errors"
)
Record = Callable[[Lease, Report], None]


class TimedStore(Store):
    """A store that measures its transactions."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        # Seconds of each transaction.
        self.commits: list[float] = []

    async def commit(self, tick: Tick) -> None:
        began = time.perf_counter()
        await super().commit(tick)
        self.commits.append(time.perf_counter() - began)


@dataclass
class Received:
    """The updates that the watcher received."""

    updates: int = 0
    # Newest status of each job.
    statuses: dict[str, str] = field(default_factory=dict)
    # Job ID and error of each failed video.
    errors: set[tuple[str, str]] = field(default_factory=set)
    # Milliseconds from the change to the client.
    delays: list[float] = field(default_factory=list)

    def add(self, update: ProgressUpdate, at: float) -> None:
        """Add an update that was received at this time."""
        self.updates += 1
        self.statuses[update.job_id] = update.status
        self.delays.append((at - datetime.fromisoformat(update.timestamp).timestamp()) * 1000)
        if update.error == error_of(update.video_id):
            self.errors.add((update.job_id, update.error))

    @property
    def finished(self) -> int:
        """The number of finished jobs."""
        return sum(status not in UNFINISHED for status in self.statuses.values())


class Frame(msgspec.Struct):
    """The updates of a batch; its other fields are ignored."""

    updates: list[ProgressUpdate]


def watch(address: str, pipe: Connection) -> None:
    """Receive until the server closes the socket; answer "report" in the pipe with `Received`."""
    received, decoder = Received(), msgspec.json.Decoder(Frame)
    with connect(address, max_size=None, compression=None) as socket:
        decoder.decode(socket.recv(decode=False))
        pipe.send("ready")
        while True:
            try:
                text = socket.recv(timeout=0.5, decode=False)
            except TimeoutError:
                if pipe.poll() and pipe.recv() == "report":
                    pipe.send(received)
                continue
            except ConnectionClosed:
                return
            now = time.time()
            for update in decoder.decode(text).updates:
                received.add(update, now)


@dataclass(frozen=True)
class Load:
    """The changes: `per_job` of each job, at least one per video. The last one finishes the job."""

    jobs: list[tuple[Lease, list[Video]]]
    per_job: int

    def reports(self) -> Iterator[tuple[Lease, Report]]:
        """Yield the changes, one of each job in turn."""
        for number in range(self.per_job):
            for lease, videos in self.jobs:
                yield lease, self._report(lease.job, videos, number)

    @property
    def total(self) -> int:
        """The number of all changes."""
        return self.per_job * len(self.jobs)

    @property
    def errors(self) -> int:
        """The number of videos of all jobs that fail."""
        return sum(fails(lease.job, video) for lease, videos in self.jobs for video in videos)

    def _report(self, job: Job, videos: list[Video], number: int) -> Report:
        position, step = divmod(number * len(videos), self.per_job)
        video, share = videos[position], step / self.per_job
        if step + len(videos) < self.per_job:
            return VideoProgressed(video, share, "decoding")
        error = error_of(video.video_id) if fails(job, video) else None
        return VideoFinished(video, datetime.now(UTC), 1.0, error=error, result=None if error else {"width": 1920})


def fails(job: Job, video: Video) -> bool:
    """Return True if this video fails."""
    return (int(job.id[-4:], 16) + video.position) % FAILS_EVERY == 0


def error_of(video_id: str | None) -> str:
    """Return the error of a failed video."""
    return f"The video {video_id} ends before its time."


@asynccontextmanager
async def serving(home: Path) -> AsyncIterator[tuple[Backend, TimedStore]]:
    """Run the server in this process, over a store whose transactions are timed. Its executor runs no jobs."""
    async with open_backend(settings_of(home, port=free_port())) as opened:
        await opened.drain()
        store, hub, clock, executor = TimedStore(opened.database), ProgressHub(), opened.clock, opened.executor
        journal = Journal(store, hub, clock)
        await journal.load()
        active, queries = ActiveJobs(journal, hub, clock), JobQueries(store, hub)
        external = ExternalJobs(active, queries, store.videos, clock)
        leases = Leases(active, journal, store.videos, executor, clock, pause_after_failures=JOBS)
        manager = JobManager(
            store=store,
            journal=journal,
            active=active,
            queries=queries,
            external=external,
            executor=executor,
            sources=opened.sources,
            clock=clock,
        )
        backend = replace(
            opened, store=store, hub=hub, journal=journal, queries=queries, leases=leases, manager=manager
        )
        server = Server(
            uvicorn.Config(build_app(backend), port=backend.settings.port, log_config=None, ws=DirectProtocol)
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(journal.run())
            tasks.create_task(server.serve())
            await server.ready.wait()
            yield backend, store
            server.should_exit = True
            journal.close()


async def claimed_jobs(backend: Backend, videos_each: int) -> list[tuple[Lease, list[Video]]]:
    """Return leases of `JOBS` jobs, with their videos."""
    admin, manager, leases = await backend.accounts.user(ADMIN), backend.manager, backend.leases
    videos = list_of_ids([f"clip-{number:02}" for number in range(videos_each)])
    orders = (Order(name=f"list {number}") for number in range(JOBS))
    made = await asyncio.gather(*(manager.submit(videos, order, by=admin) for order in orders))
    claimed = [await leases.claim(submission.job.id) for submission in made]
    await backend.journal.durable()
    return [(lease, [video async for video in leases.pending_videos(lease)]) for lease in claimed if lease is not None]


@asynccontextmanager
async def watching(backend: Backend) -> AsyncIterator[Connection]:
    """Run a watcher of all jobs in a process of its own, and yield the other end of its pipe."""
    admin = await backend.accounts.user(ADMIN)
    token = await backend.accounts.issue_token(admin, lifetime_seconds=3600)
    address = f"ws://127.0.0.1:{backend.settings.port}/api/ws/progress?format=batch&token={token}"
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=watch, args=(address, there), daemon=True)
    process.start()
    try:
        await asyncio.to_thread(here.recv)
        yield here
    finally:
        process.kill()
        await asyncio.to_thread(process.join)


async def paced(load: Load, rate: int, record: Record) -> None:
    """Record all changes at the rate, or as fast as `record` accepts them."""
    began, done, remaining = time.perf_counter(), 0, load.reports()
    while done < load.total:
        due = min(int((time.perf_counter() - began) * rate) + 1 - done, MAX_AT_ONCE)
        for lease, report in islice(remaining, due):
            record(lease, report)
            done += 1
        await asyncio.sleep(PACE_SECONDS)


async def measure_lag(lags: list[float]) -> NoReturn:
    """Append by how many milliseconds a sleep of the event loop took too long, until cancelled."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(LAG_SECONDS)
        lags.append((time.perf_counter() - began - LAG_SECONDS) * 1000)


async def cpu_of(work: Awaitable[object]) -> tuple[float, float]:
    """Await `work` and return (CPU seconds of the whole process, seconds)."""
    cpu, began = time.process_time(), time.perf_counter()
    await work
    return time.process_time() - cpu, time.perf_counter() - began


@dataclass(frozen=True)
class Stored:
    """The numbers of stored updates, of finished jobs and of errors after the load."""

    rows: int
    finished: int
    errors: int


async def read_stored(store: Store, jobs: list[Job]) -> Stored:
    """Read the jobs and their histories."""
    rows, finished, errors = 0, 0, set()
    for job in jobs:
        found = await store.jobs.find(job.id, owner_id=None)
        finished += found is not None and found.is_finished
        for body in await store.history.page(job.id, since=None, after=None, limit=100_000):
            rows += 1
            update = msgspec.json.decode(body, type=ProgressUpdate)
            if update.error == error_of(update.video_id):
                errors.add((job.id, update.error))
    return Stored(rows, finished, len(errors))


@dataclass(frozen=True)
class Outcome:
    """The results of a load: `cpu` and `took` in seconds, `lags` in milliseconds, `commits` in seconds."""

    load: Load
    cpu: float
    took: float
    lags: list[float]
    commits: list[float]
    received: Received
    stored: Stored

    @property
    def is_complete(self) -> bool:
        """True if every finished job and every failed video was received and is stored."""
        received = self.received.finished, len(self.received.errors)
        stored = self.stored.finished, self.stored.errors
        return received == stored == (JOBS, self.load.errors)

    def show(self, rate: int, kind: str) -> None:
        """Print a line of the table."""
        lags, delays, total = sorted(self.lags), sorted(self.received.delays), self.load.total
        row(
            f"{rate:,} {kind}",
            f"{total / self.took:,.0f}",
            f"{self.cpu / total * 1e6:.1f}",
            f"{self.cpu / self.took * 100:.0f}",
            *(f"{percentile(lags, percent):.1f}" for percent in (50, 99, 100)),
            f"{median(self.commits) * 1000:.1f}",
            f"{self.received.updates / self.took:,.0f}",
            f"{self.stored.rows:,}",
            *(f"{percentile(delays, percent):.0f}" for percent in (50, 99)),
            f"{self.received.finished}/{self.stored.finished}",
            f"{len(self.received.errors)}/{self.stored.errors}",
            widths=WIDTHS,
        )


async def measure(home: Path, rate: int, seconds: float) -> Outcome:
    """Measure a new server under this load."""
    per_job = max(1, int(rate * seconds) // JOBS)
    async with serving(home) as (backend, store):
        load = Load(await claimed_jobs(backend, max(1, per_job // CHANGES_PER_VIDEO)), per_job)
        async with watching(backend) as watcher:
            idle, idle_seconds = await cpu_of(asyncio.sleep(IDLE_SECONDS))
            own, own_seconds = await cpu_of(paced(load, rate, lambda *_: None))
            store.commits.clear()
            lags: list[float] = []
            async with running(measure_lag(lags), "lag"):
                cpu, took = await cpu_of(paced(load, rate, backend.leases.record))
            rest, rest_seconds = await cpu_of(backend.journal.durable())
            commits = list(store.commits)
            watcher.send("report")
            received: Received = await asyncio.to_thread(watcher.recv)
        stored = await read_stored(store, [lease.job for lease, _ in load.jobs])
        net = cpu + rest - own - idle / idle_seconds * (took + rest_seconds - own_seconds)
        return Outcome(load, net, took, lags, commits, received, stored)


def main(seconds: float, kind: str) -> None:
    """Measure all rates; exit with 1 if a finished job or an error was lost."""
    print(f"{JOBS:,} jobs, {seconds:.0f} s each; milliseconds; finished and errors: received/stored; {machine_load()}")
    row(*HEADER.split(","), widths=WIDTHS)
    is_complete = True
    with databases(kind) as kinds:
        for rate, (name, used) in product(RATES, kinds.items()):
            with tempfile.TemporaryDirectory() as home, used():
                outcome = asyncio.run(measure(Path(home), rate, seconds))
            outcome.show(rate, name)
            is_complete &= outcome.is_complete
    print(f"aim: lag p99 below {LAG_AIM_MS} ms; every finished job and every error received and stored: {is_complete}")
    sys.exit(not is_complete)


if __name__ == "__main__":
    chosen, numbers = taken_kind(sys.argv[1:])
    main(float(numbers[0]) if numbers else SECONDS, chosen)
