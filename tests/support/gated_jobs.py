"""The program over six clips, with jobs whose videos wait for their gates."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from backend.clock import SystemClock
from tests.support.accounts import open_account_store
from tests.support.clips import make_clip
from tests.support.databases import rows
from tests.support.logging_processor import StartLog, install_plug_in
from tests.support.servers import Program, api, running
from tests.support.watchers import Watcher
from tests.support.worker_programs import WorkerProgram, working

VIDEO_IDS = tuple(f"clip-{number}" for number in range(6))
FINAL = ("completed", "completed_with_errors", "failed", "cancelled")


@dataclass(frozen=True)
class ClipHome:
    """A media directory with six clips, a plug-in, an account, and a data directory."""

    path: Path
    jwt: str

    @classmethod
    def prepare(cls, path: Path) -> ClipHome:
        """Make everything in this directory."""
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

    @property
    def plug_ins(self) -> Path:
        return self.path / "plug-ins"

    @contextmanager
    def served(self, **settings: Any) -> Iterator[Scene]:
        """Run the program over this home, with a watcher that receives batches."""
        with (
            running(self.data, python_path=self.plug_ins, media_dir=self.media, **settings) as program,
            api(program, self.jwt) as client,
            Watcher(program, self.jwt, batch=True) as watcher,
        ):
            yield Scene(self, program, client, watcher)

    def working(self, name: str, *, slots: int = len(VIDEO_IDS), **more: Any) -> AbstractContextManager[WorkerProgram]:
        """Run a worker beside the program."""
        return working(self.data, name, slots=slots, media=self.media, python_path=self.plug_ins, **more)


async def _admin_token(data: Path) -> str:
    with open_account_store(data, SystemClock()) as account_store:
        admin = await account_store.accounts.ensure_admin()
        return await account_store.accounts.issue_token(admin, lifetime_seconds=86_400)


@dataclass(frozen=True)
class Scene:
    """The running program, its client and its watcher."""

    home: ClipHome
    program: Program
    client: httpx.Client
    watcher: Watcher

    def submit(self, name: str, **options: Any) -> GatedJob:
        """Submit a job over the six clips, each of which waits until its gate is opened; `name` must be new."""
        gate = self.home.path / f"{name}.gate"
        gate.mkdir()
        log = StartLog(self.home.path / f"{name}.log")
        answer = self.post_job(name, {"log": str(log.path), "gate": str(gate), **options})
        assert answer.status_code == 201, answer.text
        return GatedJob(self, answer.json()["job_id"], log, gate)

    def post_job(self, name: str, options: dict[str, Any]) -> httpx.Response:
        """Request a job over the six clips."""
        job = {"video_ids": VIDEO_IDS, "name": name, "processor": "logged", "options": options}
        return self.client.post("/api/jobs", json=job)

    def stored(self, query: str) -> list[Any]:
        """Return the rows of a query on the server's database."""
        return rows(self.home.data, query)


@dataclass(frozen=True)
class GatedJob:
    """A job of a scene, whose videos wait for their gates."""

    scene: Scene
    job_id: str
    log: StartLog
    gate: Path

    def open_gates(self, *video_ids: str) -> None:
        """Let these videos continue."""
        for video_id in video_ids:
            (self.gate / video_id).touch()

    def request(self, action: str) -> httpx.Response:
        """Request an action for the job."""
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
        """Return the newest update of this job when it has one of these statuses."""
        newest: list[dict[str, Any]] = []

        def has_status(watcher: Watcher) -> bool:
            newest[:] = [update for update in watcher.updates if update["job_id"] == self.job_id][-1:]
            return bool(newest) and newest[0]["status"] in statuses

        self.scene.watcher.until(has_status, f"{self.job_id} {statuses}")
        return newest[0]

    def of(self, scene: Scene) -> GatedJob:
        """Return the same job as another run of the program has it."""
        return GatedJob(scene, self.job_id, self.log, self.gate)

    def assert_completed(self) -> None:
        """Wait until the job has finished, and check that every video has one good result."""
        end = self.until(*FINAL)
        assert (end["status"], end["current_video"], end["failed"]) == ("completed", len(VIDEO_IDS), 0), end
        assert {video["attempts"] for video in self.videos.values()} == {1}
