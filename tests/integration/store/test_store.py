"""Ticks, pages and erasure, and copies of the database file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from backend.domain.video import Video, VideoStatus
from backend.store import Store
from backend.store.changes import NewJob, RemovedJob, Tick
from backend.store.database import Database
from backend.store.job_lists import SORTS, Wanted
from backend.store.jobs import ERASED_AT_ONCE
from backend.store.sqlite import copy_database
from progress_dashboard.protocol import Status
from tests.support.databases import FILE
from tests.support.jobs import a_job


def count_videos(database: Database) -> int:
    count = text("SELECT count(*) FROM video")
    return int(database.read_now(lambda connection: connection.execute(count).scalar_one()))


@pytest.mark.sqlite_only
async def test_a_copy_made_while_in_use_is_complete(database: Database, store: Store, tmp_path: Path) -> None:
    await store.commit(Tick(new=[NewJob(job=a_job(), columns=())]))
    copy_database(tmp_path / FILE, tmp_path / "copy.sqlite3")
    with closing(sqlite3.connect(tmp_path / "copy.sqlite3")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("SELECT count(*) FROM job").fetchone() == (1,)


async def test_a_tick_is_stored_as_a_whole_or_not_at_all(store: Store) -> None:
    job = a_job()
    await store.commit(Tick(new=[NewJob(job=job, columns=())]))
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.commit(Tick(new=[NewJob(job=job, columns=())], jobs=[a_job(progress=50)]))
    stored = await store.jobs.find(job.id, owner_id=None)
    assert stored is not None
    assert stored.progress == 0


async def test_a_removed_job_leaves_the_dashboard_unpinned_and_stays(store: Store) -> None:
    job = a_job(pinned=True, status=Status.COMPLETED, seq=5)
    await store.commit(Tick(new=[NewJob(job=job, columns=())]))
    await store.commit(Tick(removed=[RemovedJob(job.id, job.owner_id, 9)]))
    assert await store.jobs.on_dashboard() == []
    assert await store.jobs.find(job.id, owner_id=None) == job.evolve(on_dashboard=False, pinned=False)
    assert (await store.jobs.removals(10), await store.jobs.last_seq()) == ([(job.id, "ana", 9)], 9)


async def test_videos_of_a_job_that_never_appeared_are_deleted(database: Database, store: Store) -> None:
    await store.videos.add([Video(job_id="orphan", position=0, video_id="v")])
    await store.videos.delete_orphans()
    assert count_videos(database) == 0


async def test_a_large_job_is_erased_in_many_short_transactions(database: Database, store: Store) -> None:
    job = a_job(total_videos=2 * ERASED_AT_ONCE + 1)
    await store.videos.add([Video(job_id=job.id, position=at, video_id=f"v{at}") for at in range(job.total_videos)])
    await store.commit(Tick(new=[NewJob(job=job, columns=())]))
    await store.commit(Tick(removed=[RemovedJob(job.id, job.owner_id, 9, is_deleted=True)]))
    counts = []
    while await store.jobs.erase_some(job.id):
        counts.append(count_videos(database))
    assert counts == [ERASED_AT_ONCE + 1, 1, 0]
    assert (await store.jobs.deleted(), await store.jobs.last_seq()) == ([], 9)
    assert await store.jobs.removals(10) == [(job.id, "ana", 9)]


async def test_the_outcome_strip_is_in_the_order_of_the_list(store: Store) -> None:
    ended = {0: VideoStatus.COMPLETED, 1: VideoStatus.FAILED, 2: VideoStatus.PROCESSING, 10: VideoStatus.FAILED}
    await store.videos.add(
        [
            Video(job_id=job_id, position=at, video_id=f"v{at}", status=ended.get(at, VideoStatus.PENDING))
            for job_id in ("job", "another")
            for at in reversed(range(12))
        ]
    )
    assert await store.videos.outcome_strip("job") == "ofr.......f."


async def ids_by_page(store: Store, sort: str) -> list[str]:
    """Return the IDs of all of ana's jobs, read in pages of ten."""
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.jobs.page(Wanted(owner_id="ana", sort=sort), limit=10, cursor=cursor)
        seen += [job.id for job in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return seen


@pytest.mark.parametrize("sort", SORTS)
async def test_pages_of_jobs_neither_repeat_nor_leave_out(store: Store, sort: str) -> None:
    new = [NewJob(job=a_job(id=f"job-{number:02}"), columns=()) for number in range(25)]
    await store.commit(Tick(new=new))
    seen = await ids_by_page(store, sort)
    assert sorted(seen) == [one.job.id for one in new]
    assert len(seen) == 25


@pytest.mark.parametrize(
    ("q", "is_found"),
    [
        ("job-a", True),
        ("JOB-A", True),
        ("Nightly", True),
        ("vid-1", True),
        ("vid", True),
        ("id-1", False),
        ("%", False),
    ],
)
async def test_a_job_is_found_by_its_id_name_and_videos(store: Store, q: str, is_found: bool) -> None:
    job = a_job(id="job-a", name="nightly.csv", status=Status.PENDING)
    await store.videos.add([Video(job_id=job.id, position=0, video_id="vid-1")])
    await store.commit(Tick(new=[NewJob(job=job, columns=())]))
    page = await store.jobs.page(Wanted(owner_id="ana", q=q), limit=10, cursor=None)
    assert bool(page.items) is is_found
