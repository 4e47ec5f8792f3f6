"""Pages with the grid and the banner, without a backend. A test posts their jobs to `/control`.

Run as `python -m tests.support.components_app PORT [SILENCE]`. A page treats SILENCE seconds without a byte as a loss.
"""

from __future__ import annotations

import asyncio
import itertools
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

from backend.clock import SystemClock
from backend.delivery.batches import Change, Removal, View
from backend.delivery.hub import ProgressHub
from backend.domain.auth import User
from backend.domain.job import Action, Job, Source
from backend.domain.notification import EventKind
from backend.domain.usual import Usual
from backend.jobs.waiting_line import DoneAt, Wait
from backend.settings import Settings, load_settings
from progress_dashboard.protocol import Status
from ui.audience import CardFacts
from ui.components.dashboard.dashboard_view import DashboardView
from ui.components.dashboard.job_grid import JobGrid
from ui.components.shared.connection_banner import ConnectionBanner
from ui.components.shared.live_region import LiveRegion
from ui.components.shared.number_field import NumberField
from ui.components.shared.shortcuts import Shortcuts
from ui.live import LiveJobs
from ui.nicegui_internals import broadcasts, set_page_heartbeat
from ui.theme import button, frame, icon, tag

RECONNECT_SECONDS = 300
SILENCE_SECONDS = 12.0
USUAL = Usual(low=4800, high=6000, runs=7)


class PostedJobs:
    """Takes the place of the backend: a hub with the jobs that a test posts."""

    def __init__(self) -> None:
        self.hub = ProgressHub()
        self.hub.load([], [], last_stored=0, start_seq=1_000)
        self.jobs: dict[str, Job] = {}
        self.readers = 0
        self.unread = asyncio.Event()  # set while there is no reader
        self.requests: list[tuple[str, str]] = []  # requested on the cards
        self.stalled: dict[str, datetime] = {}  # job -> when it stalled
        self.ids_with_video: dict[str, list[str]] = {}  # searched text -> IDs of jobs
        self.waits: dict[str, Wait] = {}  # job -> its place in line
        self.done: DoneAt | None = None
        self.rates: list[int] = []
        self.unusual: dict[str, EventKind] = {}  # job -> whether it is slower or faster than usual

    async def act(self, job_id: str, action: Action) -> None:
        self.requests.append((job_id, action.value))

    async def note_number(self, number: int) -> None:
        self.requests.append(("number", str(number)))

    async def search(self, q: str) -> list[str]:
        return self.ids_with_video.get(q, [])

    def forecast(self, order: dict[str, Any]) -> None:
        """Take what the order says about times: `waits` (job -> place, reason, moment), `done` (moments), `rates`."""
        moments = datetime.fromisoformat
        waits = order.get("waits", {}).items()
        self.waits |= {job_id: Wait(place, reason, at and moments(at)) for job_id, (place, reason, at) in waits}
        if "done" in order:
            self.done = DoneAt(*map(moments, order["done"]))
        self.rates = order.get("rates", self.rates)

    def watch(self, user: User, after: int | None) -> PostedReader:
        return PostedReader(self, after)

    def publish(self, changed: list[Job], removed: list[str]) -> None:
        self.jobs |= {job.id: job for job in changed}
        for job_id in removed:
            self.jobs.pop(job_id, None)
        numbers = itertools.count(self.hub.seq + 1)
        changes = [Change(job.evolve(seq=next(numbers))) for job in changed]
        removals = [Removal(job_id, "u1", next(numbers)) for job_id in removed]
        self.hub.take((*changes, *removals))
        self.hub.publish()


class PostedReader:
    """A reader of the posted jobs, counted from its first `next` until that is cancelled."""

    def __init__(self, posted: PostedJobs, after: int | None) -> None:
        self._posted = posted
        self._reader = posted.hub.reader(None, after)
        self._is_counted = False

    async def next(self) -> View:
        if not self._is_counted:
            self._is_counted = True
            self._posted.readers += 1
            self._posted.unread.clear()
        try:
            return await self._reader.next()
        except asyncio.CancelledError:
            self._posted.readers -= 1
            if not self._posted.readers:
                self._posted.unread.set()
            raise

    def take(self) -> View | None:
        return self._reader.take()


def job_from(facts: dict[str, Any]) -> Job:
    """Return a job with these facts. `*_ago` are seconds before now."""
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
    return job.finished_at + timedelta(seconds=RECONNECT_SECONDS) if job.finished_at else None


def settings_of(delays: str, attempts: int, silence_seconds: float) -> Settings:
    return load_settings(
        data_dir=Path(tempfile.gettempdir()),
        reconnect_delays_seconds=tuple(float(delay) for delay in delays.split(",")),
        reconnect_attempts=attempts,
        page_silence_seconds=silence_seconds,
    )


def build(silence_seconds: float) -> FastAPI:
    app = FastAPI()
    posted = PostedJobs()
    facts = CardFacts(
        leaves_at,
        lambda job: None,
        lambda job: posted.stalled.get(job.id),
        lambda job, user: posted.waits.get(job.id),
        lambda jobs: posted.done,
        lambda owner_id: posted.rates,
        lambda job: posted.unusual.get(job.id),
        lambda job: USUAL,
    )
    live = LiveJobs(posted.watch, broadcasts(), SystemClock(), facts)

    @app.post("/control")
    async def control(request: Request) -> dict[str, int]:
        order = await request.json()
        ago = {job_id: timedelta(seconds=seconds) for job_id, seconds in order.get("stalled_ago", {}).items()}
        posted.stalled |= {job_id: datetime.now(UTC) - passed for job_id, passed in ago.items()}
        posted.ids_with_video |= order.get("ids_with_video", {})
        posted.forecast(order)
        posted.unusual |= {job_id: EventKind(kind) for job_id, kind in order.get("unusual", {}).items()}
        posted.publish(
            [job_from(facts) for facts in order.get("jobs", [])],
            order.get("removed", []),
        )
        return {"readers": posted.readers}

    @app.get("/requests")
    async def requests() -> list[tuple[str, str]]:
        return posted.requests

    @app.get("/deserted")
    async def deserted() -> None:
        await posted.unread.wait()

    @app.get("/api/auth/me")
    async def me() -> dict[str, Any]:
        return {"id": "u1", "name": "alice", "is_admin": False}

    @app.post("/clear")
    async def clear() -> None:
        posted.requests.clear()
        posted.stalled.clear()
        posted.ids_with_video.clear()
        posted.waits.clear()
        posted.unusual.clear()
        posted.done, posted.rates = None, []
        posted.publish([], list(posted.jobs))

    @ui.page("/", language="en-US", dark=None, reconnect_timeout=300)
    def page(
        *,
        admin: bool = False,
        delays: str = "3,6,12,24,30",
        attempts: int = 10,
        show: str = "",
        q: str = "",
        sort: str = "",
        view: str = "",
    ) -> None:
        user = User(id="u1", name="alice", is_admin=admin)
        settings = settings_of(delays, attempts, silence_seconds)
        with frame(
            "Dashboard", "dashboard", user, banner=lambda: (ConnectionBanner(settings), LiveRegion(), Shortcuts())
        ):
            shown = DashboardView.of(show=show, q=q, sort=sort, view=view)
            grid = JobGrid(
                shown,
                title="Dashboard",
                show_owner=admin,
                on_act=posted.act,
                on_search=posted.search,
                first=live.first_frame(shown, user),
            )
            live.feed(grid, lambda: user)
            with grid.add_slot("actions"):
                button("Upload CSV", kind="primary", icon_name="upload")
            with grid.add_slot("empty"), tag("section", classes="empty"):
                icon("video_library")
                tag("h2", "No active jobs")
            with grid.add_slot("note"):
                tag("p", "You see only your own jobs.", classes="note")

    @ui.page("/other", language="en-US", dark=None, reconnect_timeout=300)
    def other_page(delays: str = "3,6,12,24,30", attempts: int = 10) -> None:
        user = User(id="u1", name="alice", is_admin=False)
        settings = settings_of(delays, attempts, silence_seconds)
        with frame("Other", "", user, banner=lambda: ConnectionBanner(settings)):
            NumberField(least=1, most=64, on_number=posted.note_number).show(4, "videos at once")

    set_page_heartbeat(silence_seconds)
    ui.run_with(app, title="Progress dashboard", show_welcome_message=False, tailwind=False)
    return app


if __name__ == "__main__":
    silence = float(sys.argv[2]) if len(sys.argv) > 2 else SILENCE_SECONDS
    uvicorn.run(build(silence), port=int(sys.argv[1]), access_log=False, timeout_graceful_shutdown=1)
