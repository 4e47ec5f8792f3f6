"""The program over one data directory and port, which can be killed and restarted as the same or another build."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from backend.clock import SystemClock, to_millis
from tests import ROOT
from tests.support.accounts import open_account_store
from tests.support.clips import make_clip
from tests.support.databases import change
from tests.support.freshness import Change
from tests.support.recorder import Card, Cards
from tests.support.servers import TLS, Program, apart, free_port, password_of, run_command, running

PARTS = ("main.py", "backend", "ui")
CLIPS, CLIP_SECONDS = 8, 1.0
VIDEOS, VIDEOS_A_REPORT = 10_000, 25
REPORT_SECONDS = 0.25
TOKEN_SECONDS = 86_400
OVER_SESSION_AGE = timedelta(days=8)
BANNER, BANNER_MARK = "ui/components/shared/connection_banner.vue", 'data-testid="connection-banner"'


class RestartableServer:
    """A server through all its runs. Its users are administrators, so that all see the same jobs."""

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
        self._runs = ExitStack()
        self._program: Program | None = None
        self.data_dir.mkdir()
        self._tokens = apart(self._add(users))

    def start(self) -> float:
        """Start the server, wait until it is ready, and return the time."""
        run = running(self.data_dir, port=self.port, root=self._build, **self._settings)
        self._program = self._runs.enter_context(run)
        return time.time()

    def kill(self) -> float:
        """Kill the server with SIGKILL and return the time."""
        assert self._program is not None
        at = time.time()
        self._program.kill()
        return at

    def close(self) -> None:
        self._runs.close()

    def client(self, user: str) -> httpx.Client:
        """Open a client of the REST routes as this user."""
        headers = {"Authorization": f"Bearer {self._tokens[user]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False, verify=TLS)

    def change_build(self, mark: str) -> None:
        """Let the next start run another build, in which the banner has this attribute."""
        component = self._build / BANNER
        text = component.read_text(encoding="utf-8")
        assert text.count(BANNER_MARK) == 1
        component.write_text(text.replace(BANNER_MARK, f"{BANNER_MARK} {mark}"), encoding="utf-8")

    def let_sessions_expire(self) -> None:
        """Backdate every session so far that it has expired."""
        back = OVER_SESSION_AGE // timedelta(milliseconds=1)
        change(self.data_dir, "UPDATE session SET created_at = created_at - :back", back=back)

    def command(self, *arguments: str, stdin: str | None = None) -> None:
        """Run `python main.py …` while the server runs. Fails unless it succeeds."""
        done = run_command(*arguments, data_dir=self.data_dir, stdin=stdin)
        assert done.returncode == 0, done.stderr

    async def _add(self, users: Sequence[str]) -> dict[str, str]:
        with open_account_store(self.data_dir, SystemClock(), port=self.port) as opened:
            added = [await opened.accounts.add_user(name, password_of(name), is_admin=True) for name in users]
            return {
                user.name: await opened.accounts.issue_token(user, lifetime_seconds=TOKEN_SECONDS) for user in added
            }


def submit_external(client: httpx.Client, name: str) -> str:
    """Submit an external job and return its ID."""
    order = {"name": name, "video_ids": [f"v{number}" for number in range(VIDEOS)], "processor": "external"}
    return _submit(client, order)


def submit_clips(client: httpx.Client, name: str) -> str:
    """Submit a job that plays the clips at normal speed, one after another, and return its ID."""
    clips = [f"clip-{number}" for number in range(CLIPS)]
    return _submit(client, {"name": name, "video_ids": clips, "options": {"max_speed": 1}})


def on_dashboard(client: httpx.Client) -> Cards:
    """Return the cards of the jobs that are on the dashboard according to the API."""
    answer = client.get("/api/jobs", params={"dashboard": True, "limit": 1000}).raise_for_status()
    return {job["job_id"]: Card.of_api(job) for job in answer.json()["items"]}


def status_changes(client: httpx.Client, job_id: str) -> list[Change]:
    """Return all updates of a job whose status differs from the one before."""
    updates: list[dict[str, Any]] = client.get(f"/api/jobs/{job_id}/progress-history?limit=1000").json()
    before = [None, *(update["status"] for update in updates)]
    changed = [update for update, status in zip(updates, before, strict=False) if update["status"] != status]
    return [Change(to_millis(datetime.fromisoformat(one["timestamp"])) / 1000, one["status"]) for one in changed]


class Sender:
    """Reports on an external job a few times a second, from entry to exit, and then completes it.

    A report that the server did not answer is sent again. A job without its sender would stall during the stories that
    follow, and would move above the cards that they look at.
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
        with suppress(httpx.TransportError):  # the story failed while the server was away
            self._report({"n": VIDEOS + 1, "status": "completed"})

    def stop(self) -> None:
        """Stop reporting."""
        self._is_over.set()
        self._thread.join()

    def _keep_reporting(self) -> None:
        while not self._is_over.wait(REPORT_SECONDS):
            finished = min(VIDEOS, self.finished + VIDEOS_A_REPORT)
            report = {"n": finished, "status": "processing", "current_video": finished}
            try:
                self._report(report)
            except httpx.TransportError:
                continue
            self.finished = finished

    def _report(self, report: Mapping[str, object]) -> None:
        self._client.post(f"/api/jobs/{self._job_id}/progress", json=report).raise_for_status()


def _submit(client: httpx.Client, order: dict[str, Any]) -> str:
    return str(client.post("/api/jobs", json=order).raise_for_status().json()["job_id"])


def _copied(program: Path) -> Path:
    """Copy the program, so that the next start can run another build."""
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
