"""The database file: upgrades, copies, and what a second program sees."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from backend.domain.video import Video, VideoStatus
from backend.errors import CannotStart
from backend.store import Database, JobStore, NewJob, Tick, open_database
from backend.store.database import MIGRATIONS, copy_database
from backend.store.jobs import ERASED_AT_ONCE
from backend.store.tables import METADATA
from progress_dashboard.protocol import Status
from tests.support.jobs import a_job


def tables(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def columns(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        return {row[1] for row in connection.execute("PRAGMA table_info(job)")}


def test_a_new_database_has_exactly_the_tables_of_the_models(database: Database) -> None:
    assert tables(database.path) - {"alembic_version"} == set(METADATA.tables)


def test_the_migrations_lead_to_the_models(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    changes = database.read_now(lambda connection: compare_metadata(MigrationContext.configure(connection), METADATA))
    assert changes == []


NEXT_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade():
    op.add_column("job", sa.Column("colour", sa.String()))
"""


def test_an_older_database_is_copied_and_then_upgraded(tmp_path: Path) -> None:
    path, backups = tmp_path / "dashboard.sqlite3", tmp_path / "backups"
    open_database(path, backups=backups).close()
    newer = shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    (newer / "versions" / "v0005_colour.py").write_text(NEXT_MIGRATION)
    open_database(path, backups=backups, migrations=newer).close()
    copy = backups / "before-upgrade-from-0004.sqlite3"
    assert columns(path) - columns(copy) == {"colour"}


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.sqlite3"
    open_database(path, backups=tmp_path / "backups").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CannotStart, match="newer version"):
        open_database(path, backups=tmp_path / "backups")


def test_a_file_that_is_no_database_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.sqlite3"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(CannotStart, match="cannot be opened"):
        open_database(path, backups=tmp_path / "backups")


async def test_a_copy_made_while_in_use_is_whole(database: Database, store: JobStore, tmp_path: Path) -> None:
    await store.commit(Tick(new=[NewJob(job=a_job(), columns=())], jobs=[], events=[], removed=[], videos=[]))
    copy_database(database.path, tmp_path / "copy.sqlite3")
    with sqlite3.connect(tmp_path / "copy.sqlite3") as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("SELECT count(*) FROM job").fetchone() == (1,)


async def test_a_tick_is_stored_whole_or_not_at_all(database: Database, store: JobStore) -> None:
    job = a_job()
    await store.commit(Tick(new=[NewJob(job=job, columns=())], jobs=[], events=[], removed=[], videos=[]))
    twice = Tick(new=[NewJob(job=job, columns=())], jobs=[a_job(progress=50)], events=[], removed=[], videos=[])
    with pytest.raises(Exception, match="UNIQUE"):
        await store.commit(twice)
    stored = await store.find(job.id, owner_id=None)
    assert stored is not None
    assert stored.progress == 0


async def test_videos_of_a_job_that_never_came_are_forgotten(database: Database, store: JobStore) -> None:
    await store.add_videos([Video(job_id="unborn", position=0, video_id="v")])
    await store.delete_orphans()
    assert database.read_now(lambda connection: connection.execute(text("SELECT count(*) FROM video")).scalar()) == 0


async def test_a_large_job_is_erased_in_many_short_transactions(database: Database, store: JobStore) -> None:
    job = a_job(total_videos=2 * ERASED_AT_ONCE + 1)
    await store.add_videos([Video(job_id=job.id, position=at, video_id=f"v{at}") for at in range(job.total_videos)])
    await store.commit(Tick(new=[NewJob(job=job, columns=())], jobs=[], events=[], removed=[], videos=[]))
    gone = [(job.id, job.owner_id, 9)]
    await store.commit(Tick(new=[], jobs=[], events=[], removed=[(job.id, 9)], videos=[], deleted=gone))
    left = text("SELECT count(*) FROM video")
    counts = []
    while await store.erase_some(job.id):
        counts.append(database.read_now(lambda connection: connection.execute(left).scalar()))
    assert counts == [ERASED_AT_ONCE + 1, 1, 0]
    assert (await store.deleted_jobs(), await store.last_seq()) == ([], 9)
    assert await store.removals(10) == [(job.id, "ana", 9)]


async def test_how_a_jobs_videos_stand_is_read_in_the_order_of_its_list(store: JobStore) -> None:
    stand = {0: VideoStatus.COMPLETED, 1: VideoStatus.FAILED, 2: VideoStatus.PROCESSING, 10: VideoStatus.FAILED}
    await store.add_videos(
        [
            Video(job_id=job_id, position=at, video_id=f"v{at}", status=stand.get(at, VideoStatus.PENDING))
            for job_id in ("job", "another")
            for at in reversed(range(12))
        ]
    )
    assert await store.outcome_strip("job") == "ofr.......f."


async def test_pages_of_jobs_neither_repeat_nor_leave_out(store: JobStore) -> None:
    made = [NewJob(job=a_job(id=f"job-{number:02}"), columns=()) for number in range(25)]
    await store.commit(Tick(new=made, jobs=[], events=[], removed=[], videos=[]))
    for sort in ("newest", "oldest", "name", "updated"):
        seen: list[str] = []
        cursor = None
        while True:
            page = await store.jobs(
                owner_id="ana", dashboard=None, status=None, q="", sort=sort, limit=10, cursor=cursor
            )
            seen += [job.id for job in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert sorted(seen) == [new.job.id for new in made]
        assert len(seen) == 25


@pytest.mark.parametrize(
    ("q", "found"),
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
async def test_a_job_is_found_by_id_name_and_video(store: JobStore, q: str, found: bool) -> None:
    job = a_job(id="job-a", name="nightly.csv", status=Status.PENDING)
    await store.add_videos([Video(job_id=job.id, position=0, video_id="vid-1")])
    await store.commit(Tick(new=[NewJob(job=job, columns=())], jobs=[], events=[], removed=[], videos=[]))
    page = await store.jobs(owner_id="ana", dashboard=None, status=None, q=q, sort="newest", limit=10, cursor=None)
    assert bool(page.items) is found
