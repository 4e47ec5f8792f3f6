"""A running server with jobs whose videos wait until the test releases them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from backend.clock import SystemClock
from progress_dashboard.protocol import UNFINISHED
from tests.support.accounts import open_account_store
from tests.support.clips import make_clip, truncated
from tests.support.logging_processor import StartLog, install_plug_in
from tests.support.servers import Program, api, password_of, running
from tests.support.watchers import Watcher

SLOTS = 4
TOKEN_SECONDS = 3600
# The IDs of a good file, of a broken one, and of two that do not exist.
HERE, BROKEN, MISSING, LOST = "here", "broken", "missing", "lost"


@dataclass(frozen=True)
class HeldJob:
    """A job whose videos start and then wait for `release`."""

    job_id: str
    video_ids: Sequence[str]
    log: StartLog
    gate: Path

    def release(self) -> None:
        """Let the videos finish."""
        for video_id in self.video_ids:
            (self.gate / video_id).touch()


@dataclass(frozen=True)
class GatedServer:
    """The server, an administrator's socket, and the tokens of ana, ben and admin.

    Each user has one running job at a time, so that the next job of the same user waits while one is held.
    """

    home: Path
    program: Program
    tokens: Mapping[str, str]
    watcher: Watcher

    @contextmanager
    def api(self, user: str) -> Iterator[httpx.Client]:
        """Yield a client of the routes as this user. Cancels the user's unfinished jobs at the end."""
        with api(self.program, self.tokens[user]) as client:
            yield client
            for job in client.get("/api/jobs", params={"limit": 1000}).json()["items"]:
                if job["status"] in UNFINISHED:
                    client.post(f"/api/jobs/{job['job_id']}/cancel")

    def hold(self, client: httpx.Client, videos: int = 2) -> HeldJob:
        """Submit a job and return it after its first videos have started."""
        name, video_ids = uuid.uuid4().hex, [HERE] + [f"{HERE}-{number}" for number in range(1, videos)]
        log, gate = StartLog(self.home / f"{name}.log"), self.home / f"{name}.gate"
        gate.mkdir()
        options = {"log": str(log.path), "gate": str(gate)}
        job_id = submit(client, *video_ids, processor="logged", options=options)
        log.until_started(min(videos, SLOTS))
        return HeldJob(job_id, video_ids, log, gate)

    def ended(self, client: httpx.Client, *video_ids: str) -> str:
        """Submit a job and return its ID after it has ended."""
        job_id = submit(client, *video_ids)
        self.until(job_id, progress=100)
        return job_id

    def until(self, job_id: str, **fields: object) -> dict[str, Any]:
        """Return the first update of this job with these fields, as soon as it is received."""

        def fitting() -> list[dict[str, Any]]:
            return [
                update
                for update in self.watcher.updates
                if update["job_id"] == job_id and all(update[name] == value for name, value in fields.items())
            ]

        self.watcher.until(lambda _: bool(fitting()), f"{job_id}: {fields}")
        return fitting()[0]


def submit(client: httpx.Client, *video_ids: str, **order: object) -> str:
    """Submit a job and return its ID."""
    answer = client.post("/api/jobs", json={"video_ids": video_ids, "name": "nightly.csv", **order})
    assert answer.status_code == 201, answer.text
    job_id: str = answer.json()["job_id"]
    return job_id


@contextmanager
def gated_server(home: Path, **settings: Any) -> Iterator[GatedServer]:
    """Start the server over `home`, with an administrator's socket."""
    media = home / "media"
    clip = make_clip(media / f"{HERE}.mp4", seconds=0.3)
    for number in range(1, 2 * SLOTS):
        (media / f"{HERE}-{number}.mp4").write_bytes(clip.read_bytes())
    (media / f"{BROKEN}.mp4").write_bytes(clip.read_bytes())
    truncated(media / f"{BROKEN}.mp4")
    (home / "data").mkdir(mode=0o700)
    tokens = asyncio.run(_add_users(home / "data"))
    with (
        running(
            home / "data",
            python_path=install_plug_in(home / "plug-ins"),
            media_dir=media,
            max_running_videos=SLOTS,
            max_running_jobs_per_user=1,
            **settings,
        ) as program,
        Watcher(program, tokens["admin"], batch=True) as watcher,
    ):
        yield GatedServer(home, program, tokens, watcher)


async def _add_users(data_dir: Path) -> dict[str, str]:
    with open_account_store(data_dir, SystemClock()) as account_store:
        accounts = account_store.accounts
        users = [await accounts.ensure_admin()]
        users += [await accounts.add_user(name, password_of(name)) for name in ("ana", "ben")]
        return {user.name: await accounts.issue_token(user, lifetime_seconds=TOKEN_SECONDS) for user in users}
