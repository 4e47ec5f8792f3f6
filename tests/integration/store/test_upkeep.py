"""What migration 0007 leaves to do: results are moved and the file is made smaller, also after interruptions."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from backend.store import Store
from backend.store.database import open_database
from backend.store.job_lists import Wanted
from backend.store.upkeep import LEFTOVER, ROWS_AT_ONCE, Interrupted, finish_upgrade
from tests.integration.store.test_migrations import migrations_before, rows

VIDEOS = 20 * ROWS_AT_ONCE
TRACE = "Traceback (most recent call last):\n" + "  in _decode\n" * 100
JOB = {
    "id": "job-1",
    "owner_id": "ana",
    "name": "Nightly",
    "name_folded": "nightly",
    "name_key": "nightly",
    "processor": "probe",
    "options": "{}",
    "source": "media",
    "columns": '["video_id"]',
    "total_videos": VIDEOS,
    "found": VIDEOS,
    "status": "failed",
    "attempt": 1,
    "lease_id": 1,
    "current_video": VIDEOS,
    "failed": VIDEOS,
    "progress": 100,
    "message": "",
    "error": "Cut off at 7 %",
    "created_at": 1,
    "updated_at": 1,
    "on_dashboard": 0,
    "seq": 1,
    "removed_seq": 2,
}
VIDEO = "INSERT INTO video (job_id, position, video_id, cells, status, attempts) VALUES (?, ?, ?, '[]', 'failed', 1)"


def make_database_of_0006(directory: Path, videos: int) -> Path:
    """Create a database as the version before left it, with a past job whose videos failed for one cause."""
    path = directory / "dashboard.sqlite3"
    open_database(path, backups=directory / "backups", migrations=migrations_before("v0007", directory)).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO user (id, name, is_admin, disabled, created_at) VALUES ('ana', 'ana', 0, 0, 0)")
        connection.execute(
            f"INSERT INTO job ({', '.join(JOB)}) VALUES ({', '.join('?' * len(JOB))})", tuple(JOB.values())
        )
        columns = (
            "job_id, position, attempt, error, traceback, fault, fingerprint, result, started_at, duration_seconds"
        )
        connection.executemany(
            f"INSERT INTO result ({columns}) VALUES ('job-1', ?, 1, ?, ?, 'permanent', 'f', ?, 5, 1.5)",
            [
                (
                    at,
                    error := f"Cut off at {at} %",
                    f"{TRACE}Failed: {error}",
                    '{"frames": 25, "rate": 12.0}' if at else None,
                )
                for at in range(videos)
            ],
        )
        connection.executemany(VIDEO, [("job-1", at, f"v{at}") for at in range(videos)])
        connection.execute(VIDEO, ("never-came", 0, "v"))
    return path


def interrupt_after_the_first_step(path: Path) -> threading.Thread:
    """Send this process a Ctrl-C as soon as there are results in the new table."""

    def watch() -> None:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            while not connection.execute("SELECT EXISTS (SELECT 1 FROM result)").fetchone()[0]:
                time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


async def read(path: Path) -> tuple[list[tuple[int, str | None, str | None]], int]:
    """Return (position, error, traceback) of the videos as the program reads them, and how many jobs a search finds."""
    database = open_database(path, backups=path.parent / "backups")
    store, found, cursor = Store(database), [], None
    while True:
        page = await store.videos.page("job-1", limit=1_000, cursor=cursor)
        found += [(video.position, video.error, video.traceback) for video in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    jobs = await store.jobs.page(Wanted(q="off at 7"), limit=10, cursor=None)
    database.close()
    return found, len(jobs.items)


@pytest.mark.sqlite_only
async def test_an_upgrade_keeps_each_video_s_error_and_trace_and_stores_the_trace_once(tmp_path: Path) -> None:
    path = make_database_of_0006(tmp_path, 3)
    open_database(path, backups=tmp_path / "backups").close()
    finish_upgrade(path)
    errors = [f"Cut off at {at} %" for at in range(3)]
    assert await read(path) == ([(at, error, f"{TRACE}Failed: {error}") for at, error in enumerate(errors)], 1)
    assert [row["uses"] for row in rows(path, "trace")] == [3]
    assert [row["result"] for row in rows(path, "result")] == [None, *['{"frames":25,"rate":12.0}'] * 2]
    assert [row["job_id"] for row in rows(path, "video")] == ["job-1"] * 3


@pytest.mark.sqlite_only
async def test_ctrl_c_leaves_a_database_that_the_next_start_goes_on_with(tmp_path: Path) -> None:
    path = make_database_of_0006(tmp_path, VIDEOS)
    open_database(path, backups=tmp_path / "backups").close()
    before, handler = path.stat().st_size, signal.getsignal(signal.SIGINT)
    watching = interrupt_after_the_first_step(path)
    with pytest.raises(Interrupted, match="the next start continues"):
        finish_upgrade(path)
    watching.join()
    moved, left = len(rows(path, "result")), len(rows(path, LEFTOVER))
    assert moved > 0
    assert (moved + left, moved % ROWS_AT_ONCE) == (VIDEOS, 0)
    assert signal.getsignal(signal.SIGINT) == handler
    finish_upgrade(path)
    videos, jobs = await read(path)
    assert ([position for position, _, _ in videos], jobs) == (list(range(VIDEOS)), 1)
    assert {trace for _, error, trace in videos if trace != f"{TRACE}Failed: {error}"} == set()
    assert path.stat().st_size < before / 3
    finish_upgrade(path)


@pytest.mark.sqlite_only
def test_an_upgrade_that_is_finished_does_nothing(tmp_path: Path) -> None:
    path = make_database_of_0006(tmp_path, 1)
    open_database(path, backups=tmp_path / "backups").close()
    finish_upgrade(path)
    before = path.read_bytes()
    finish_upgrade(path)
    assert path.read_bytes() == before
