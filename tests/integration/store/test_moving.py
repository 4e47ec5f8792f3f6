"""`move-to`: from an SQLite file to PostgreSQL, all of it or nothing."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from backend.database_url import DatabaseUrl
from backend.delivery.batches import Change
from backend.domain.notification import ENDS, EventKind, NotificationSettings
from backend.domain.timeline import Milestone
from backend.domain.video import Video, VideoStatus
from backend.errors import CannotStart, Fault
from backend.store import Store
from backend.store.changes import NewJob, NewNotification, Tick, VideoChange
from backend.store.database import Database, open_database
from backend.store.moving import move
from backend.store.tables import METADATA, USERS
from progress_dashboard.protocol import Status
from tests.support.databases import FILE, url_of
from tests.support.jobs import ERA, a_job
from tests.support.telling import add_channel

pytestmark = pytest.mark.postgresql_only
VIDEOS = 3


@pytest.fixture
def target(tmp_path: Path) -> DatabaseUrl:
    """Return the address of an empty database."""
    return DatabaseUrl(url_of(tmp_path / "target" / FILE))


@pytest.fixture
async def source(tmp_path: Path) -> Path:
    """Return a file with rows in all tables that a job has."""
    path = tmp_path / FILE
    with closing(open_database(path, backups=tmp_path)) as database:
        ana = {"id": "ana", "name": "ana", "is_admin": True, "disabled": False, "created_at": ERA}
        await database.write(lambda connection: connection.execute(insert(USERS), [ana]))
        await fill(Store(database))
        add_channel(database, "hook", "ana", only={"name": "Übung"}, events=("failed",))
    return path


async def fill(store: Store) -> None:
    job = a_job(name="Übung\x1f", seq=7, on_dashboard=False, status=Status.FAILED, error="schön", options={"a": "\x00"})
    videos = [
        Video(job_id=job.id, position=place, video_id=f"video-{place}", line=place, cells=("a\tb", "\\N", ""))
        for place in range(VIDEOS)
    ]
    await store.videos.add(videos)
    result = VideoChange(
        job_id=job.id,
        position=1,
        status=VideoStatus.FAILED,
        attempts=1,
        started_at=ERA,
        duration_seconds=0.1 + 0.2,
        error="cut\noff",
        traceback="Traceback: cut\noff",
        fault=Fault.PERMANENT,
        result={"frames": 25, "words": "ä\x00"},
    )
    milestone = Milestone.between(job.evolve(status=Status.PROCESSING), job)
    assert milestone is not None
    told = NewNotification.of(Change(job), EventKind.FAILED)
    new = [NewJob(job=job, columns=("id",))]
    await store.commit(Tick(new=new, videos=[result], milestones=[milestone], notifications=[told]))
    await store.notifications.wish(job.id, "ana", ENDS)
    await store.notifications.change_settings("ana", NotificationSettings(events=ENDS, zone="Europe/Berlin"))


def contents(database: Database) -> dict[str, list[Any]]:
    """Return all rows of all tables."""

    def read(connection: Any) -> dict[str, list[Any]]:
        tables = METADATA.sorted_tables
        return {table.name: sorted(map(repr, connection.execute(select(table)))) for table in tables}

    return database.read_now(read)


def test_what_arrives_is_what_was_there(source: Path, target: DatabaseUrl, tmp_path: Path) -> None:
    before, said = source.read_bytes(), list[tuple[str, int, int]]()
    moved = move(source, target, report=lambda *progress: said.append(progress))
    with (
        closing(open_database(source, backups=tmp_path)) as old,
        closing(open_database(target, backups=tmp_path)) as new,
    ):
        assert contents(new) == contents(old)
        assert moved == sum(map(len, contents(old).values()))
    assert ("video", VIDEOS, VIDEOS) in said
    assert source.read_bytes() == before


async def test_jobs_are_numbered_on_from_the_moved_ones(source: Path, target: DatabaseUrl, tmp_path: Path) -> None:
    move(source, target, report=lambda *_: None)
    with closing(open_database(target, backups=tmp_path)) as new:
        await Store(new).commit(Tick(new=[NewJob(job=a_job(id="next", seq=8), columns=())]))
        assert [row.number for row in await new.read(lambda connection: connection.execute(_NUMBERS).all())] == [1, 2]


_NUMBERS = select(METADATA.tables["job"].c.number).order_by(METADATA.tables["job"].c.number)


def test_an_interrupted_move_leaves_a_target_that_no_server_opens(
    source: Path, target: DatabaseUrl, tmp_path: Path
) -> None:
    before = source.read_bytes()

    def interrupt(table: str, *_: int) -> None:
        if table == "video":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move(source, target, report=interrupt)
    assert source.read_bytes() == before
    with pytest.raises(CannotStart, match=r"was not finished; run .* again"):
        open_database(target, backups=tmp_path)
    assert move(source, target, report=lambda *_: None) > VIDEOS
    open_database(target, backups=tmp_path).close()


def test_a_database_with_data_is_no_target(source: Path, target: DatabaseUrl) -> None:
    move(source, target, report=lambda *_: None)
    with pytest.raises(CannotStart, match="has data already"):
        move(source, target, report=lambda *_: None)


def test_a_file_that_is_no_database_is_refused(target: DatabaseUrl, tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear all, " * 100)
    with pytest.raises(CannotStart, match="is not a database of this program"):
        move(tmp_path / "letter", target, report=lambda *_: None)
