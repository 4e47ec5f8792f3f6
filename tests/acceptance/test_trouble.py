"""Stories of trouble over the real program: disks that are full, databases that refuse, processes that hang or die,
files that are gone, clocks that jump, and a stop under load. Each time the work goes on, and what is said is true.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.app import Backend, open_backend
from backend.clock import SystemClock
from backend.domain.job import Job
from backend.errors import StoreRefused
from backend.lists.csv_files import list_of_ids
from backend.settings import load_settings
from progress_dashboard.protocol import Status
from tests.support.accounts import open_office
from tests.support.clips import make_clip
from tests.support.clock import JumpingClock
from tests.support.full_disks import fill, limit_files, make_read_only, may_mount, memory_mib, small_file_system
from tests.support.logging_processor import Footer, StartLog, install_plug_in
from tests.support.processes import fork_server
from tests.support.servers import Program, api, running
from tests.support.watchers import Watcher

VIDEO_IDS = tuple(f"clip-{number}" for number in range(6))
ENDS = ("completed", "completed_with_errors", "failed", "cancelled")
TIMEOUT_SECONDS = 5
GRACE_SECONDS, MARGIN_SECONDS = 1.0, 2.0
REFUSED_REQUESTS, MOST_GROWTH_MIB = 50, 8
WAIT_SECONDS, POLL_SECONDS = 30.0, 0.01
AN_HOUR = timedelta(hours=1)


SLOW = list_of_ids(VIDEO_IDS)


@dataclass(frozen=True)
class Home:
    """A media directory with six clips, a plug-in, an account, and a data directory."""

    path: Path
    jwt: str

    @classmethod
    def prepare(cls, path: Path) -> Home:
        first = make_clip(path / "media" / f"{VIDEO_IDS[0]}.mp4", seconds=0.3)
        for video_id in VIDEO_IDS[1:]:
            shutil.copy(first, first.with_stem(video_id))
        install_plug_in(path / "plug-ins")
        (path / "data").mkdir(exist_ok=True)
        return cls(path, asyncio.run(_admin_token(path / "data")))

    @property
    def media(self) -> Path:
        return self.path / "media"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @contextmanager
    def served(self, **settings: Any) -> Iterator[Scene]:
        """The program over this home, and somebody who watches it in batches."""
        plug_ins = self.path / "plug-ins"
        with (
            running(self.data, python_path=plug_ins, media_dir=self.media, **settings) as program,
            api(program, self.jwt) as client,
            Watcher(program, self.jwt, batch=True) as watcher,
        ):
            yield Scene(self, program, client, watcher)


async def _admin_token(data: Path) -> str:
    with open_office(data, SystemClock()) as office:
        admin = await office.accounts.ensure_admin()
        return await office.accounts.issue_token(admin, lifetime_seconds=86_400)


@dataclass(frozen=True)
class Scene:
    """The running program, its client and its watcher."""

    home: Home
    program: Program
    client: httpx.Client
    watcher: Watcher

    def submit(self, name: str, **options: Any) -> Work:
        """A job over the six clips, each of which waits until it is let through; named for its story."""
        gate = self.home.path / f"{name}.gate"
        gate.mkdir()
        log = StartLog(self.home.path / f"{name}.log")
        answer = self.order(name, {"log": str(log.path), "gate": str(gate), **options})
        assert answer.status_code == 201, answer.text
        return Work(self, answer.json()["job_id"], log, gate)

    def order(self, name: str, options: dict[str, Any]) -> httpx.Response:
        wanted = {"video_ids": VIDEO_IDS, "name": name, "processor": "logged", "options": options}
        return self.client.post("/api/jobs", json=wanted)

    def stored(self, query: str) -> list[Any]:
        """What stands in the database, read beside the server."""
        with closing(sqlite3.connect(f"file:{self.home.data / 'dashboard.sqlite3'}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()


@dataclass(frozen=True)
class Work:
    """A job of a scene."""

    scene: Scene
    job_id: str
    log: StartLog
    gate: Path

    def let(self, *video_ids: str) -> None:
        """Let these go on."""
        for video_id in video_ids:
            (self.gate / video_id).touch()

    def ask(self, action: str) -> httpx.Response:
        return self.scene.client.post(f"/api/jobs/{self.job_id}/{action}")

    @property
    def job(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.scene.client.get(f"/api/jobs/{self.job_id}").json()
        return answer

    @property
    def videos(self) -> dict[str, dict[str, Any]]:
        items = self.scene.client.get(f"/api/jobs/{self.job_id}/videos").json()["items"]
        return {video["video_id"]: video for video in items}

    def until(self, *statuses: str) -> dict[str, Any]:
        """The newest update of this job once it is in one of these states."""
        heard: list[dict[str, Any]] = []

        def is_there(watcher: Watcher) -> bool:
            heard[:] = [update for update in watcher.updates if update["job_id"] == self.job_id][-1:]
            return bool(heard) and heard[0]["status"] in statuses

        self.scene.watcher.until(is_there, f"{self.job_id} {statuses}")
        return heard[0]

    def must_be_complete(self) -> None:
        """Every video has one good result."""
        end = self.until(*ENDS)
        assert (end["status"], end["current_video"], end["failed"]) == ("completed", len(VIDEO_IDS), 0), end
        assert {video["attempts"] for video in self.videos.values()} == {1}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One server for many stories; its outputs are on a small disk of their own where one may be mounted."""
    home = Home.prepare(tmp_path_factory.mktemp("trouble"))
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


def test_while_no_file_can_grow_requests_are_refused_in_words_and_then_everything_goes_on(tmp_path: Path) -> None:
    with Home.prepare(tmp_path).served(max_running_videos=2) as scene:
        work = _fill_and_make_room(scene, limit_files)
        assert sorted(work.log.started()) == sorted(VIDEO_IDS)  # what ran kept its outputs, so nothing is done twice


def test_while_the_disk_is_full_requests_are_refused_in_words_and_then_everything_goes_on(tmp_path: Path) -> None:
    with _small_disk(tmp_path / "data"), Home.prepare(tmp_path).served(max_running_videos=2) as scene:
        _fill_and_make_room(scene, _fill_data if may_mount() else limit_files)


def _fill_data(program: Program) -> Callable[[], None]:
    return fill(program.data_dir)


def _fill_and_make_room(scene: Scene, fill_disk: Callable[[Program], Callable[[], None]]) -> Work:
    work = scene.submit("running")
    first = [note.video_id for note in work.log.until_started(2)]
    work.until("processing")
    make_room = fill_disk(scene.program)
    work.let(*first)
    scene.program.until_says("tick_refused")
    _is_true_while_full(scene, work)
    assert work.ask("pause").status_code == 503
    assert len(set(work.log.started())) <= 4, "new work was begun although nothing can be stored"
    make_room()
    work.let(*VIDEO_IDS)
    assert work.until("paused")["current_video"] <= 4, "what was asked for when the disk was full was forgotten"
    assert work.ask("resume").status_code == 200
    work.must_be_complete()
    assert scene.stored("SELECT count(*) FROM job") == [(1,)], "what was refused was done all the same"
    return work


def _is_true_while_full(scene: Scene, work: Work) -> None:
    before = memory_mib(scene.program.pid)
    for _ in range(REFUSED_REQUESTS):
        refused = scene.order("refused", {"log": "nowhere"})
        assert refused.status_code == 503
        assert "cannot be written right now" in refused.json()["detail"]
    assert memory_mib(scene.program.pid) - before < MOST_GROWTH_MIB
    assert scene.stored("SELECT count(*) FROM result") == [(0,)]
    assert (work.job["status"], work.job["current_video"]) == ("processing", 0)
    [(newest,)] = scene.stored("SELECT max(seq) FROM job")
    assert max(update["seq"] for update in scene.watcher.updates) <= newest


@pytest.mark.parametrize("way", ["/dev/full", *(["small file system"] if may_mount() else [])])
def test_when_the_outputs_have_no_room_the_job_pauses_itself_and_resume_ends_it_well(scene: Scene, way: str) -> None:
    work = scene.submit(f"outputs-{way == '/dev/full'}")
    notes = work.log.until_started(len(VIDEO_IDS))
    make_room = fill(scene.home.data / "outputs") if way != "/dev/full" else _no_posters(scene, notes)
    work.let(*VIDEO_IDS)
    paused = work.until("paused", *ENDS)
    assert paused["status"] == "paused"
    assert "The server's disk is full" in paused["message"]
    make_room()
    assert work.ask("resume").status_code == 200
    work.must_be_complete()


def _no_posters(scene: Scene, notes: list[Footer]) -> Callable[[], None]:
    """Let whatever is written into the running videos' posters find no room."""
    for note in notes:
        (scene.home.data / "outputs" / note.job_id / str(note.position) / "poster.jpg.part").symlink_to("/dev/full")
    return lambda: None  # unfinished files are removed with their processes


def test_a_database_that_can_only_be_read_delays_the_work_and_loses_none(scene: Scene) -> None:
    work = scene.submit("read-only")
    work.log.until_started(len(VIDEO_IDS))
    make_writable = make_read_only(scene.program)
    try:
        work.let(*VIDEO_IDS)
        scene.program.until_says("tick_refused")
        refused = scene.order("refused", {"log": "nowhere"})
    finally:
        make_writable()
    assert refused.status_code == 503
    assert "cannot be written right now" in refused.json()["detail"]
    work.must_be_complete()
    assert sorted(work.log.started()) == sorted(VIDEO_IDS)


def test_a_database_that_another_program_holds_delays_the_work_and_loses_none(scene: Scene) -> None:
    work = scene.submit("locked")
    work.log.until_started(len(VIDEO_IDS))
    with closing(sqlite3.connect(scene.home.data / "dashboard.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        work.let(*VIDEO_IDS)
        scene.program.until_says("tick_refused")
        assert work.job["current_video"] == 0
        refused = work.ask("keep")
        other.rollback()
    assert refused.status_code == 503
    work.must_be_complete()
    assert sorted(work.log.started()) == sorted(VIDEO_IDS)


def test_a_video_process_that_hangs_dies_or_eats_memory_fails_in_true_words_and_the_others_go_on(scene: Scene) -> None:
    hangs, dies, eats, *others = VIDEO_IDS
    work = scene.submit("processes", greedy=eats)
    pids = {note.video_id: note.pid for note in work.log.until_started(len(VIDEO_IDS))}
    os.kill(pids[hangs], signal.SIGSTOP)
    os.kill(pids[dies], signal.SIGKILL)
    work.let(*VIDEO_IDS)
    end = work.until(*ENDS)
    assert (end["status"], end["failed"]) == ("completed_with_errors", 3)
    errors = {video_id: video["error"] for video_id, video in work.videos.items() if video["status"] == "failed"}
    assert errors == {
        hangs: f"Took longer than {TIMEOUT_SECONDS} s, the limit for one video (DASHBOARD_VIDEO_TIMEOUT_SECONDS).",
        dies: "The process of this video was killed, probably because the machine ran out of memory.",
        eats: "The video needs more memory than the limit of 4,096 MiB (DASHBOARD_VIDEO_MEMORY_MIB).",
    }
    assert all(work.videos[video_id]["status"] == "completed" for video_id in others)
    assert not Path(f"/proc/{pids[hangs]}").exists()


def test_when_the_process_that_starts_the_others_is_killed_the_work_goes_on(scene: Scene) -> None:
    work = scene.submit("starter")
    work.log.until_started(len(VIDEO_IDS))
    os.kill(fork_server(scene.program.pid), signal.SIGKILL)
    work.let(*VIDEO_IDS)
    work.must_be_complete()


def test_when_the_media_directory_is_gone_the_job_pauses_itself_and_resume_ends_it_well(scene: Scene) -> None:
    away = scene.home.path / "away"
    scene.home.media.rename(away)
    work = scene.submit("gone")
    paused = work.until("paused", *ENDS)
    away.rename(scene.home.media)
    assert paused["status"] == "paused"
    assert f'The media directory "{scene.home.media}" does not exist' in paused["message"]
    work.let(*VIDEO_IDS)
    assert work.ask("resume").status_code == 200
    work.must_be_complete()


def test_videos_that_run_when_the_media_directory_goes_are_still_to_do(scene: Scene) -> None:
    work = scene.submit("gone-meanwhile")
    work.log.until_started(1)
    away = scene.home.path / "away"
    scene.home.media.rename(away)
    work.let(*VIDEO_IDS)
    paused = work.until("paused", *ENDS)
    away.rename(scene.home.media)
    assert (paused["status"], paused["failed"]) == ("paused", 0)
    assert work.ask("resume").status_code == 200
    work.must_be_complete()


def test_a_stop_under_load_keeps_to_its_grace_and_the_next_start_goes_on_where_it_was(tmp_path: Path) -> None:
    home = Home.prepare(tmp_path)
    with home.served(max_running_videos=18, shutdown_grace_seconds=GRACE_SECONDS) as scene:
        jobs = [scene.submit(name) for name in ("one", "two", "three")]
        for work in jobs:
            work.let(VIDEO_IDS[0])
        scene.watcher.until(lambda watcher: _finished(watcher) == len(jobs), "a video of each job")
        began = time.monotonic()
        assert scene.program.stop() == 0
        assert time.monotonic() - began < GRACE_SECONDS + MARGIN_SECONDS
        assert scene.stored("SELECT DISTINCT status, current_video, requested FROM job") == [("pending", 1, None)]
        left = scene.stored("SELECT status, count(*) FROM video GROUP BY status ORDER BY status")
        assert left == [("completed", 3), ("pending", 15)]
    with home.served(max_running_videos=18) as scene:
        jobs = [Work(scene, work.job_id, work.log, work.gate) for work in jobs]
        for work in jobs:
            assert work.until("processing")["message"] == "Resumed at 1/6 after a restart"
            assert work.job["message"] == "Resumed at 1/6 after a restart"
            work.let(*VIDEO_IDS)
        for work in jobs:
            work.must_be_complete()
            assert work.log.started().count(VIDEO_IDS[0]) == 1


def _finished(watcher: Watcher) -> int:
    newest = {update["job_id"]: update["current_video"] for update in watcher.updates}
    return sum(newest.values())


async def test_a_database_that_may_not_grow_for_a_while_takes_everything_afterwards(tmp_path: Path) -> None:
    home = await asyncio.to_thread(Home.prepare, tmp_path)
    absent = list_of_ids([f"absent-{number}" for number in range(300)])
    async with open_backend(load_settings(data_dir=home.data, media_dir=home.media)) as backend:
        admin = await backend.accounts.user("admin")
        job = (await backend.manager.submit(absent, by=admin, name="absent")).job
        pages = await backend.database.read(lambda db: db.exec_driver_sql("PRAGMA page_count").scalar_one())
        await _let_grow(backend, to=pages)
        await _once(backend, job, lambda _: not backend.hub.is_storing)
        with pytest.raises(StoreRefused, match="the disk is full"):
            await backend.manager.submit(absent, by=admin, name="refused")
        await _let_grow(backend, to=1_000_000)
        ended = await _once(backend, job, lambda newest: newest.is_finished)
    assert (ended.status, ended.failed) == (Status.FAILED, 300)


async def _let_grow(backend: Backend, *, to: int) -> None:
    await backend.database.write(lambda db: db.exec_driver_sql(f"PRAGMA max_page_count = {to}").all())


async def test_whatever_the_wall_clock_does_work_ends_in_order_and_nobody_is_signed_out(tmp_path: Path) -> None:
    home, clock = await asyncio.to_thread(Home.prepare, tmp_path), JumpingClock()
    settings = load_settings(data_dir=home.data, media_dir=home.media, cleanup_interval_seconds=0.05)
    async with open_backend(settings, clock) as backend:
        admin = await backend.accounts.user("admin")
        cookie = await backend.accounts.open_session(admin)
        job = (await backend.manager.submit(SLOW, by=admin, name="jumps", options={"max_speed": 1.0})).job
        for finished, ahead in ((0, AN_HOUR), (2, -AN_HOUR), (4, timedelta())):
            await _once(backend, job, _has(finished))
            clock.ahead = ahead
            assert await backend.accounts.session(cookie), "signed out by the clock"
            await backend.accounts.token(home.jwt)
        ended = await _once(backend, job, lambda newest: newest.is_finished)
        videos = (await backend.manager.videos(job.id, by=admin)).items
        told = [json.loads(row) for row in await backend.manager.history(job.id, by=admin)]
        last = backend.hub.seq
    assert (ended.status, ended.failed) == (Status.COMPLETED, 0)
    moments = [ended.created_at, ended.started_at, ended.finished_at]
    assert moments == sorted(moment for moment in moments if moment)
    assert all(0 < (video.duration_seconds or 0) < WAIT_SECONDS for video in videos)
    for key in ("seq", "timestamp", "current_video", "progress"):
        assert [update[key] for update in told] == sorted(update[key] for update in told), key
    clock.ahead = -AN_HOUR
    async with open_backend(settings, clock) as backend:
        assert backend.hub.seq >= last, "positions of this life are below those of an earlier one"
        assert (await backend.manager.find(job.id, by=admin)).status is Status.COMPLETED


def _has(number: int) -> Callable[[Job], bool]:
    return lambda job: job.current_video >= number


async def _once(backend: Backend, job: Job, holds: Callable[[Job], bool]) -> Job:
    """The job as it is stored when this holds of it."""
    admin = await backend.accounts.user("admin")
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            newest = await backend.manager.find(job.id, by=admin)
            if holds(newest):
                return newest
            await asyncio.sleep(POLL_SECONDS)
