"""Many jobs that several clients watch, over which the server or its database is killed: what the stories share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx

from progress_dashboard.protocol import UNFINISHED
from tests.support.homes import Home
from tests.support.logging_processor import StartLog, install_plug_in
from tests.support.mirror_client import MirrorClient
from tests.support.server_runs import Server

SLOTS = 8
JOBS = 50  # unfinished ones at the beginning of each round
VIDEO_IDS = ("one", "two", "three", "truncated")  # a job has the last one to four of them
WATCHERS = (("admin", True), ("ana", False), ("ben", False), ("ben", True))  # name of the user, and whether in batches
OWNERS = ("ana", "ben")
MAX_UPDATES = 200  # that a client receives in a run; independent of the machine's speed
SILENCE_SECONDS = 4.0  # without an update; then nothing more is expected of this run
END_SECONDS = 120.0  # a hang, also on a busy machine
POLL_SECONDS = 0.05


@dataclass
class Order:
    """A job that an owner submits until the server answers. Its idempotency key makes a repetition harmless."""

    owner: str
    key: str
    video_ids: tuple[str, ...]
    job_id: str | None = None

    @property
    def end(self) -> str:
        """The status in which it finishes unless it is cancelled: the last video always fails."""
        return "failed" if len(self.video_ids) == 1 else "completed_with_errors"


@dataclass
class Request:
    """An action that an owner requested for a job, at most once per run."""

    action: str
    order: Order
    # The job in the server's answer; None if the request was refused or not answered.
    answer: dict[str, Any] | None = None

    @property
    def job_id(self) -> str:
        return self.order.job_id or ""

    def holds(self, job: Mapping[str, Any]) -> bool:
        """Return True if the job has the requested state, or a later one."""
        is_finished = job["status"] not in UNFINISHED
        match self.action:
            case "cancel":
                return is_finished or job["requested"] == "cancel"
            case "pause":
                return is_finished or job["status"] == "paused" or job["requested"] == "pause"
            case "resume":
                return "paus" not in f"{job['status']} {job['requested']}"
        return self.answer is None or bool(job["attempt"] >= self.answer["attempt"])


async def prepare_home(path: Path) -> Home:
    """Make a data directory with the accounts, the clips and the plug-in of these stories."""
    home = await Home.prepare(path, clips=VIDEO_IDS, clip_seconds=0.2, users=OWNERS)
    install_plug_in(path / "plug-ins")
    return home


def server_of(home: Home, **more: Any) -> Server:
    """Return a server that runs all jobs of these stories at once."""
    settings = {"max_running_videos": SLOTS, **more}
    return Server(
        home.path / "data",
        python_path=home.path / "plug-ins",
        media_dir=home.path / "media",
        max_running_jobs=2 * JOBS,
        max_running_jobs_per_user=2 * JOBS,
        **settings,
    )


class Api:
    """The REST routes, as all users."""

    def __init__(
        self, url: str, tokens: Mapping[str, str], log: StartLog, *, may_refuse: bool = False, seconds: float = 0.0
    ) -> None:
        """`may_refuse`: the server may refuse to write for a while; `refusals` are its sentences.

        Each video takes up to `seconds` longer.
        """
        self.refusals: list[str] = []
        self._may_refuse = may_refuse
        self._options = {"log": str(log.path), "seconds": seconds}
        self._https = {name: _http(url, jwt) for name, jwt in tokens.items()}

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(http.aclose() for http in self._https.values()))

    async def submit_all(self, orders: Sequence[Order]) -> None:
        """Submit all of them at the same time. Those that the server does not answer have no job ID afterwards."""
        await asyncio.gather(*(self._submit(order) for order in orders))

    async def request(self, action: str, order: Order) -> Request:
        """Request an action for a job. The server may refuse it, or may be killed before it answers."""
        request = Request(action, order)
        try:
            answer = await self._https[order.owner].post(f"/api/jobs/{request.job_id}/{action}")
        except httpx.TransportError:
            return request
        assert answer.status_code in (200, 409) or self._is_refusal(answer), answer.text
        request.answer = answer.json() if answer.status_code == 200 else None
        return request

    async def health(self) -> list[httpx.Response]:
        """Return what the server says of itself to a stranger, and to the administrator."""
        return [
            await self._https["admin"].get("/healthz", headers={"Authorization": authorization})
            for authorization in ("", self._https["admin"].headers["Authorization"])
        ]

    async def jobs(self) -> dict[str, dict[str, Any]]:
        """Return the present state of every job, by job ID."""
        answer = await self._https["admin"].get("/api/jobs", params={"limit": 1000})
        return {job["job_id"]: job for job in answer.raise_for_status().json()["items"]}

    def _is_refusal(self, answer: httpx.Response) -> bool:
        if not self._may_refuse or answer.status_code != 503:
            return False
        self.refusals.append(answer.json()["detail"])
        return True

    async def _submit(self, order: Order) -> None:
        job = {"video_ids": order.video_ids, "processor": "logged", "options": self._options}
        headers = {"Idempotency-Key": order.key}
        try:
            answer = await self._https[order.owner].post("/api/jobs", json=job, headers=headers)
        except httpx.TransportError:
            return  # killed meanwhile; the next run gets the same order
        if self._is_refusal(answer):
            return
        assert answer.status_code == 201, answer.text
        order.job_id = answer.json()["job_id"]


def new_order(number: int, rng: Random) -> Order:
    return Order(OWNERS[number % 2], f"{rng.random()}", VIDEO_IDS[-1 - number % len(VIDEO_IDS) :])


async def until_received(client: MirrorClient, updates: int) -> None:
    """Return when the client has received this number of updates, or none for `SILENCE_SECONDS`.

    A limit on the whole run would end it on a slow machine before a request is answered.
    """
    received, since = len(client.received_updates), time.monotonic()
    while received < updates and time.monotonic() - since < SILENCE_SECONDS:
        await client.changed(POLL_SECONDS)
        if len(client.received_updates) > received:
            received, since = len(client.received_updates), time.monotonic()


def clients_of(port: int, home: Home, rng: Random) -> list[MirrorClient]:
    return [
        MirrorClient(
            name,
            port=port,
            jwt=home.tokens[name],
            in_batches=in_batches,
            is_slow=False,
            rng=Random(rng.random()),
        )
        for name, in_batches in WATCHERS
    ]


@asynccontextmanager
async def following(clients: Sequence[MirrorClient]) -> AsyncIterator[None]:
    """Run all clients while the block runs; an error of one ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.run()) for client in clients]
        yield
        for task in tasks:
            task.cancel()


async def until_caught_up(clients: Sequence[MirrorClient], jobs: dict[str, dict[str, Any]]) -> None:
    """Return when each client has the newest state of every job that its user may see."""
    try:
        async with asyncio.timeout(END_SECONDS):
            for client in clients:
                while _behind(client, jobs):
                    await client.changed(POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{client} never got the newest state of {_behind(client, jobs)}") from None


def _behind(client: MirrorClient, jobs: dict[str, dict[str, Any]]) -> list[str]:
    """Return the jobs of which the client does not have the newest state."""
    visible = {job_id: job["seq"] for job_id, job in jobs.items() if client.name in ("admin", job["owner"])}
    newest = {job_id: updates[-1].seq for job_id, updates in client.delivered.items()}
    return [job_id for job_id, seq in visible.items() if newest.get(job_id) != seq]


def _http(url: str, jwt: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {jwt}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=END_SECONDS, trust_env=False)
