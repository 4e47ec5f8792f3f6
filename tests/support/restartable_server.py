"""The program over one data directory and port: killed and started again, as this build or as another one."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from backend.clock import SystemClock, to_millis
from tests import ROOT
from tests.support.accounts import open_office
from tests.support.clips import make_clip
from tests.support.freshness import Change
from tests.support.recorder import Card, Cards
from tests.support.servers import Program, apart, free_port, password_of, run_command, running

PARTS = ("main.py", "backend", "ui")
CLIPS, CLIP_SECONDS = 8, 1.0
VIDEOS, VIDEOS_A_REPORT = 10_000, 25
REPORT_SECONDS = 0.25
TOKEN_SECONDS = 86_400
LONGER_THAN_A_SESSION = timedelta(days=8)
BANNER, ITS_MARK = "ui/components/connection_banner.vue", 'data-testid="connection-banner"'


class Stand:
    """One server, whichever life of it. Its users are administrators: all see the same jobs."""

    def __init__(self, home: Path, users: Sequence[str], **settings: object) -> None:
        self.data_dir = home / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._build = _copied(home / "program")
        self._media = _clips(home / "media")
        self._settings: dict[str, Any] = {
            "allowed_hosts": "127.0.0.1",
            "media_dir": self._media,
            "max_running_videos": 1,
            **settings,
        }
        self._life = ExitStack()
        self._program: Program | None = None
        self.data_dir.mkdir()
        self._tokens = apart(self._add(users))

    def start(self) -> float:
        """A new life, ready; since when."""
        life = running(self.data_dir, port=self.port, root=self._build, **self._settings)
        self._program = self._life.enter_context(life)
        return time.time()

    def kill(self) -> float:
        """kill -9; when."""
        assert self._program is not None
        at = time.time()
        self._program.kill()
        return at

    def close(self) -> None:
        self._life.close()

    def client(self, user: str) -> httpx.Client:
        """The REST routes as this user."""
        headers = {"Authorization": f"Bearer {self._tokens[user]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def change_build(self, mark: str) -> None:
        """Let the next life be of another build, where the banner carries this attribute."""
        script = self._build / BANNER
        text = script.read_text(encoding="utf-8")
        assert text.count(ITS_MARK) == 1
        script.write_text(text.replace(ITS_MARK, f"{ITS_MARK} {mark}"), encoding="utf-8")

    def let_sessions_expire(self) -> None:
        """Every session of now began so long ago that it has run out."""
        back = LONGER_THAN_A_SESSION // timedelta(milliseconds=1)
        with closing(sqlite3.connect(self.data_dir / "dashboard.sqlite3", timeout=10)) as database, database:
            database.execute("UPDATE session SET created_at = created_at - ?", (back,))

    def command(self, *words: str, stdin: str | None = None) -> None:
        """`python main.py …` beside the running server."""
        done = run_command(*words, data_dir=self.data_dir, stdin=stdin)
        assert done.returncode == 0, done.stderr

    async def _add(self, users: Sequence[str]) -> dict[str, str]:
        with open_office(self.data_dir, SystemClock(), port=self.port) as office:
            added = [await office.accounts.add_user(name, password_of(name), is_admin=True) for name in users]
            return {
                user.name: await office.accounts.issue_token(user, lifetime_seconds=TOKEN_SECONDS) for user in added
            }


def elsewhere(client: httpx.Client, name: str) -> str:
    """A new job that runs elsewhere; its ID."""
    order = {"name": name, "video_ids": [f"v{number}" for number in range(VIDEOS)], "processor": "external"}
    return _made(client, order)


def real(client: httpx.Client, name: str) -> str:
    """A new job over the clips, at their own pace, one after the other; its ID."""
    clips = [f"clip-{number}" for number in range(CLIPS)]
    return _made(client, {"name": name, "video_ids": clips, "options": {"max_speed": 1}})


def on_dashboard(client: httpx.Client) -> Cards:
    """What the API says is on the dashboard now."""
    answer = client.get("/api/jobs", params={"dashboard": True, "limit": 1000}).raise_for_status()
    return {job["job_id"]: Card.of_api(job) for job in answer.json()["items"]}


def status_changes(client: httpx.Client, job_id: str) -> list[Change]:
    """All updates of a job that tell another status than the one before."""
    told: list[dict[str, Any]] = client.get(f"/api/jobs/{job_id}/progress-history?limit=1000").json()
    before = [None, *(update["status"] for update in told)]
    changed = [update for update, status in zip(told, before, strict=False) if update["status"] != status]
    return [Change(to_millis(datetime.fromisoformat(one["timestamp"])) / 1000, one["status"]) for one in changed]


class Sender:
    """Reports on a job that runs elsewhere, a few times a second, from entry to exit.

    What a server that is gone did not answer is repeated.
    """

    def __init__(self, client: httpx.Client, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._keep_reporting, daemon=True)
        self.finished = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Report nothing any more."""
        self._is_over.set()
        self._thread.join()

    def _keep_reporting(self) -> None:
        while not self._is_over.wait(REPORT_SECONDS):
            finished = min(VIDEOS, self.finished + VIDEOS_A_REPORT)
            report = {"n": finished, "status": "processing", "current_video": finished}
            try:
                self._client.post(f"/api/jobs/{self._job_id}/progress", json=report).raise_for_status()
            except httpx.TransportError:
                continue
            self.finished = finished


def _made(client: httpx.Client, order: dict[str, Any]) -> str:
    return str(client.post("/api/jobs", json=order).raise_for_status().json()["job_id"])


def _copied(program: Path) -> Path:
    """The program as it lies here, where the next life may be of another build."""
    program.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, program / part)
        else:
            shutil.copy2(source, program / part)
    return program


def _clips(media: Path) -> Path:
    first = make_clip(media / "clip-0.mp4", seconds=CLIP_SECONDS)
    for number in range(1, CLIPS):
        shutil.copy(first, media / f"clip-{number}.mp4")
    return media
