"""Faults around the real program: full disks, refusing databases, hanging or killed processes, missing files, and more.

Also clocks that jump, and a stop under load. Each time the work continues afterwards, and every message is true.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from backend.app import Backend, open_backend
from backend.domain.auth import User
from backend.domain.job import Job
from backend.errors import StoreRefused
from backend.jobs.submission import Order
from backend.lists.csv_files import list_of_ids
from progress_dashboard.protocol import Status
from tests.support.clock import JumpingClock
from tests.support.databases import locked, settings_of
from tests.support.full_disks import fill, limit_files, make_read_only, may_mount, memory_mib, small_file_system
from tests.support.gated_jobs import FINAL, VIDEO_IDS, ClipHome, GatedJob, Scene
from tests.support.logging_processor import LogEntry
from tests.support.processes import fork_server
from tests.support.servers import Program
from tests.support.watchers import Watcher

TIMEOUT_SECONDS = 5
GRACE_SECONDS, MARGIN_SECONDS = 1.0, 2.0
REFUSED_REQUESTS, MAX_GROWTH_MIB = 50, 8
WAIT_SECONDS, POLL_SECONDS = 30.0, 0.01
AN_HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One server for many tests, with its outputs on a small disk of their own if this machine can mount one."""
    home = ClipHome.prepare(tmp_path_factory.mktemp("trouble"))
    settings = {"video_timeout_seconds": TIMEOUT_SECONDS, "video_retries": 0, "max_running_videos": len(VIDEO_IDS)}
    with _small_disk(home.data / "outputs"), home.served(**settings) as served:
        yield served


@contextmanager
def _small_disk(path: Path) -> Iterator[None]:
    if not may_mount():
        yield
        return
    with small_file_system(path):
        yield


@pytest.mark.sqlite_only
def test_files_that_cannot_grow_lose_nothing(tmp_path: Path) -> None:
    """Requests are refused meanwhile, and the work continues afterwards."""
    with ClipHome.prepare(tmp_path).served(max_running_videos=2) as scene:
        job = _assert_a_full_disk_loses_nothing(scene, limit_files)
        assert sorted(job.log.started()) == sorted(VIDEO_IDS)  # the running videos kept their outputs: none is repeated


@pytest.mark.sqlite_only
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """Requests are refused meanwhile, and the work continues afterwards."""
    with _small_disk(tmp_path / "data"), ClipHome.prepare(tmp_path).served(max_running_videos=2) as scene:
        job = _assert_a_full_disk_loses_nothing(scene, _fill_data if may_mount() else limit_files)
        assert job.job["status"] == "completed"


def _fill_data(program: Program) -> Callable[[], None]:
    return fill(program.data_dir)


def _assert_a_full_disk_loses_nothing(scene: Scene, fill_disk: Callable[[Program], Callable[[], None]]) -> GatedJob:
    """Fill the disk while a job runs, check the refusals, make room, and check that the job completes."""
    job = scene.submit("running")
    first = [start.video_id for start in job.log.until_started(2)]
    job.until("processing")
    make_room = fill_disk(scene.program)
    job.open_gates(*first)
    scene.program.until_says("tick_refused")
    _assert_true_while_full(scene, job)
    assert job.request("pause").status_code == 503
    assert len(set(job.log.started())) <= 4, "new videos were started although nothing can be stored"
    make_room()
    job.open_gates(*VIDEO_IDS)
    assert job.until("paused")["current_video"] <= 4, "the pause that was requested while the disk was full was lost"
    assert job.request("resume").status_code == 200
    job.assert_completed()
    assert scene.stored("SELECT count(*) FROM job") == [(1,)], "a refused job was created"
    return job


def _assert_true_while_full(scene: Scene, job: GatedJob) -> None:
    """Check that requests are refused without a growth of memory, and that nothing unstored was sent."""
    before = memory_mib(scene.program.pid)
    for _ in range(REFUSED_REQUESTS):
        refused = scene.post_job("refused", {"log": "nowhere"})
        assert refused.status_code == 503
        assert "cannot be written right now" in refused.json()["detail"]
    assert memory_mib(scene.program.pid) - before < MAX_GROWTH_MIB
    assert scene.stored("SELECT count(*) FROM result") == [(0,)]
    assert (job.job["status"], job.job["current_video"]) == ("processing", 0)
    [(newest,)] = scene.stored("SELECT max(seq) FROM job")
    assert max(update["seq"] for update in scene.watcher.updates) <= newest


@pytest.mark.parametrize("disk", ["/dev/full", *(["small file system"] if may_mount() else [])])
def test_without_room_for_outputs_a_job_pauses_itself(scene: Scene, disk: str) -> None:
    job = scene.submit(f"outputs-{disk == '/dev/full'}")
    starts = job.log.until_started(len(VIDEO_IDS))
    make_room = fill(scene.home.data / "outputs") if disk != "/dev/full" else _fill_posters(scene, starts)
    job.open_gates(*VIDEO_IDS)
    paused = job.until("paused", *FINAL)
    assert paused["status"] == "paused"
    assert "The server's disk is full" in paused["message"]
    make_room()
    assert job.request("resume").status_code == 200
    job.assert_completed()


def _fill_posters(scene: Scene, starts: list[LogEntry]) -> Callable[[], None]:
    """Replace the unfinished posters of the running videos by a device that is always full."""
    for start in starts:
        (scene.home.data / "outputs" / start.job_id / str(start.position) / "poster.jpg.part").symlink_to("/dev/full")
    return lambda: None  # unfinished files are removed with their processes


@pytest.mark.sqlite_only
def test_a_read_only_database_delays_the_work_and_loses_nothing(scene: Scene) -> None:
    job = scene.submit("read-only")
    job.log.until_started(len(VIDEO_IDS))
    make_writable = make_read_only(scene.program)
    try:
        job.open_gates(*VIDEO_IDS)
        scene.program.until_says("tick_refused")
        refused = scene.post_job("refused", {"log": "nowhere"})
    finally:
        make_writable()
    assert refused.status_code == 503
    assert "cannot be written right now" in refused.json()["detail"]
    job.assert_completed()
    assert sorted(job.log.started()) == sorted(VIDEO_IDS)


def test_a_locked_database_delays_the_work_and_loses_nothing(scene: Scene) -> None:
    job = scene.submit("locked")
    job.log.until_started(len(VIDEO_IDS))
    with locked(scene.home.data):
        job.open_gates(*VIDEO_IDS)
        scene.program.until_says("tick_refused")
        assert job.job["current_video"] == 0
        refused = job.request("keep")
    assert refused.status_code == 503
    job.assert_completed()
    assert sorted(job.log.started()) == sorted(VIDEO_IDS)


def test_a_failing_video_process_stops_no_other(scene: Scene) -> None:
    """One process hangs, one is killed, and one needs too much memory; each of them has a true error."""
    hanging, killed, greedy, *others = VIDEO_IDS
    job = scene.submit("processes", greedy=greedy)
    pids = {start.video_id: start.pid for start in job.log.until_started(len(VIDEO_IDS))}
    os.kill(pids[hanging], signal.SIGSTOP)
    os.kill(pids[killed], signal.SIGKILL)
    job.open_gates(*VIDEO_IDS)
    end = job.until(*FINAL)
    assert (end["status"], end["failed"]) == ("completed_with_errors", 3)
    errors = {video_id: video["error"] for video_id, video in job.videos.items() if video["status"] == "failed"}
    assert errors == {
        hanging: f"Took longer than {TIMEOUT_SECONDS} s, the limit for one video (DASHBOARD_VIDEO_TIMEOUT_SECONDS).",
        killed: "The process of this video was killed, probably because the machine ran out of memory.",
        greedy: "The video needs more memory than the limit of 4,096 MiB (DASHBOARD_VIDEO_MEMORY_MIB).",
    }
    assert all(job.videos[video_id]["status"] == "completed" for video_id in others)
    assert not Path(f"/proc/{pids[hanging]}").exists()


def test_when_the_fork_server_is_killed_the_work_continues(scene: Scene) -> None:
    job = scene.submit("fork-server")
    job.log.until_started(len(VIDEO_IDS))
    os.kill(fork_server(scene.program.pid), signal.SIGKILL)
    job.open_gates(*VIDEO_IDS)
    job.assert_completed()


def test_without_the_media_directory_a_job_pauses_itself(scene: Scene) -> None:
    moved = scene.home.path / "moved"
    scene.home.media.rename(moved)
    job = scene.submit("no-media")
    paused = job.until("paused", *FINAL)
    moved.rename(scene.home.media)
    assert paused["status"] == "paused"
    assert f'The media directory "{scene.home.media}" does not exist' in paused["message"]
    job.open_gates(*VIDEO_IDS)
    assert job.request("resume").status_code == 200
    job.assert_completed()


def test_running_videos_stay_pending_without_the_media_directory(scene: Scene) -> None:
    job = scene.submit("no-media-meanwhile")
    job.log.until_started(1)
    moved = scene.home.path / "moved"
    scene.home.media.rename(moved)
    job.open_gates(*VIDEO_IDS)
    paused = job.until("paused", *FINAL)
    moved.rename(scene.home.media)
    assert (paused["status"], paused["failed"]) == ("paused", 0)
    assert job.request("resume").status_code == 200
    job.assert_completed()


def test_a_stop_under_load_is_quick_and_the_next_start_continues(tmp_path: Path) -> None:
    home = ClipHome.prepare(tmp_path)
    with home.served(max_running_videos=18, shutdown_grace_seconds=GRACE_SECONDS) as scene:
        jobs = [scene.submit(name) for name in ("one", "two", "three")]
        for job in jobs:
            job.open_gates(VIDEO_IDS[0])
        scene.watcher.until(lambda watcher: _finished(watcher) == len(jobs), "a video of each job")
        began = time.monotonic()
        assert scene.program.stop() == 0
        assert time.monotonic() - began < GRACE_SECONDS + MARGIN_SECONDS
        assert scene.stored("SELECT DISTINCT status, current_video, requested FROM job") == [("pending", 1, None)]
        left = scene.stored("SELECT status, count(*) FROM video GROUP BY status ORDER BY status")
        assert left == [("completed", 3), ("pending", 15)]
    with home.served(max_running_videos=18) as scene:
        jobs = [GatedJob(scene, job.job_id, job.log, job.gate) for job in jobs]
        for job in jobs:
            assert job.until("processing")["message"] == "Resumed at 1/6 after a restart"
            assert job.job["message"] == "Resumed at 1/6 after a restart"
            job.open_gates(*VIDEO_IDS)
        for job in jobs:
            job.assert_completed()
            assert job.log.started().count(VIDEO_IDS[0]) == 1


def _finished(watcher: Watcher) -> int:
    """Return the number of finished videos of all jobs."""
    newest = {update["job_id"]: update["current_video"] for update in watcher.updates}
    return sum(newest.values())


@pytest.mark.sqlite_only
async def test_a_database_that_cannot_grow_for_a_while_loses_nothing(tmp_path: Path) -> None:
    home = await asyncio.to_thread(ClipHome.prepare, tmp_path)
    async with open_backend(settings_of(home.data, media_dir=home.media)) as backend:
        admin = await backend.accounts.user("admin")
        job = await _submit_absent(backend, "absent", by=admin)
        pages = await backend.database.read(lambda db: db.exec_driver_sql("PRAGMA page_count").scalar_one())
        await _limit_pages(backend, pages)
        await _until(backend, job, lambda _: not backend.journal.is_storing)
        with pytest.raises(StoreRefused, match="the disk is full"):
            await _submit_absent(backend, "refused", by=admin)
        await _limit_pages(backend, 1_000_000)
        end = await _until(backend, job, lambda newest: newest.is_finished)
    assert (end.status, end.failed) == (Status.FAILED, 300)


async def _submit_absent(backend: Backend, name: str, *, by: User) -> Job:
    """Submit a job over 300 videos that have no files."""
    videos = list_of_ids([f"absent-{number}" for number in range(300)])
    return (await backend.manager.submit(videos, Order(name=name), by=by)).job


async def _limit_pages(backend: Backend, pages: int) -> None:
    """Let the database have at most this number of pages."""
    await backend.database.write(lambda db: db.exec_driver_sql(f"PRAGMA max_page_count = {pages}").all())


async def test_a_jumping_wall_clock_does_no_harm(tmp_path: Path) -> None:
    """The work finishes with its updates in order, and no session or token ends."""
    home, clock = await asyncio.to_thread(ClipHome.prepare, tmp_path), JumpingClock()
    settings = settings_of(home.data, media_dir=home.media, cleanup_interval_seconds=0.05)
    async with open_backend(settings, clock) as backend:
        admin = await backend.accounts.user("admin")
        cookie = await backend.accounts.open_session(admin)
        order = Order(name="jumps", options={"max_speed": 1.0})
        job = (await backend.manager.submit(list_of_ids(VIDEO_IDS), order, by=admin)).job
        for finished, ahead in ((0, AN_HOUR), (2, -AN_HOUR), (4, timedelta())):
            await _until(backend, job, _has_finished(finished))
            clock.ahead = ahead
            assert await backend.accounts.session(cookie), "the jump ended the session"
            await backend.accounts.token(home.jwt)
        end = await _until(backend, job, lambda newest: newest.is_finished)
        videos = (await backend.queries.videos(job.id, by=admin)).items
        updates = [json.loads(row) for row in await backend.queries.history(job.id, by=admin)]
        last = backend.hub.seq
    assert (end.status, end.failed) == (Status.COMPLETED, 0)
    moments = [end.created_at, end.started_at, end.finished_at]
    assert moments == sorted(moment for moment in moments if moment)
    assert all(0 < (video.duration_seconds or 0) < WAIT_SECONDS for video in videos)
    for key in ("seq", "timestamp", "current_video", "progress"):
        assert [update[key] for update in updates] == sorted(update[key] for update in updates), key
    clock.ahead = -AN_HOUR
    async with open_backend(settings, clock) as backend:
        assert backend.hub.seq >= last, "positions of this run are below those of an earlier one"
        assert (await backend.queries.find(job.id, by=admin)).status is Status.COMPLETED


def _has_finished(videos: int) -> Callable[[Job], bool]:
    return lambda job: job.current_video >= videos


async def _until(backend: Backend, job: Job, holds: Callable[[Job], bool]) -> Job:
    """Return the stored job when this holds for it."""
    admin = await backend.accounts.user("admin")
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            newest = await backend.queries.find(job.id, by=admin)
            if holds(newest):
                return newest
            await asyncio.sleep(POLL_SECONDS)
