"""A page with the grid and the banner and nothing behind them: its jobs are what a test posts to `/control`.

Run as `python -m tests.support.components_app PORT`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("NICEGUI_STORAGE_PATH", tempfile.gettempdir())

import uvicorn
from fastapi import FastAPI, Request
from nicegui import ui

from backend.auth import User
from backend.clock import SystemClock
from backend.hub import Change, Removal, View
from backend.jobs import Action, Job, Source, Status
from backend.settings import load_settings
from ui.components.connection_banner import ConnectionBanner
from ui.components.job_grid import JobGrid, card
from ui.live import LiveJobs
from ui.theme import button, frame, icon, tag

KEPT_SECONDS = 300


class PostedJobs:
    """Stands for the manager: a list of jobs, each change a view for all readers."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.seq = 1_000
        self.readers: list[asyncio.Queue[View]] = []
        self.deserted = asyncio.Event()  # nobody reads any more
        self.acts: list[tuple[str, str]] = []  # what was pressed on the cards

    async def act(self, job_id: str, action: Action) -> None:
        self.acts.append((job_id, action.value))

    def watch(self, user: User) -> PostedReader:
        return PostedReader(self)

    def publish(self, changed: list[Job], removed: list[str]) -> None:
        prev, self.seq = self.seq, self.seq + 1 + len(changed) + len(removed)
        self.jobs |= {job.id: job for job in changed}
        for job_id in removed:
            self.jobs.pop(job_id, None)
        for reader in self.readers:
            gone = [Removal(job_id, "u1", self.seq) for job_id in removed]
            reader.put_nowait(View(prev, self.seq, False, (*map(Change, changed), *gone)))


class PostedReader:
    def __init__(self, posted: PostedJobs) -> None:
        self.views: asyncio.Queue[View] = asyncio.Queue()
        self.views.put_nowait(View(0, posted.seq, True, tuple(map(Change, posted.jobs.values()))))
        self._posted = posted
        posted.readers.append(self.views)
        posted.deserted.clear()

    async def next(self) -> View:
        try:
            return await self.views.get()
        except asyncio.CancelledError:
            self._posted.readers.remove(self.views)
            if not self._posted.readers:
                self._posted.deserted.set()
            raise


def job_from(facts: dict[str, Any]) -> Job:
    """A job from what a test says about it; `*_ago` are seconds before now."""
    now = datetime.now(UTC)
    given = dict(facts)
    moments = {
        name.removesuffix("_ago"): now - timedelta(seconds=given.pop(name))
        for name in list(given)
        if name.endswith("_ago")
    }
    defaults = {"created": now, "updated": now} | moments
    job = Job(
        id=given.pop("id"),
        owner_id="u1",
        owner=given.pop("owner", "alice"),
        name=given.pop("name", "list.csv"),
        processor="probe",
        total_videos=given.pop("total_videos", 20),
        source=Source(given.pop("source", "media")),
        status=Status(given.pop("status", "processing")),
        created_at=defaults["created"],
        updated_at=defaults["updated"],
        started_at=defaults.get("started"),
        finished_at=defaults.get("finished"),
    )
    return job.evolve(**given)


def leaves_at(job: Job) -> datetime | None:
    return job.finished_at + timedelta(seconds=KEPT_SECONDS) if job.finished_at else None


def build() -> FastAPI:
    app = FastAPI()
    posted = PostedJobs()
    live = LiveJobs(posted.watch, SystemClock(), lambda job: card(job, leaves_at(job)))

    @app.post("/control")
    async def control(request: Request) -> dict[str, int]:
        order = await request.json()
        posted.publish(
            [job_from(facts) for facts in order.get("jobs", [])],
            order.get("removed", []),
        )
        return {"readers": len(posted.readers)}

    @app.get("/acts")
    async def acts() -> list[tuple[str, str]]:
        return posted.acts

    @app.get("/deserted")
    async def deserted() -> None:
        await posted.deserted.wait()

    @app.post("/clear")
    async def clear() -> None:
        posted.acts.clear()
        posted.publish([], list(posted.jobs))

    @ui.page("/", language="en-US", dark=None, reconnect_timeout=300)
    def page(admin: bool = False, delays: str = "3,6,12,24,30", attempts: int = 10) -> None:
        user = User(id="u1", name="alice", is_admin=admin)
        settings = load_settings(
            data_dir=Path(tempfile.gettempdir()),
            reconnect_delays_seconds=tuple(float(delay) for delay in delays.split(",")),
            reconnect_attempts=attempts,
        )
        with frame("Dashboard", "dashboard", user, banner=lambda: ConnectionBanner(settings)):
            grid = JobGrid(title="Dashboard", show_owner=admin, on_act=posted.act)
            live.feed(grid, lambda: user)
            with grid.add_slot("actions"):
                button("Upload CSV", kind="primary", icon_name="upload")
            with grid.add_slot("empty"), tag("section", classes="empty"):
                icon("video_library")
                tag("h2", "No active jobs")
            with grid.add_slot("note"):
                tag("p", "You see only your own jobs.", classes="note")

    ui.run_with(app, title="Progress dashboard", reconnect_timeout=10, show_welcome_message=False, tailwind=False)
    return app


if __name__ == "__main__":
    uvicorn.run(build(), port=int(sys.argv[1]), access_log=False, timeout_graceful_shutdown=1)
