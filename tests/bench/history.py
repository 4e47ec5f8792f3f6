"""The cost of a page of a job's history: `python -m tests.bench.history [events] [--database postgresql]`.

The program's own database has this number of events (default 1,000,000; 10,000,000 take some minutes and 5 GB in the
temporary directory): over thirty days, ten runs of the server, 1,000 jobs, and one that has a tenth of all events.
Pages of 100 updates are read at random depths, after a position and since a time, each of them through the store and
with the database's driver alone, in turn. For a page since a time, the driver gets the position where it begins, and
only reads the page. All times are in ms.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path

import msgspec

from backend.clock import from_millis, iso, to_millis
from backend.domain.job import Job
from backend.store.history import HistoryStore
from progress_dashboard.protocol import ProgressUpdate, Status
from tests.bench.bare_driver import Rows, bare_driver, insert, sizes
from tests.bench.beside import databases
from tests.bench.measure import load, percentile, row
from tests.support.databases import FILE, new_database, taken_kind

EVENTS, JOBS, BIG_SHARE = 1_000_000, 1_000, 0.1
RUNS, DAYS = 10, 30
PAGE, PAGES, WARM_UP = 100, 2_000, 200
CHUNK = 100_000
AIM = 3.0
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = ("job_id", "seq", "at", "body")
RAW = "SELECT body FROM progress_event WHERE job_id = ? AND seq > ? ORDER BY seq LIMIT ?"
WIDTHS = (26, 12, 12, 12, 12, 9, 9)
Row = tuple[str, int, int, str]


@dataclass(frozen=True)
class Events:
    """The events to store: `count` of them, in the order in which a server would have stored them."""

    count: int
    jobs: tuple[Job, ...]

    def seq(self, number: int) -> int:
        """Return the position of an event. Each run of the server starts at the microseconds since 1970."""
        run, within = divmod(number, self._per_run)
        return to_millis(BEGAN + timedelta(days=DAYS / RUNS) * run) * 1000 + within

    def at(self, number: int) -> int:
        """Return the time of an event in milliseconds since 1970."""
        return to_millis(BEGAN) + number * (DAYS * 86_400_000) // self.count

    def row(self, number: int, job: Job) -> Row:
        """Return the event as a row of its table."""
        seq, at = self.seq(number), self.at(number)
        update = msgspec.structs.replace(self._updates[job.id], seq=seq, timestamp=iso(from_millis(at)))
        return job.id, seq, at, msgspec.json.encode(update).decode()

    @cached_property
    def _updates(self) -> dict[str, ProgressUpdate]:
        return {job.id: job.update() for job in self.jobs}

    @property
    def _per_run(self) -> int:
        return -(-self.count // RUNS)


@dataclass(frozen=True)
class Place:
    """The beginning of a page: after the event `seq` of a job. A page since the time `since` is the same."""

    job_id: str
    seq: int
    since: datetime


def some_jobs() -> tuple[Job, ...]:
    """Return the jobs, with the large one first."""
    job = Job(
        id="",
        owner_id="ana",
        owner="ana",
        name="nightly-2026-01.csv",
        processor="probe",
        created_at=BEGAN,
        updated_at=BEGAN,
        total_videos=4096,
        status=Status.PROCESSING,
        message="Processing videos...",
        video_id="dQw4w9WgXcQ",
    )
    rng = random.Random(4)
    return tuple(job.evolve(id=f"{rng.getrandbits(32):08x}-0000-4000-8000-{n:012}") for n in range(JOBS + 1))


def fill(path: Path, events: Events, rng: random.Random) -> dict[str, array[int]]:
    """Store the events; return the numbers of each job's events."""
    numbers = {job.id: array("q") for job in events.jobs}

    def rows() -> Iterator[Row]:
        for number in range(events.count):
            job = events.jobs[0 if rng.random() < BIG_SHARE else rng.randint(1, JOBS)]
            numbers[job.id].append(number)
            yield events.row(number, job)

    remaining = rows()
    while chunk := sorted(islice(remaining, CHUNK)):  # each job's part of the file is written once per chunk
        insert(path, "progress_event", COLUMNS, chunk)
    return numbers


def places(events: Events, numbers: dict[str, array[int]], rng: random.Random) -> Iterator[Place]:
    """Yield random depths of random jobs, half of them in the large job."""
    while True:
        job = events.jobs[0 if rng.random() < 0.5 else rng.randint(1, JOBS)]
        own = numbers[job.id]
        at = rng.randrange(1, len(own))
        while at < len(own) and events.at(own[at]) == events.at(own[at - 1]):
            at += 1  # a page since a time begins with the first event of its millisecond
        if at < len(own):
            yield Place(job.id, events.seq(own[at - 1]), from_millis(events.at(own[at])))


async def measured(history: HistoryStore, raw: Rows, places: Iterator[Place], *, by_time: bool) -> list[list[float]]:
    """Return the sorted milliseconds of the pages [through the store, by the driver alone]."""

    async def by_store(place: Place) -> list[bytes]:
        since, after = (place.since, None) if by_time else (None, place.seq)
        return await history.page(place.job_id, since=since, after=after, limit=PAGE)

    async def by_driver(place: Place) -> list[bytes]:
        return [body.encode() for (body,) in raw(RAW, (place.job_id, place.seq, PAGE))]

    took: list[list[float]] = [[], []]
    for number, place in enumerate(islice(places, WARM_UP + PAGES)):
        pages: list[list[bytes]] = [[], []]
        for which in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            pages[which] = await (by_store, by_driver)[which](place)
            if number >= WARM_UP:
                took[which].append((time.perf_counter() - began) * 1000)
        assert pages[0] == pages[1], place
    return [sorted(times) for times in took]


async def measure(path: Path, events: Events, numbers: dict[str, array[int]]) -> None:
    """Print the table."""
    row("", "store p50", "store p99", "driver p50", "driver p99", "x p50", "x p99", widths=WIDTHS)
    database = new_database(path)
    with bare_driver(path) as raw, closing(database):
        for what, by_time in (("after a position, ms", False), ("since a time, ms", True)):
            chosen = places(events, numbers, random.Random(7))
            store, driver = await measured(HistoryStore(database), raw, chosen, by_time=by_time)
            figures = [percentile(times, percent) for times in (store, driver) for percent in (50, 99)]
            ratios = figures[0] / figures[2], figures[1] / figures[3]
            row(what, *(f"{figure:.3f}" for figure in figures), *(f"{ratio:.2f}" for ratio in ratios), widths=WIDTHS)


def main(count: int, kind: str) -> None:
    """Store this number of events and measure."""
    events = Events(count, some_jobs())
    with databases(kind) as kinds:
        for name, used in kinds.items():
            with tempfile.TemporaryDirectory() as home, used():
                path, began = Path(home) / FILE, time.perf_counter()
                numbers = fill(path, events, random.Random(5))
                seconds, size = time.perf_counter() - began, sum(size for _, size in sizes(path))
                stored = f"{size / 2**20:,.0f} MiB, {size / count:.0f} bytes per event, stored in {seconds:.0f} s"
                print(f"{name}: {count:,} events, {stored}; {load()}")
                asyncio.run(measure(path, events, numbers))
    print(f"aim: at most {AIM} x the driver; pages of {PAGE} updates, {PAGES:,} pages per line")


if __name__ == "__main__":
    chosen_kind, given = taken_kind(sys.argv[1:])
    main(int(given[0]) if given else EVENTS, chosen_kind)
