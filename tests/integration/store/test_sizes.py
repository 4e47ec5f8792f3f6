"""What a video takes in the database, and that a stack trace is there once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from backend.domain.video import Video, VideoStatus
from backend.errors import Fault
from backend.store import Store
from backend.store.changes import NewJob, RemovedJob, Tick, VideoChange
from backend.store.database import Database
from progress_dashboard.protocol import Status
from tests.support.clock import NOON
from tests.support.databases import new_database
from tests.support.jobs import a_job

JOBS, VIDEOS = 100, 20
MAX_FAILED_BYTES, MAX_GOOD_BYTES = 500, 700
TRACE = "Traceback (most recent call last):\n" + '  File "inspection.py", line 324, in _decode\n' * 40
FACTS = {
    "container": "mp4",
    "duration_seconds": 3.0,
    "bit_rate": 393768,
    "size_bytes": 147663,
    "video": {
        "codec": "h264",
        "width": 320,
        "height": 180,
        "display_width": 320,
        "display_height": 180,
        "frame_rate": 15.0,
        "frames": 45,
    },
    "audio": {"codec": "aac", "channels": 2, "sample_rate": 48000, "decoded": True},
    "poster": "poster.jpg",
    "packets": 187,
    "bad_packets": 0,
    "verified_share": 1.0,
    "passed_over": [],
}


def failed(job_id: str, position: int) -> VideoChange:
    """Return the failure of a common cause; each error has figures of its own."""
    error = f"File is damaged: {position}.0 % of its pictures ({position} of 100) cannot be read; fetch it again."
    trace = f"{TRACE}VideoFailed: {error}\n"
    facts = {"error": error, "traceback": trace, "fault": Fault.PERMANENT, "fingerprint": "c387db291faf"}
    return _outcome(job_id, position, VideoStatus.FAILED, **facts)


def good(job_id: str, position: int) -> VideoChange:
    """Return a good result."""
    return _outcome(job_id, position, VideoStatus.COMPLETED, result=FACTS)


def _outcome(job_id: str, position: int, status: VideoStatus, **facts: Any) -> VideoChange:
    return VideoChange(
        job_id=job_id, position=position, status=status, attempts=1, started_at=NOON, duration_seconds=1.5, **facts
    )


async def bytes_of_a_video(path: Path, outcome: Callable[[str, int], VideoChange]) -> float:
    """Return what a video takes, if a hundred jobs run at the same time, with the videos' outcomes in turn."""
    database = new_database(path)
    store, before = Store(database), pages(database)
    ids = [f"{number * 0x9E3779B9 % 2**32:08x}-0000-4000-8000-000000000000" for number in range(JOBS)]
    for job_id in ids:
        names = [f"{job_id[:8]}-{at:02}" for at in range(VIDEOS)]
        await store.videos.add(
            [Video(job_id=job_id, position=at, video_id=name, line=at, cells=(name,)) for at, name in enumerate(names)]
        )
    for position in range(VIDEOS):
        await store.commit(Tick(videos=[outcome(job_id, position) for job_id in ids]))
    taken = pages(database) - before
    database.close()
    return taken * 4096 / JOBS / VIDEOS


def pages(database: Database) -> int:
    """Return the number of pages of the database."""
    return int(database.read_now(lambda connection: connection.execute(text("PRAGMA page_count")).scalar_one()))


def traces(database: Database) -> list[tuple[int]]:
    """Return how often each stored stack trace is used."""
    query = text("SELECT uses FROM trace ORDER BY uses")
    return [tuple(row) for row in database.read_now(lambda connection: connection.execute(query).all())]


@pytest.mark.sqlite_only
async def test_a_failed_video_of_a_common_cause_and_a_good_one_take_few_bytes(tmp_path: Path) -> None:
    assert await bytes_of_a_video(tmp_path / "failed.sqlite3", failed) <= MAX_FAILED_BYTES
    assert await bytes_of_a_video(tmp_path / "good.sqlite3", good) <= MAX_GOOD_BYTES


async def test_a_stack_trace_is_stored_once_and_read_with_each_video_s_own_error(
    database: Database, store: Store
) -> None:
    job = a_job(total_videos=3)
    await store.videos.add([Video(job_id=job.id, position=at, video_id=f"v{at}") for at in range(3)])
    changes = [failed(job.id, at) for at in range(3)]
    await store.commit(Tick(new=[NewJob(job=job, columns=())], videos=changes))
    assert traces(database) == [(3,)]
    videos = (await store.videos.page(job.id, limit=10, cursor=None)).items
    assert [video.traceback for video in videos] == [change.traceback for change in changes]
    [cause] = await store.videos.causes(job.id)
    assert (cause.count, cause.traceback) == (3, changes[0].traceback)
    assert [one.traceback for one in await store.videos.outcomes(job.id, 1)] == [changes[1].traceback]


async def test_a_stack_trace_goes_with_the_last_job_that_has_it(database: Database, store: Store) -> None:
    jobs = [a_job(id=f"job-{number}", status=Status.FAILED) for number in range(2)]
    for job in jobs:
        await store.videos.add([Video(job_id=job.id, position=0, video_id="v")])
        await store.commit(Tick(new=[NewJob(job=job, columns=())], videos=[failed(job.id, 0)]))
    left = []
    for job in jobs:
        await store.commit(Tick(removed=[RemovedJob(job.id, job.owner_id, 9, is_deleted=True)]))
        while await store.jobs.erase_some(job.id):
            pass
        left.append(traces(database))
    assert left == [[(1,)], []]


async def test_a_trace_with_the_mark_of_errors_is_read_without_it(store: Store) -> None:
    job = a_job()
    await store.videos.add([Video(job_id=job.id, position=0, video_id="v")])
    change = replace(failed(job.id, 0), error="e", traceback="\x1atrace: e\n")
    await store.commit(Tick(new=[NewJob(job=job, columns=())], videos=[change]))
    [video] = (await store.videos.page(job.id, limit=1, cursor=None)).items
    assert video.traceback == "\ufffdtrace: e\n"
