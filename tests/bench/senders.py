"""Who makes the updates that are measured: posts over connections that stay open, and the program to post to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tests.support.servers import Program, add_user, running

ERROR = "The file ends too early: moov atom not found"
ROOMY: Mapping[str, Any] = {
    "max_connections_per_user": 10_000,
    "max_connections_per_address": 20_000,
    "max_requests_at_once": 20_000,
}


class Sender:
    """One HTTP connection that stays open: each request returns its body once it is answered, and has to succeed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, jwt: str) -> None:
        self._reader = reader
        self._writer = writer
        authority = f"Authorization: Bearer {jwt}\r\n" if jwt else ""
        self._head = f"Host: 127.0.0.1:{port}\r\n{authority}Content-Type: application/json\r\n"

    @classmethod
    async def connect(cls, port: int, jwt: str = "") -> Sender:
        return cls(*await asyncio.open_connection("127.0.0.1", port), port, jwt)

    async def post(self, path: str, body: object) -> bytes:
        """Send `body` as JSON."""
        return await self._ask("POST", path, msgspec.json.encode(body))

    async def get(self, path: str) -> bytes:
        return await self._ask("GET", path, b"")

    def close(self) -> None:
        self._writer.close()

    async def _ask(self, method: str, path: str, body: bytes) -> bytes:
        start = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(start.encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        answer = await self._reader.readexactly(length)
        assert head.split(b" ", 2)[1] in (b"200", b"201"), answer
        return answer


class ExternalJob:
    """A job that runs elsewhere, as its sender knows it: where to post, the next `n`, the next video."""

    def __init__(self, path: str, videos: int) -> None:
        self.path = path
        self._videos = iter(range(videos))
        self._n = 0

    def report(self, **fields: Any) -> dict[str, Any]:
        """The next report."""
        self._n += 1
        return {"n": self._n, **fields}

    def stamped(self) -> dict[str, Any]:
        """A report whose message is the moment it was made."""
        return self.report(message=str(time.perf_counter_ns()))

    def failures(self, count: int) -> list[dict[str, Any]]:
        """That many failed videos in one list, each of which is stored and sent for itself."""
        now = str(time.perf_counter_ns())
        return [self.report(video_id=f"video-{next(self._videos)}", error=ERROR, message=now) for _ in range(count)]


async def connect_senders(port: int, jwt: str, count: int) -> list[Sender]:
    """That many connections."""
    return [await Sender.connect(port, jwt) for _ in range(count)]


async def make_jobs(senders: Sequence[Sender], count: int, videos: int = 100) -> list[ExternalJob]:
    """New jobs that run elsewhere and have begun; each costs two kept updates."""
    order = {"processor": "external", "video_ids": [f"video-{number}" for number in range(videos)], "name": "bench"}

    async def make(sender: Sender, share: int) -> list[ExternalJob]:
        jobs = []
        for _ in range(share):
            made = msgspec.json.decode(await sender.post("/api/jobs", order))
            jobs.append(ExternalJob(f"/api/jobs/{made['job_id']}/progress", videos))
            await sender.post(jobs[-1].path, jobs[-1].report(status="processing"))
        return jobs

    places = range(len(senders))
    shares = await asyncio.gather(*(make(senders[place], len(range(place, count, len(senders)))) for place in places))
    return [job for share in shares for job in share]


async def at_rate(act: Callable[[], Awaitable[object]], *, every: float, seconds: float) -> int:
    """`act` again and again, each begun `every` seconds after the last began, or once it ended; how often it ran."""
    began, ran = time.monotonic(), 0
    while (now := time.monotonic()) < began + seconds:
        await act()
        ran += 1
        await asyncio.sleep(max(0.0, now + every - time.monotonic()))
    return ran


@contextmanager
def program(home: Path, *, port: int | None = None, **settings: Any) -> Iterator[tuple[Program, str]]:
    """The real program with room for many connections, and a user's token."""
    with running(home, port=port, python_path=None, **{**ROOMY, **settings}) as server:
        yield server, add_user(home, "bench")
