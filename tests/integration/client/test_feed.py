"""`ProgressFeed` over real sockets: with the program, and with a server that knows the default format only."""

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
from progress_dashboard.transport import Address, HistoryUnreachable, RealNetwork
from tests.support.chaos_proxy import BAD, ChaosProxy, bad_line
from tests.support.server_runs import Server
from tests.support.servers import add_user

WAIT = 20.0
VIDEOS = 6
QUICK: dict[str, Any] = {"reconnect_delays_seconds": (0.05, 0.1), "reconnect_attempts": 400}


@dataclass
class Ground:
    """The program, a user's token, and the way there on which connections are counted."""

    server: Server
    jwt: str
    http: httpx.AsyncClient
    line: ChaosProxy

    def feed(self, **others: Any) -> ProgressFeed:
        return ProgressFeed(f"http://127.0.0.1:{self.line.port}", **{"token": self.jwt, **QUICK, **others})

    async def make(self, name: str = "nightly.csv") -> str:
        order = {"name": name, "video_ids": [f"v{n}" for n in range(VIDEOS)], "processor": "external"}
        answer = await self.http.post("/api/jobs", json=order)
        return str(answer.raise_for_status().json()["job_id"])

    async def say(self, job_id: str, n: int, **facts: object) -> None:
        (await self.http.post(f"/api/jobs/{job_id}/progress", json={"n": n, **facts})).raise_for_status()


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    server = Server(tmp_path / "data", allowed_hosts="127.0.0.1")
    await server.start()
    jwt = await asyncio.to_thread(add_user, tmp_path / "data", "ana")
    headers = {"Authorization": f"Bearer {jwt}"}
    try:
        async with (
            httpx.AsyncClient(base_url=server.url, headers=headers, timeout=WAIT, trust_env=False) as http,
            bad_line(server.port, BAD, seed="") as line,
        ):
            line.calm()
            yield Ground(server, jwt, http, line)
    finally:
        await server.close()


async def until_shown(feed: ProgressFeed, job_id: str, **facts: object) -> None:
    """Return when the feed's newest state of the job has these facts."""
    async with asyncio.timeout(WAIT):
        while not _is(feed.job_progress.get(job_id), facts):
            await feed.changed()


def _is(update: object, facts: dict[str, object]) -> bool:
    return update is not None and all(getattr(update, name) == value for name, value in facts.items())


async def test_a_restart_of_the_server_loses_no_error_and_repeats_nothing(ground: Ground) -> None:
    job_id = await ground.make()
    heard = []
    async with asyncio.timeout(WAIT), ground.feed() as feed:
        await until_shown(feed, job_id, status="pending")
        await ground.say(job_id, 1, current_video=1, video_id="v0", error="The file is cut off.")
        await until_shown(feed, job_id, failed=1)
        await ground.server.kill()
        while feed.is_connected:
            await feed.changed()
        assert feed.reconnecting
        await ground.server.start()
        for n, video in enumerate(("v1", "v2", "v3"), start=2):
            await ground.say(job_id, n, video_id=video, error=f"{video} is bad.")
        await ground.say(job_id, 9, status="completed")
        async for update in feed:
            heard.append(update)
            if update.status == "completed_with_errors":
                break
        assert feed.is_connected
    positions = [update.seq for update in heard]
    assert positions == sorted(set(positions))
    assert feed.job_progress[job_id].status == "completed_with_errors"


async def test_an_iteration_hears_every_error_of_a_job_that_went_on_while_it_was_away(ground: Ground) -> None:
    job_id = await ground.make()
    async with asyncio.timeout(WAIT), ground.feed() as feed:
        updates = aiter(feed)
        assert (await anext(updates)).status == "pending"
        await ground.server.kill()
        while feed.is_connected:
            await feed.changed()
        await ground.server.start()
        videos = [f"v{n}" for n in range(VIDEOS)]
        for n, video in enumerate(videos, start=1):
            await ground.say(job_id, n, video_id=video, error=f"{video} is bad.")
        await ground.say(job_id, 9, status="completed")
        errors: list[str | None] = []
        async for update in updates:
            errors += [update.video_id] if isinstance(update.error, str) and update.failed > len(errors) else []
            if update.status == "failed":
                break
    assert errors == videos


async def test_a_bad_token_is_tried_once_and_the_reason_is_raised(ground: Ground) -> None:
    async with asyncio.timeout(WAIT), ground.feed(token="no-token") as feed:
        with pytest.raises(FeedStopped, match="not signed in") as stopped:
            await anext(aiter(feed))
        assert stopped.value.code == 1008
        assert (feed.is_connected, feed.reconnecting, feed.ready_state) == (False, False, ReadyState.CLOSED)
        assert ground.line.connections == 1


async def test_feeds_of_one_process_share_one_connection_and_show_their_own_jobs(ground: Ground) -> None:
    first, second = await ground.make("first.csv"), await ground.make("second.csv")
    async with asyncio.timeout(WAIT), ground.feed() as everything, ground.feed() as chosen:
        chosen.monitor(second)
        await until_shown(everything, first)
        await until_shown(chosen, second)
        assert everything.job_progress.keys() == {first, second}
        assert chosen.job_progress.keys() == {second}
        chosen.unmonitor(second)
        assert not chosen.job_progress
        assert ground.line.connections == 1


async def cut_off(network: RealNetwork, job_id: str, *, after_steps: int) -> None:
    """Ask as many questions as a feed has at once, and let none of them come to its answer."""
    asked = [asyncio.create_task(network.history(job_id, after=0, limit=1)) for _ in range(4)]
    for _ in range(after_steps):
        await asyncio.sleep(0)
    for question in asked:
        question.cancel()
    await asyncio.gather(*asked, return_exceptions=True)


async def test_questions_that_were_cut_off_never_keep_a_later_one_from_its_answer(ground: Ground) -> None:
    """httpcore keeps places of its pool for connections whose opening was cancelled (its issue 1093)."""
    job_id = await ground.make()
    network = RealNetwork(Address.parse(ground.server.url)[0], ground.jwt)
    for steps in range(16):
        for _ in range(4):
            await cut_off(network, job_id, after_steps=steps)
        with suppress(HistoryUnreachable):  # the first one may find the pool full, and makes a new one
            await network.history(job_id, after=0, limit=1)
        assert await network.history(job_id, after=0, limit=1)
    await network.close()


async def test_a_job_that_was_deleted_leaves_the_feed(ground: Ground) -> None:
    job_id = await ground.make()
    async with asyncio.timeout(WAIT), ground.feed() as feed:
        await until_shown(feed, job_id)
        (await ground.http.post(f"/api/jobs/{job_id}/cancel")).raise_for_status()
        (await ground.http.delete(f"/api/jobs/{job_id}")).raise_for_status()
        while job_id in feed.job_progress:
            await feed.changed()


@dataclass
class Plain:
    """A server of the default format only: what it was asked, and what it heard."""

    port: int = 0
    paths: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)


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
    "of_later": True,
}


@asynccontextmanager
async def plain_server() -> AsyncIterator[Plain]:
    plain = Plain()

    async def meet(connection: ServerConnection) -> None:
        assert connection.request is not None
        plain.paths.append(connection.request.path)
        await connection.send(json.dumps(UPDATE))
        async for message in connection:
            plain.heard.append(str(message))
            await connection.send(json.dumps(UPDATE | {"seq": 8, "progress": 50}))

    async with serve(meet, "127.0.0.1", 0) as server:
        plain.port = next(iter(server.sockets)).getsockname()[1]
        yield plain


async def test_messages_wait_in_line_for_the_connection_and_the_default_format_will_do() -> None:
    async with (
        asyncio.timeout(WAIT),
        plain_server() as plain,
        ProgressFeed(f"ws://127.0.0.1:{plain.port}/api/ws/progress", token="secret", **QUICK) as feed,
    ):
        assert feed.ready_state is ReadyState.CONNECTING
        await feed.send_json({"type": "hello"})
        await until_shown(feed, "a", progress=50)
        assert plain.heard == ['{"type":"hello"}']
        assert "secret" not in plain.paths[0]
