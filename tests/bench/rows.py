"""Lists over very many rows: `python -m tests.bench.rows [jobs] [--database postgresql]`.

The jobs (default 100,000) have 20 videos each. Builds the program's database in bulk (in the temporary directory: 1.5
GB for 100,000 jobs), and prints its size for a video, then every list, filter, order and search, as p50 and p99 beside
the reference: the bare driver reads 100 jobs by their numbers, in turn with the pages; `x` compares the processor time
of both. Then the program serves it: the export of the history beside the bare driver with Python's CSV writer, and how
long another client's requests take meanwhile. All times are in ms.
"""

from __future__ import annotations

import asyncio
import csv
import io
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path

import httpx

from backend.domain.job import Selection
from backend.domain.video import VideoStatus
from backend.store import Store
from backend.store.database import Database
from backend.store.job_lists import SORTS, Wanted
from progress_dashboard.protocol import Status
from tests.bench.bare_driver import bare_driver, sizes
from tests.bench.beside import databases
from tests.bench.measure import load, percentile, row
from tests.support.databases import FILE, new_database, taken_kind
from tests.support.many_rows import OWNERS, fill
from tests.support.servers import TLS, api, running, token

JOBS, VIDEOS = 100_000, 20
PAGE, PAGES = 100, 15
AIM_MS, AIM_ROWS, AIM_OTHERS_MS = 100, 50_000, 50
WORDS = (
    "a",
    "ni",
    "nightly",
    "nightly 2023",
    "99123",
    "99123.csv",
    "zzzzq",
    "ubung 2024",
    "übung 2024",
    "cut off",
    "31.0 %",
)
IDS = ("0a", "0a3f", "A1", "A1b", "A1bC3")
PAUSE_SECONDS = 0.05  # between two requests of the other client
WEEK = 7 * 86_400
LIST_WIDTHS, WIDTHS = (44, 9, 9, 9, 10, 7), (44, 10, 12, 12, 10)
REFERENCE = "SELECT * FROM job WHERE number = ?"
LINES = (
    'SELECT job.id, job.name, "user".name, status, total_videos, failed, error, attempt, processor, job.created_at, '
    'started_at, finished_at FROM job JOIN "user" ON "user".id = owner_id ORDER BY number DESC LIMIT 50000'
)
Read = Callable[[], Awaitable[object]]


def print_sizes(path: Path, videos: int) -> None:
    """Print the bytes for each video, by table and index."""
    found = sizes(path)
    print(f"bytes a video: {sum(size for _, size in found) / videos:.0f}, of them")
    for name, size in found[:8]:
        print(f"  {name:30} {size / videos:6.1f}")


def lists(store: Store) -> Iterator[tuple[str, Read]]:
    """Yield every list of jobs: whose, order, status, dashboard or not, and searches."""
    for owner, sort in product((None, "owner-0", f"owner-{OWNERS - 1}"), SORTS):
        whose = "everybody's" if owner is None else owner
        for status, dashboard in product((None, Status.COMPLETED, Status.FAILED, Status.PAUSED), (None, True, False)):
            where = {None: "", True: ", dashboard", False: ", past"}[dashboard]
            wanted = Wanted(owner_id=owner, sort=sort, status=status, dashboard=dashboard)
            yield f"{whose}, {sort}, {status or 'all'}{where}", page_of(store, wanted)
        for q in (*WORDS, *IDS):
            yield f"{whose}, {sort}, {q!r}", page_of(store, Wanted(owner_id=owner, sort=sort, q=q))
        yield f"{whose}, count", lambda owner=owner: store.jobs.count(owner_id=owner)  # type: ignore[misc]


def page_of(store: Store, wanted: Wanted) -> Read:
    """Return the reading of its first pages, one after the other."""
    cursor: list[str | None] = [None]

    async def read() -> object:
        page = await store.jobs.page(wanted, limit=PAGE, cursor=cursor[0])
        cursor[0] = page.next_cursor
        return page

    return read


def of_videos(store: Store, job_ids: list[str]) -> Iterator[tuple[str, Read]]:
    """Yield the lists within a job, each time of another one."""
    rng, videos = random.Random(3), store.videos

    def one() -> str:
        return rng.choice(job_ids)

    yield "videos", lambda: videos.page(one(), limit=PAGE, cursor=None)
    yield "videos, failed", lambda: videos.page(one(), status=VideoStatus.FAILED, limit=PAGE, cursor=None)
    yield "videos, 'cut off'", lambda: videos.page(one(), q="cut off", limit=PAGE, cursor=None)
    yield "causes", lambda: videos.causes(one())
    yield "attempts of a video", lambda: videos.outcomes(one(), 3)
    yield "retry scope", lambda: videos.retry_scope(one(), Selection())
    yield "times", lambda: videos.times(one(), 1)
    yield "dashboard's search, 'A1'", lambda: store.jobs.ids_with_video("A1", owner_id=None)
    yield "dashboard's search, 'cut off'", lambda: store.jobs.ids_with_video("cut off", owner_id=None)
    yield "start: orphans", videos.delete_orphans
    yield "start: removals", lambda: store.jobs.removals(1_000)
    yield "start: last position", store.jobs.last_seq


async def measure(path: Path, database: Database, jobs: int) -> None:
    """Print a line for each list, and the slowest of them."""
    store, rng, slow = Store(database), random.Random(5), []
    with bare_driver(path) as raw:
        ids = [one for (one,) in raw("SELECT id FROM job WHERE status = 'failed' LIMIT 500", ())]
        row("list", "p50", "p99", "CPU p50", "reference", "x", widths=LIST_WIDTHS)
        for what, read in (*lists(store), *of_videos(store, ids)):
            took: list[list[float]] = [[], [], []]
            for _ in range(PAGES):
                began, cpu = time.perf_counter(), time.process_time()
                await read()
                took[0].append((time.perf_counter() - began) * 1000)
                took[1].append((time.process_time() - cpu) * 1000)
                cpu = time.process_time()
                for number in rng.sample(range(1, jobs + 1), PAGE):
                    raw(REFERENCE, (number,))
                took[2].append((time.process_time() - cpu) * 1000)
            wall, ours, theirs = (sorted(times) for times in took)
            p50, p99, used, reference = (
                percentile(wall, 50),
                percentile(wall, 99),
                *(percentile(t, 50) for t in (ours, theirs)),
            )
            slow += [what] if p50 > AIM_MS else []
            row(
                what,
                *(f"{ms:.1f}" for ms in (p50, p99, used, reference)),
                f"{used / reference:.1f}",
                widths=LIST_WIDTHS,
            )
    print(f"aim: p50 at most {AIM_MS} ms; over it: {', '.join(slow) or 'none'}")


def download(url: str, jwt: str, done: Connection) -> None:
    """Download an export; send its lines and seconds."""
    lines, began = 0, time.perf_counter()
    headers = {"Authorization": f"Bearer {jwt}"}
    with httpx.stream("GET", url, headers=headers, timeout=600, verify=TLS) as answer:
        for part in answer.iter_raw():
            lines += part.count(b"\n")
    done.send((lines, time.perf_counter() - began))


def others(client: httpx.Client, address: str, until: Callable[[], bool]) -> list[float]:
    """Return the sorted milliseconds of requests, one after the other, until then."""
    took = []
    while not until():
        began = time.perf_counter()
        assert client.get(address).status_code == 200
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(PAUSE_SECONDS)
    return sorted(took)


def bare_rate(path: Path) -> float:
    """Return how many lines a second the driver and the CSV writer make of the history, and do nothing else."""
    with bare_driver(path) as raw:
        began = time.perf_counter()
        rows = raw(LINES, ())
        buffer = io.StringIO(newline="")
        csv.writer(buffer).writerows(rows)
        assert buffer.getvalue().encode()
        return len(rows) / (time.perf_counter() - began)


def measure_exports(home: Path, job_id: str, big: str) -> None:
    """Print the rate of the exports, and how long others wait meanwhile."""
    row("export", "rows/s", "bare rows/s", "others p50", "p99", widths=WIDTHS)
    with running(home, completed_job_ttl_seconds=WEEK, failed_job_ttl_seconds=WEEK) as program:
        jwt = token(home, "admin")
        with api(program, jwt) as client:
            one, end = f"/api/jobs/{job_id}", time.perf_counter() + 3
            idle = others(client, one, lambda: time.perf_counter() > end)
            row("(none)", "", "", f"{percentile(idle, 50):.1f}", f"{percentile(idle, 99):.1f}", widths=WIDTHS)
            for what, address in (
                ("history", "/api/jobs/export.csv"),
                ("a job of 100,000", f"/api/jobs/{big}/export.csv"),
            ):
                receiving, sending = multiprocessing.Pipe(duplex=False)
                child = multiprocessing.Process(target=download, args=(program.url + address, jwt, sending))
                child.start()
                waits = others(client, one, receiving.poll)
                lines, seconds = receiving.recv()
                child.join()
                bare = bare_rate(home / FILE)
                figures = (f"{percentile(waits, 50):.1f}", f"{percentile(waits, 99):.1f}")
                row(what, f"{lines / seconds:,.0f}", f"{bare:,.0f}", *figures, widths=WIDTHS)
    print(f"aim: at least {AIM_ROWS:,} rows a second, others' p99 below {AIM_OTHERS_MS} ms")


def main(jobs: int, kind: str) -> None:
    """Build, measure, and serve."""
    with databases(kind) as kinds:
        for name, used in kinds.items():
            with tempfile.TemporaryDirectory() as directory, used():
                print(name)
                _build_and_measure(Path(directory), jobs)


def _build_and_measure(home: Path, jobs: int) -> None:
    path, began = home / FILE, time.perf_counter()
    new_database(path).close()
    fill(home, jobs, VIDEOS)
    built, size = time.perf_counter() - began, sum(size for _, size in sizes(path))
    print(f"{jobs:,} jobs, {jobs * VIDEOS:,} videos, {size / 2**20:,.0f} MiB, built in {built:.0f} s; {load()}")
    print_sizes(path, jobs * VIDEOS)
    fill(home, 2, 100_000, seed=8)
    with bare_driver(path) as raw:
        [(usual,)] = raw("SELECT id FROM job WHERE number = 1", ())
        [(big,)] = raw("SELECT id FROM job WHERE number = (SELECT max(number) FROM job)", ())
    with closing(new_database(path)) as database:
        asyncio.run(measure(path, database, jobs))
    measure_exports(home, usual, big)


if __name__ == "__main__":
    chosen_kind, given = taken_kind(sys.argv[1:])
    main(int(given[0]) if given else JOBS, chosen_kind)
