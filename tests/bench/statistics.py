"""What the statistics cost: `python -m tests.bench.statistics [results] [--database postgresql]`.

So many results (default 1,000,000; 20,000,000 take some minutes) of five users and two processors, over 180 days, are
counted as ticks count them. Then the periods are asked for as an administrator, in turn, while a timer on the event
loop shows how late it is; and what a tick notes for the statistics is measured for ticks of 1, 10 and 100 videos:
processor time of the whole tick, and of the note without the transaction around it, in turn; and what the counting
afterwards takes, beside the event loop.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert

from backend.api.statistics_types import StatsOut
from backend.clock import to_millis
from backend.delivery.batches import Change
from backend.domain.job import Job
from backend.domain.measures import JobMeasure, Ledger, MeasureKind, VideoResult
from backend.domain.video import VideoStatus
from backend.jobs.statistics import Question, StatisticsQueries
from backend.settings import load_settings
from backend.store import Store, rollups
from backend.store.changes import NewJob, Tick, VideoChange
from backend.store.commit import commit
from backend.store.counting import note
from backend.store.database import Database
from backend.store.tables import CAUSES, USERS
from tests.bench.measure import load, percentile, row
from tests.support.clock import VirtualClock
from tests.support.databases import chosen, new_database
from tests.support.delivery import start_delivery
from tests.support.jobs import ERA, a_job
from tests.support.managed_backend import ADMIN

RESULTS, DAYS, VIDEOS = 1_000_000, 180, 500
OWNERS, PROCESSORS, CAUSES_KNOWN = 5, ("probe", "poster"), 20
NOW = datetime(2026, 6, 30, 10, 7, tzinfo=UTC)
PERIODS = ("night", "24h", "7d", "30d", "90d")
AIMS = {"7d": 300, "90d": 500}
ROUNDS, TICKS, SIZES = 15, 60, (1, 10, 100)
BEAT_SECONDS = 0.005
AIM_SHARE = 0.05
JOBS_AT_ONCE = 100
NOTHING: dict[str, Any] = {"started_at": None, "duration_seconds": None, "error": None, "result": None}
STARTED = {**NOTHING, "fingerprint": None, "status": VideoStatus.PROCESSING, "attempts": 0}
WIDTHS = (12, 10, 10, 10, 14, 10)
TICK_WIDTHS = (12, 14, 14, 16, 18)


def main() -> None:
    """Fill a database, and print both tables."""
    with chosen(sys.argv[1:]) as rest, tempfile.TemporaryDirectory() as directory:
        results = int(rest[0]) if rest else RESULTS
        database = new_database(Path(directory) / "dashboard.sqlite3")
        users = [
            {"id": f"user-{number}", "name": f"user-{number}", "is_admin": False, "disabled": False, "created_at": ERA}
            for number in range(OWNERS)
        ]
        database.write_now(lambda connection: connection.execute(insert(USERS), users))
        began = time.perf_counter()
        fill(database, results)
        print(f"{results:,} results counted in {time.perf_counter() - began:.0f} s; {load()}")
        asyncio.run(ask(database))
        asyncio.run(tick_costs(database))
        database.close()


def fill(database: Database, results: int) -> None:
    """Count so many random results, and fold what is old, as the server does."""
    names = [
        {"fingerprint": f"{number:012x}", "words": f"The file is broken in way {number}."}
        for number in range(CAUSES_KNOWN)
    ]
    database.write_now(lambda connection: connection.execute(insert(CAUSES), names))
    jobs, rng = max(1, results // VIDEOS), random.Random(19)
    for first in range(0, jobs, JOBS_AT_ONCE):
        ledger = Ledger()
        for number in range(first, min(jobs, first + JOBS_AT_ONCE)):
            count_job(ledger, number, jobs, rng)
        database.write_now(lambda connection, counted=ledger: rollups.add(connection, counted))  # type: ignore[misc]
    store = Store(database)

    async def fold() -> None:
        while await store.statistics.fold(before=NOW - timedelta(days=8)):
            pass

    asyncio.run(fold())


def count_job(ledger: Ledger, number: int, jobs: int, rng: random.Random) -> None:
    """Count one job of `VIDEOS` videos, one in twenty failed."""
    owner, processor = f"user-{rng.randrange(OWNERS)}", rng.choice(PROCESSORS)
    begin = NOW - timedelta(days=DAYS) * (1 - number / jobs)
    at, usual = to_millis(begin), rng.lognormvariate(8.5, 0.6)
    for position in range(VIDEOS):
        millis = max(1, int(usual * rng.lognormvariate(0, 0.7)))
        has_failed = rng.random() < 0.05
        cause = f"{rng.randrange(CAUSES_KNOWN):012x}" if has_failed else None
        result = VideoResult(
            f"job-{number}",
            position,
            1,
            at,
            millis,
            has_failed,
            cause,
            0 if has_failed else rng.randrange(60_000, 10**7),
        )
        ledger.add_result(result, owner_id=owner, processor=processor)
        at += millis // 2
    ledger.add_measure(
        JobMeasure(MeasureKind.WAIT, to_millis(begin), owner, processor, int(rng.expovariate(1 / 300_000)))
    )
    ledger.add_measure(JobMeasure(MeasureKind.RUN, at, owner, processor, at - to_millis(begin)))


async def ask(database: Database) -> None:
    """Print how long each period takes on the server, and how late the event loop is meanwhile."""
    store, clock = Store(database), VirtualClock(NOW)
    delivery = await start_delivery(store, clock)
    accounts: Any = None  # nobody asks for one user here
    queries = StatisticsQueries(
        store.statistics,
        delivery.hub,
        accounts,
        load_settings(time_zone="UTC"),
        clock,
        slots=lambda: 2,
    )
    await queries.mark()
    times: dict[str, list[float]] = {period: [] for period in PERIODS}
    late: dict[str, list[float]] = {period: [] for period in PERIODS}
    for _ in range(ROUNDS):
        for period in PERIODS:
            beat = asyncio.create_task(_beat(late[period]))
            began = time.perf_counter()
            StatsOut.of(await queries.of(Question(period=period), by=ADMIN))
            times[period].append((time.perf_counter() - began) * 1000)
            beat.cancel()
    row("period", "p50 ms", "max ms", "aim ms", "loop late p99", "", widths=WIDTHS)
    for period in PERIODS:
        ordered, aim = sorted(times[period]), AIMS.get(period)
        reached = "" if aim is None else "reached" if percentile(ordered, 50) <= aim else "MISSED"
        lateness = f"{percentile(sorted(late[period]), 99):.1f}"
        row(period, f"{percentile(ordered, 50):.0f}", f"{ordered[-1]:.0f}", aim or "", lateness, reached, widths=WIDTHS)


async def _beat(late: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(BEAT_SECONDS)
        late.append((time.perf_counter() - began - BEAT_SECONDS) * 1000)


async def tick_costs(database: Database) -> None:
    """Print what a tick costs, what of it the note costs, and what the counting costs later."""
    store = Store(database)
    delivery = await start_delivery(store, VirtualClock(NOW))
    row("videos", "tick us/video", "note us/video", "share", "counting us/video", widths=TICK_WIDTHS)
    for size in SIZES:
        whole, share, empty = 0.0, 0.0, 0.0
        total = size * TICKS
        job = a_job(id=f"bench-{size}", owner_id="user-0", owner="user-0", total_videos=total)
        delivery.journal.stage_new(NewJob(job=job, columns=("video_id",)))
        await delivery.journal.tick()
        for tick in ticks(job, size):
            whole += cpu_of(database, tick, commit)
            beside = replace(tick, jobs=[tick.jobs[0].evolve(seq=tick.last_seq + 500)])
            share += cpu_of(database, beside, note)
            empty += cpu_of(database, beside, lambda connection, _: connection.exec_driver_sql("SELECT 1"))
        part = (share - empty) / whole
        began = time.process_time()
        await store.statistics.count()
        counting = (time.process_time() - began) / (2 * total) * 1e6  # each is noted twice here
        verdict = "reached" if part <= AIM_SHARE else "MISSED"
        of_note = (share - empty) / total * 1e6
        figures = (f"{whole / total * 1e6:.0f}", f"{of_note:.1f}", f"{part:.1%} {verdict}", f"{counting:.1f}")
        row(size, *figures, widths=TICK_WIDTHS)


def ticks(job: Job, size: int) -> Iterator[Tick]:
    """Yield ticks such as the journal makes: so many results, one in twenty a failure, as many starts, a percent."""
    rng = random.Random(size)
    for number in range(TICKS):
        first = number * size
        results = [a_change(job, first + place, rng) for place in range(size)]
        started = [replace(change, position=change.position + size, **STARTED) for change in results]
        state = job.evolve(current_video=first + size, seq=2**52 + number + 1000 * size)
        yield Tick(jobs=[state], videos=[*results, *started], events=[Change(state)])


def a_change(job: Job, position: int, rng: random.Random) -> VideoChange:
    """Return a result such as the program makes."""
    usual = VideoChange(
        job_id=job.id,
        position=position,
        status=VideoStatus.COMPLETED,
        attempts=1,
        started_at=NOW,
        duration_seconds=round(rng.lognormvariate(1.5, 0.7), 3),
        result={"container": "mp4", "duration_seconds": 61.5, "video": {"codec": "h264", "width": 1280, "height": 720}},
    )
    if rng.random() > 0.05:
        return usual
    return replace(usual, status=VideoStatus.FAILED, result=None, error="It is cut off.", fingerprint=f"{0:012x}")


def cpu_of(database: Database, tick: Tick, step: object) -> float:
    """Return the processor seconds of one transaction with this step."""

    def work(connection: Connection) -> None:
        step(connection, tick)  # type: ignore[operator]

    began = time.process_time()
    database.write_now(work)
    return time.process_time() - began


if __name__ == "__main__":
    os.environ.setdefault("TZ", "UTC")
    main()
