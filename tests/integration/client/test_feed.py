"""`ProgressFeed` over real sockets: with the program, and with a server of the default format only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve

from progress_dashboard import FeedStopped, ProgressFeed, ReadyState
from progress_dashboard.address import Address
from progress_dashboard.transport import HistoryUnreachable, RealNetwork
from tests.support.chaos_proxy import BAD, ChaosProxy, chaos_proxy
from tests.support.server_runs import Server
from tests.support.servers import add_user

pytestmark = pytest.mark.acceptance  # restarts the whole program

TIMEOUT_SECONDS = 20.0
VIDEOS = [f"v{number}" for number in range(6)]
QUICK: dict[str, Any] = {"reconnect_delays_seconds": (0.05, 0.1), "reconnect_attempts": 400}


@dataclass
class Installation:
    """A server with a user, and a proxy before it that counts the connections of feeds."""

    server: Server
    jwt: str
    http: httpx.AsyncClient
    proxy: ChaosProxy

    def feed(self, **others: Any) -> ProgressFeed:
        return ProgressFeed(f"http://127.0.0.1:{self.proxy.port}", **{"token": self.jwt, **QUICK, **others})

    async def make_job(self, name: str = "nightly.csv") -> str:
        """Make an external job and return its ID."""
        order = {"name": name, "video_ids": VIDEOS, "processor": "external"}
        answer = await self.http.post("/api/jobs", json=order)
        return str(answer.raise_for_status().json()["job_id"])

    async def report(self, job_id: str, n: int, **facts: object) -> None:
        (await self.http.post(f"/api/jobs/{job_id}/progress", json={"n": n, **facts})).raise_for_status()


@pytest.fixture
async def installation(tmp_path: Path) -> AsyncIterator[Installation]:
    server = Server(tmp_path / "data", allowed_hosts="127.0.0.1")
    await server.start()
    jwt = await asyncio.to_thread(add_user, tmp_path / "data", "ana")
    headers = {"Authorization": f"Bearer {jwt}"}
    try:
        async with (
            httpx.AsyncClient(base_url=server.url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False) as http,
            chaos_proxy(server.port, BAD, seed="") as proxy,
        ):
            proxy.calm()
            yield Installation(server, jwt, http, proxy)
    finally:
        await server.close()


async def until_shown(feed: ProgressFeed, job_id: str, **facts: object) -> None:
    """Return when the feed's newest state of the job has these facts."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not _has(feed.job_progress.get(job_id), facts):
            await feed.changed()


def _has(update: object, facts: dict[str, object]) -> bool:
    return update is not None and all(getattr(update, name) == value for name, value in facts.items())


async def test_a_server_restart_loses_no_error_and_repeats_nothing(installation: Installation) -> None:
    job_id = await installation.make_job()
    received = []
    async with asyncio.timeout(TIMEOUT_SECONDS), installation.feed() as feed:
        await until_shown(feed, job_id, status="pending")
        await installation.report(job_id, 1, current_video=1, video_id="v0", error="The file is cut off.")
        await until_shown(feed, job_id, failed=1)
        await installation.server.kill()
        while not feed.reconnecting:
            await feed.changed()
        await installation.server.start()
        for n, video_id in enumerate(("v1", "v2", "v3"), start=2):
            await installation.report(job_id, n, video_id=video_id, error=f"{video_id} is bad.")
        await installation.report(job_id, 9, status="completed")
        async for update in feed:
            received.append(update)
            if update.status == "completed_with_errors":
                break
        assert feed.is_connected
    positions = [update.seq for update in received]
    assert positions == sorted(set(positions))
    assert feed.job_progress[job_id].status == "completed_with_errors"


async def test_an_iteration_gets_every_error_of_a_job_that_ran_on(installation: Installation) -> None:
    """The job's videos fail while the feed is not connected."""
    job_id = await installation.make_job()
    async with asyncio.timeout(TIMEOUT_SECONDS), installation.feed() as feed:
        updates = aiter(feed)
        assert (await anext(updates)).status == "pending"
        await installation.server.kill()
        while feed.is_connected:
            await feed.changed()
        await installation.server.start()
        for n, video_id in enumerate(VIDEOS, start=1):
            await installation.report(job_id, n, video_id=video_id, error=f"{video_id} is bad.")
        await installation.report(job_id, 9, status="completed")
        failed: list[str | None] = []
        async for update in updates:
            failed += [update.video_id] if isinstance(update.error, str) and update.failed > len(failed) else []
            if update.status == "failed":
                break
    assert failed == VIDEOS


async def test_a_bad_token_is_tried_once_and_its_reason_is_raised(installation: Installation) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS), installation.feed(token="no-token") as feed:
        with pytest.raises(FeedStopped, match="not signed in") as stopped:
            await anext(aiter(feed))
        assert stopped.value.code == 1008
        assert (feed.is_connected, feed.reconnecting, feed.ready_state) == (False, False, ReadyState.CLOSED)
        assert installation.proxy.connections == 1


async def test_feeds_share_one_connection_and_show_their_own_jobs(installation: Installation) -> None:
    first, second = await installation.make_job("first.csv"), await installation.make_job("second.csv")
    async with asyncio.timeout(TIMEOUT_SECONDS), installation.feed() as everything, installation.feed() as one_job:
        one_job.monitor(second)
        await until_shown(everything, first)
        await until_shown(one_job, second)
        assert everything.job_progress.keys() == {first, second}
        assert one_job.job_progress.keys() == {second}
        one_job.unmonitor(second)
        assert not one_job.job_progress
        assert installation.proxy.connections == 1


async def test_a_deleted_job_leaves_the_feed(installation: Installation) -> None:
    job_id = await installation.make_job()
    async with asyncio.timeout(TIMEOUT_SECONDS), installation.feed() as feed:
        await until_shown(feed, job_id)
        (await installation.http.post(f"/api/jobs/{job_id}/cancel")).raise_for_status()
        (await installation.http.delete(f"/api/jobs/{job_id}")).raise_for_status()
        while job_id in feed.job_progress:
            await feed.changed()
        assert not feed.job_progress


async def cancel_requests(network: RealNetwork, job_id: str, *, after_turns: int) -> None:
    """Make as many requests as a feed makes at once, and cancel each before its answer."""
    requests = [asyncio.create_task(network.history(job_id, after=0, limit=1)) for _ in range(4)]
    for _ in range(after_turns):
        await asyncio.sleep(0)
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)


async def test_cancelled_requests_do_not_block_a_later_one(installation: Installation) -> None:
    """The pool of httpcore keeps places for connections whose opening was cancelled (its issue 1093)."""
    job_id = await installation.make_job()
    network = RealNetwork(Address.parse(installation.server.url)[0], installation.jwt)
    for turns in range(16):
        for _ in range(4):
            await cancel_requests(network, job_id, after_turns=turns)
        with suppress(HistoryUnreachable):  # the first request may find the pool full, and replaces it
            await network.history(job_id, after=0, limit=1)
        assert len(await network.history(job_id, after=0, limit=1)) == 1
    await network.close()


@dataclass
class PlainServer:
    """A server of the default format only: the paths that were requested, and the messages that arrived."""

    port: int = 0
    paths: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


UPDATE = {
    "job_id": "a",
    "status": "processing",
    "progress": 45,
    "current_video": 9,
    "total_videos": 20,
    "message": "Processing videos...",
    "video_id": "abc123",
    "failed": 0,
    "attempt": 1,
    "requested": None,
    "name": "nightly.csv",
    "seq": 7,
    "timestamp": "2026-01-31T12:00:00.123Z",
    "of_a_later_version": True,
}


@asynccontextmanager
async def plain_server() -> AsyncIterator[PlainServer]:
    plain = PlainServer()

    async def respond(connection: ServerConnection) -> None:
        assert connection.request is not None
        plain.paths.append(connection.request.path)
        await connection.send(json.dumps(UPDATE))
        async for message in connection:
            plain.messages.append(str(message))
            await connection.send(json.dumps(UPDATE | {"seq": 8, "progress": 50}))

    async with serve(respond, "127.0.0.1", 0) as server:
        plain.port = next(iter(server.sockets)).getsockname()[1]
        yield plain


async def test_a_queued_message_reaches_a_server_of_the_default_format() -> None:
    """The token is not in the address."""
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        plain_server() as plain,
        ProgressFeed(f"ws://127.0.0.1:{plain.port}/api/ws/progress", token="secret", **QUICK) as feed,
    ):
        assert feed.ready_state is ReadyState.CONNECTING
        await feed.send_json({"type": "hello"})
        await until_shown(feed, "a", progress=50)
        assert plain.messages == ['{"type":"hello"}']
        assert "secret" not in plain.paths[0]
