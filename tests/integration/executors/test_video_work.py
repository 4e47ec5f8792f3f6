"""How jobs run: videos, their results, and a stop of the server."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from backend.domain.video import VideoStatus
from backend.errors import StoreRefused, VideoFailed
from backend.store import Store
from backend.store.database import Database
from progress_dashboard.protocol import Status
from tests.support.managed_backend import ANA, RefusingStore, Working, open_working


async def test_two_jobs_share_the_slots_evenly(working: Working) -> None:
    processes, videos = working.processes, 40
    await working.started_job("first", videos, running=2)
    second = await working.new_job("second", videos)
    for number in range(3, 2 * videos + 1):
        await working.stored(second)  # time enough for the second one to read its list
        processes.end(next(iter(processes.running)))
        await processes.until_started(number)
        assert len(processes.running) == 2
    names = [video_id.partition("-")[0] for video_id in processes.started]
    together = names[names.index("second") : names.index("second") + 40]
    assert together == ["second", "first"] * 20


async def test_a_failed_video_does_not_hold_up_the_others(working: Working) -> None:
    job = await working.started_job("clip", 3, running=2)
    working.processes.end("clip-1", VideoFailed("File is cut off", traceback="Traceback: here"))
    working.processes.end("clip-0")
    await working.processes.until_started(3)
    working.processes.end("clip-2")
    end = (await working.reaches(job, Status.COMPLETED_WITH_ERRORS))[-1]
    assert (end.failed, end.current_video) == (1, 3)
    assert [(video.status, video.error, video.traceback) for video in await working.videos(job)] == [
        (VideoStatus.COMPLETED, None, None),
        (VideoStatus.FAILED, "File is cut off", "Traceback: here"),
        (VideoStatus.COMPLETED, None, None),
    ]


async def test_an_error_of_the_program_fails_only_its_video(working: Working) -> None:
    """The video's error names the kind of error in the program."""
    working.add_file("one")
    job = await working.submit("one", "away")
    await working.processes.until_started(1)
    working.processes.running["one"].set_exception(KeyError("a mistake of ours"))
    await working.reaches(job, Status.FAILED)
    one, away = await working.videos(job)
    assert one.error == "The server had a problem with this video (KeyError); its log has the details."
    assert away.error == "No file for this ID in the media directory"


async def test_a_restarted_server_runs_only_the_rest_of_a_job(store: Store, tmp_path: Path) -> None:
    """A stop of the server leaves the unfinished videos pending, and the next run of it does only these."""
    async with open_working(store, tmp_path, slots=1) as first:
        job = await first.started_job("clip", 3, running=1)
        first.processes.end("clip-0")
        await first.processes.until_started(2)
    left = await store.jobs.find(job.id, owner_id=None)
    assert left is not None
    assert (left.status, left.current_video, left.failed) == (Status.PENDING, 1, 0)
    assert left.message == "Waiting to continue"
    assert first.processes.running == {}
    async with open_working(store, tmp_path, slots=1) as second:
        await second.manager.recover()
        for number, video_id in ((1, "clip-1"), (2, "clip-2")):
            await second.processes.until_started(number)
            second.processes.end(video_id)
        seen = await second.reaches(job, Status.COMPLETED)
        assert second.processes.started == ["clip-1", "clip-2"]
        assert "Resumed at 1/3 after a restart" in {state.message for state in seen}


async def test_a_server_that_stops_starts_no_more_videos(one_slot: Working) -> None:
    first = await one_slot.started_job("first", 2, running=1)
    paused = await one_slot.new_job("paused", 1)
    await one_slot.manager.pause(paused.id, by=ANA)
    one_slot.leases.drain()
    await one_slot.manager.resume(paused.id, by=ANA)
    one_slot.processes.end("first-0")
    assert (await one_slot.reaches(first, Status.PENDING))[-1].current_video == 1
    await one_slot.executor.shutdown(10)
    assert one_slot.processes.started == ["first-0"]
    assert (await one_slot.stored(paused)).status is Status.PENDING


async def test_a_job_that_cannot_finish_fails(store: Store, database: Database, tmp_path: Path) -> None:
    """A job without pending videos that is not finished fails with a sentence of its own."""
    async with open_working(store, tmp_path, max_running=1) as working:
        await working.started_job("first", 1, running=1)
        job = await working.new_job("clip", 1)
        change = text("UPDATE video SET status = 'completed' WHERE job_id = :job")
        database.write_now(lambda connection: connection.execute(change, {"job": job.id}))
        working.processes.end("first-0")
        failed = (await working.reaches(job, Status.FAILED))[-1]
        assert failed.error == "The server had a problem with this job; its log has the details."
        assert working.processes.started == ["first-0"]


# A database that refuses.


async def test_nothing_starts_while_nothing_can_be_stored(refusing: tuple[Working, RefusingStore]) -> None:
    """While the database refuses, running videos continue and no others start."""
    working, store = refusing
    job = await working.started_job("clip", 3, running=1)
    await working.journal.durable()
    store.refuse()
    with pytest.raises(StoreRefused):
        await working.manager.keep(job.id, by=ANA)
    working.processes.end("clip-0")
    await working.processes.until_idle()
    for _ in range(3):  # refusals
        with pytest.raises(StoreRefused):
            await working.manager.keep(job.id, by=ANA)
    assert working.processes.started == ["clip-0"]
    store.accept()
    await working.processes.until_started(2)
    now = await working.stored(job)
    assert (now.status, now.current_video, now.pinned) == (Status.PROCESSING, 1, True)


@pytest.mark.parametrize(
    ("request_name", "status"), [("cancel", Status.CANCELLED), ("pause", Status.PAUSED), (None, Status.PENDING)]
)
async def test_a_job_stops_at_once_though_nothing_can_be_stored(
    refusing: tuple[Working, RefusingStore], request_name: str | None, status: Status
) -> None:
    working, store = refusing
    job = await working.started_job("clip", 3, running=1)
    store.refuse()
    with pytest.raises(StoreRefused):
        await working.manager.keep(job.id, by=ANA)
    if request_name is not None:
        with pytest.raises(StoreRefused):
            await getattr(working.manager, request_name)(job.id, by=ANA)
    if request_name != "cancel":
        working.processes.end("clip-0")
    if request_name is None:
        working.leases.drain()
        await working.executor.shutdown(10)
    await working.processes.until_idle()
    store.accept()
    await working.reaches(job, status)
    assert working.processes.started == ["clip-0"]


async def test_a_refused_new_job_starts_later(refusing: tuple[Working, RefusingStore]) -> None:
    """A new job that could not be stored starts as soon as it can be."""
    working, store = refusing
    store.refuse()
    with pytest.raises(StoreRefused, match="appears and starts as soon as it can"):
        await working.new_job("clip", 1)
    store.accept()
    await working.processes.until_started(1)
    await working.journal.durable()
    assert [job.status for job in (await working.queries.jobs(by=ANA)).items] == [Status.PROCESSING]
