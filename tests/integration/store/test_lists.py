"""Lists of jobs: what is found, in which order, and that an index leads to it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from itertools import product
from operator import attrgetter
from pathlib import Path

import pytest

from backend.domain.job import Job, Selection
from backend.domain.video import Video, VideoStatus
from backend.domain.words import folded
from backend.store import Store
from backend.store.changes import NewJob, RemovedJob, Tick, VideoChange
from backend.store.database import Database
from backend.store.job_lists import CHUNKS, SORTS, Wanted
from progress_dashboard.protocol import Status
from tests.support.clock import NOON
from tests.support.databases import FILE, new_database
from tests.support.jobs import ERA, a_job
from tests.support.many_rows import fill
from tests.support.query_plans import executed_statements, scans, steps

NAMES = ("nightly run", "Nightly 7%", "Übung_2", "U\u0308BUNG", "会議の録画", "a", "ab", 'say "cut"', "x AND y")
ERRORS = (None, "File is cut off", "Größe fehlt", "100% lost")
ENDED = (Status.COMPLETED, Status.FAILED, Status.COMPLETED_WITH_ERRORS, Status.CANCELLED)
SEARCHES = (
    "ni",
    "nightly",
    "NIGHTLY R",
    "übung",
    "7%",
    "_",
    "会議",
    "の",
    "cut",
    'y "cu',
    "cut off",
    "größe",
    "d",
    "vid-1",
    "and",
)
BIG_TABLES = ("video", "result", "progress_event", "milestone")


def some_jobs(count: int) -> list[Job]:
    """Return jobs of two owners in many states; every fifth one is on the dashboard."""
    rng = random.Random(11)
    return [
        a_job(
            id=f"{rng.randrange(16**8):08x}-{number:03}",
            owner_id=(owner := rng.choice(("ana", "ben"))),
            owner=owner,
            name=f"{rng.choice(NAMES)}{rng.choice(('', ' 10', ' 9'))}",
            error=rng.choice(ERRORS),
            status=rng.choice(ENDED),
            created_at=ERA + timedelta(seconds=rng.randrange(40)),
            updated_at=ERA + timedelta(seconds=rng.randrange(40)),
            on_dashboard=number % 5 == 0,
            seq=number + 1,
        )
        for number in range(count)
    ]


async def stored(store: Store, count: int = 200) -> list[Job]:
    """Store such jobs, each with one video."""
    jobs = some_jobs(count)
    await store.videos.add([Video(job_id=job.id, position=0, video_id=f"vid-{job.seq}") for job in jobs])
    await store.commit(Tick(new=[NewJob(job=job.evolve(on_dashboard=True), columns=()) for job in jobs]))
    left = [RemovedJob(job.id, job.owner_id, 1_000 + job.seq) for job in jobs if not job.on_dashboard]
    await store.commit(Tick(removed=left))
    return jobs


def expected(jobs: list[Job], wanted: Wanted) -> list[str]:
    """Return the IDs of the list, without a database."""
    q = folded(wanted.q)
    found = [
        job
        for job in jobs
        if wanted.owner_id in (None, job.owner_id)
        and wanted.dashboard in (None, job.on_dashboard)
        and wanted.status in (None, job.status)
        and (
            not q
            or job.id.startswith(wanted.q.lower())
            or q in job.name_folded
            or q in folded(job.error or "")
            or f"vid-{job.seq}".startswith(wanted.q)
        )
    ]
    value = {"name": "name_key", "updated": "updated_at"}.get(wanted.sort, "created_at")
    return [job.id for job in sorted(found, key=attrgetter(value, "id"), reverse=wanted.is_descending)]


async def read_all(store: Store, wanted: Wanted, limit: int = 7) -> list[str]:
    """Return the IDs of the whole list, page by page."""
    found: list[str] = []
    cursor = None
    while True:
        page = await store.jobs.page(wanted, limit=limit, cursor=cursor)
        found += [job.id for job in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_every_list_has_its_jobs_in_order_page_by_page(store: Store) -> None:
    jobs = await stored(store)
    for owner, dashboard, status, sort in product((None, "ana"), (None, True, False), (None, Status.FAILED), SORTS):
        wanted = Wanted(owner_id=owner, dashboard=dashboard, status=status, sort=sort)
        assert await read_all(store, wanted, limit=40) == expected(jobs, wanted), wanted


@pytest.mark.parametrize("q", SEARCHES)
async def test_a_search_finds_what_a_look_at_every_job_finds(store: Store, q: str) -> None:
    jobs = await stored(store)
    beginnings = (jobs[0].id[:2], jobs[1].id[:6]) if q == SEARCHES[0] else ()
    for words, owner, dashboard, sort in product((q, *beginnings), (None, "ben"), (None, False), ("newest", "name")):
        wanted = Wanted(owner_id=owner, dashboard=dashboard, sort=sort, q=words)
        assert await read_all(store, wanted) == expected(jobs, wanted), wanted


async def test_a_job_is_found_after_it_left_returned_and_left_with_another_error(store: Store) -> None:
    job = a_job(status=Status.FAILED, error="File is cut off", seq=1)
    await store.commit(Tick(new=[NewJob(job=job, columns=())]))
    await store.commit(Tick(removed=[RemovedJob(job.id, job.owner_id, 2)]))
    assert await read_all(store, Wanted(q="cut off")) == [job.id]
    await store.commit(Tick(jobs=[job.evolve(status=Status.PROCESSING, seq=3)]))
    assert await read_all(store, Wanted(q="cut off", dashboard=True)) == [job.id]
    again = job.evolve(error="The disk is full", seq=4)
    await store.commit(Tick(jobs=[again], removed=[RemovedJob(job.id, job.owner_id, 5)]))
    assert await read_all(store, Wanted(q="disk is")) == [job.id]
    assert await read_all(store, Wanted(q="cut off")) == []
    await store.commit(Tick(removed=[RemovedJob(job.id, job.owner_id, 6, is_deleted=True)]))
    assert await read_all(store, Wanted(q="disk is")) == []


async def test_a_search_that_finds_little_among_very_many_jobs_gives_short_pages_that_lead_on(tmp_path: Path) -> None:
    database = new_database(tmp_path / FILE)
    jobs = 2 * sum(CHUNKS)
    fill(tmp_path, jobs, 1)
    pages, cursor, found = 0, None, 0
    while pages == 0 or cursor is not None:
        page = await Store(database).jobs.page(Wanted(q="~7"), limit=10, cursor=cursor)
        pages, cursor, found = pages + 1, page.next_cursor, found + len(page.items)
    database.close()
    assert (pages, found) == (3, 0)


async def explained(database: Database, action: Callable[[], Awaitable[object]]) -> list[str]:
    """Return the steps of all that the action executes."""
    with executed_statements() as statements:
        await action()
    assert scans(database, statements, *BIG_TABLES) == []
    return steps(database, statements)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("owner", [None, "ana"])
async def test_every_list_walks_an_index_of_its_order(
    database: Database, store: Store, owner: str | None, sort: str
) -> None:
    await stored(store, 20)
    covering = "COVERING " if database.dialect == "sqlite" else ""  # the newest rows of a table are not visible to all
    index = f"ix_job_past_{'owner_' if owner else ''}{'created' if sort in ('newest', 'oldest') else sort}"
    for status, cursor in product((None, Status.FAILED), (False, True)):
        wanted = Wanted(owner_id=owner, status=status, sort=sort, dashboard=False)
        after = (await store.jobs.page(wanted, limit=1, cursor=None)).next_cursor if cursor else None
        found = await explained(database, partial(store.jobs.page, wanted, limit=10, cursor=after))
        assert any(step.startswith(f"SEARCH job USING {covering}INDEX {index} (") for step in found), found
        assert not any("TEMP B-TREE" in step or step.startswith("SCAN job") for step in found), found


@pytest.mark.sqlite_only
@pytest.mark.parametrize("q", ["n", "nightly", "cut off", "vid-1", "0a3f"])
async def test_a_search_reads_only_what_its_indexes_name_and_the_dashboard(
    database: Database, store: Store, q: str
) -> None:
    await stored(store, 20)
    found = await explained(database, lambda: store.jobs.page(Wanted(q=q), limit=10, cursor=None))
    assert {step for step in found if step.startswith("SCAN job ")} <= {"SCAN job USING INDEX ix_job_present"}


@pytest.mark.sqlite_only
async def test_a_narrow_search_looks_at_the_named_jobs_whoever_asks(database: Database, store: Store) -> None:
    await stored(store, 20)
    wanted = Wanted(q="nightly", owner_id="ana", status=Status.FAILED, dashboard=False)
    found = await explained(database, lambda: store.jobs.page(wanted, limit=10, cursor=None))
    assert not any("ix_job_past" in step for step in found), found


@pytest.mark.sqlite_only
async def test_nothing_within_a_job_and_nothing_at_the_start_reads_all_videos_or_results(
    database: Database, store: Store
) -> None:
    [job, *_] = await stored(store, 20)
    failed = VideoChange(
        job_id=job.id,
        position=0,
        status=VideoStatus.FAILED,
        attempts=1,
        started_at=NOON,
        duration_seconds=1.0,
        error="cut off",
        traceback="trace: cut off",
        fingerprint="f",
    )
    videos, jobs = store.videos, store.jobs
    actions: list[Callable[[], Awaitable[object]]] = [
        lambda: store.commit(Tick(jobs=[job.evolve(seq=90)], videos=[failed])),
        lambda: videos.page(job.id, limit=10, cursor=None),
        lambda: videos.page(job.id, status=VideoStatus.FAILED, q="cut", limit=10, cursor="3"),
        lambda: videos.lines(job.id, cursor=None),
        lambda: videos.find(job.id, 0),
        lambda: videos.pending(job.id, after=-1, limit=5),
        lambda: videos.positions(job.id, {f"vid-{job.seq}"}),
        lambda: videos.failed_positions(job.id),
        lambda: videos.retry_scope(job.id, Selection()),
        lambda: videos.retry_scope(job.id, Selection(groups=("f",))),
        lambda: videos.causes(job.id),
        lambda: videos.outcome_strip(job.id),
        lambda: videos.outcomes(job.id, 0),
        lambda: videos.recent_durations(job.id, 5),
        lambda: videos.times(job.id, 1),
        lambda: jobs.ids_with_video("vid", owner_id=None),
        lambda: jobs.lines(Wanted(), cursor=None),
        lambda: jobs.count(owner_id="ana"),
        jobs.on_dashboard,
        jobs.last_seq,
        jobs.deleted,
        lambda: jobs.removals(10),
        videos.delete_orphans,
        lambda: videos.reset_running([job.id]),
        lambda: store.commit(Tick(removed=[RemovedJob(job.id, job.owner_id, 99, is_deleted=True)])),
        lambda: jobs.erase_some(job.id),
    ]
    for action in actions:
        found = await explained(database, action)
        assert not any(step == "SCAN job" or "SCAN idempotency_key" in step for step in found), found
