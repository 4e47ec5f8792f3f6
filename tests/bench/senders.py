"""Senders of the measured updates: they post over persistent connections to the real program."""

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
    """One persistent HTTP connection. Each request returns the body of its answer, and must succeed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, jwt: str) -> None:
        self._reader = reader
        self._writer = writer
        self._port = port
        authority = f"Authorization: Bearer {jwt}\r\n" if jwt else ""
        self._head = f"Host: 127.0.0.1:{port}\r\n{authority}Content-Type: application/json\r\n"

    @classmethod
    async def connect(cls, port: int, jwt: str = "") -> Sender:
        """Open a connection to this port, with this token in each request."""
        return cls(*await asyncio.open_connection("127.0.0.1", port), port, jwt)

    async def post(self, path: str, body: object) -> bytes:
        """Post `body` as JSON."""
        return await self._request("POST", path, msgspec.json.encode(body))

    async def get(self, path: str) -> bytes:
        return await self._request("GET", path, b"")

    async def reopen(self) -> None:
        """Connect again: a server closes a connection that is silent for long."""
        self.close()
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def _request(self, method: str, path: str, body: bytes) -> bytes:
        start = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(start.encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        answer = await self._reader.readexactly(length)
        assert head.split(b" ", 2)[1] in (b"200", b"201"), answer
        return answer


class ExternalJob:
    """An external job with the state of its sender: the path of its reports, the next `n`, the next video."""

    def __init__(self, path: str, videos: int) -> None:
        self.path = path
        self._total = videos
        self._at = -1
        self._n = 0

    def report(self, **fields: Any) -> dict[str, Any]:
        """Return the next report."""
        self._n += 1
        return {"n": self._n, **fields}

    def stamped(self) -> dict[str, Any]:
        """Return the next report, with the time when it was made (`time.perf_counter_ns()`) as its message."""
        return self.report(message=str(time.perf_counter_ns()))

    def next_video(self) -> str:
        """Return the next video's ID, and the last one again after the end of the list."""
        self._at = min(self._at + 1, self._total - 1)
        return f"video-{self._at}"

    def failures(self, count: int) -> list[dict[str, Any]]:
        """Return reports of this number of failed videos; the server stores and sends each of them."""
        now = str(time.perf_counter_ns())
        return [self.report(video_id=self.next_video(), error=ERROR, message=now) for _ in range(count)]


async def connect_senders(port: int, jwt: str, count: int) -> list[Sender]:
    """Open this number of connections."""
    return [await Sender.connect(port, jwt) for _ in range(count)]


async def make_jobs(senders: Sequence[Sender], count: int, videos: int = 100) -> list[ExternalJob]:
    """Return new external jobs that have started. Each of them causes two lossless updates."""
    order = {"processor": "external", "video_ids": [f"video-{number}" for number in range(videos)], "name": "bench"}

    async def make(sender: Sender, share: int) -> list[ExternalJob]:
        jobs = []
        for _ in range(share):
            answer = msgspec.json.decode(await sender.post("/api/jobs", order))
            jobs.append(ExternalJob(f"/api/jobs/{answer['job_id']}/progress", videos))
            await sender.post(jobs[-1].path, jobs[-1].report(status="processing"))
        return jobs

    places = range(len(senders))
    shares = await asyncio.gather(*(make(senders[place], len(range(place, count, len(senders)))) for place in places))
    return [job for share in shares for job in share]


async def at_rate(act: Callable[[], Awaitable[object]], *, every: float, seconds: float) -> int:
    """Call `act` once in `every` seconds, later if the call before still runs; return the number of calls."""
    began, calls = time.monotonic(), 0
    while (now := time.monotonic()) < began + seconds:
        await act()
        calls += 1
        await asyncio.sleep(max(0.0, now + every - time.monotonic()))
    return calls


@contextmanager
def program(home: Path, *, port: int | None = None, **settings: Any) -> Iterator[tuple[Program, str]]:
    """Run the real program with room for many connections, and yield it with a user's token."""
    with running(home, port=port, python_path=None, **{**ROOMY, **settings}) as server:
        yield server, add_user(home, "bench")
