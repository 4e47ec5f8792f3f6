"""Many watchers of a progress socket in a process of their own.

`python -m tests.bench.watchers PORT PATH COUNT [batch]`: each connection is a bare protocol with its own parser of
frames, and every frame is parsed as JSON. An update whose `message` is a number was sent at that
`time.perf_counter_ns()`, a clock that all processes of the machine share. The process prints `{"ready": COUNT}`, then
answers each line on stdin with one on stdout: `count` (updates so far), `report` (all figures since the last report).
The line `stop` ends it. Linux and macOS: it runs on uvloop, which is fast enough for all measured servers.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
import subprocess
import sys
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

import msgspec
import uvloop
from websockets.utils import accept_key

from progress_dashboard.protocol import ProgressUpdate
from tests import ROOT
from tests.bench.measure import allow_many_files, percentile

CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
AT_ONCE = 50
SAMPLE = 1000
QUIET_SECONDS = 1.0
START_SECONDS = 60.0


class BatchFrame(msgspec.Struct):
    """A frame of `format=batch`."""

    prev: int
    seq: int
    snapshot: bool
    updates: list[ProgressUpdate]
    removed: list[str]
    more: bool = False


class FrameParser:
    """Turns bytes into messages: `(opcode, payload)`. It joins fragments; a server's frames have no mask."""

    def __init__(self) -> None:
        self._rest = b""
        self._parts: list[bytes] = []
        self._opcode = CONTINUED

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the messages that these bytes complete."""
        data, at = self._rest + data, 0
        while (bounds := _bounds(data, at)) is not None:
            first, (start, at) = data[at], bounds
            opcode, payload = first & 0x0F, data[start:at]
            if first & 0x80 and opcode != CONTINUED:
                yield opcode, payload
            else:
                yield from self._joined(first, payload)
        self._rest = data[at:]

    def _joined(self, first: int, payload: bytes) -> Iterator[tuple[int, bytes]]:
        self._opcode = first & 0x0F or self._opcode
        self._parts.append(payload)
        if first & 0x80:
            yield self._opcode, b"".join(self._parts)
            self._parts.clear()


class Connection(asyncio.Protocol):
    """One WebSocket client. It answers pings and the close frame, and calls `on_message(payload, received_at)`."""

    def __init__(self, port: int, path: str, on_message: Callable[[bytes, int], None]) -> None:
        self._port = port
        self._path = path
        self._on_message = on_message
        self._parser = FrameParser()
        self._head = b""
        self._key = base64.b64encode(os.urandom(16)).decode()
        self._transport: asyncio.Transport | None = None
        # HTTP status of the answer to the handshake; 0 if there was no answer.
        self.status = 0
        # Code of the close frame; 1006 if there was none.
        self.close_code = 1006
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class does not inherit from it
        self._transport.write(handshake(self._port, self._path, self._key))

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter_ns()
        if not self.opened.done():
            data = self._open(data)
        for opcode, payload in self._parser.feed(data):
            if opcode in (TEXT, BINARY):
                self._on_message(payload, now)
            elif opcode == PING:
                self._send(PONG, payload)
            elif opcode == CLOSE:
                self.close_code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                self._send(CLOSE, payload)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.opened, self.ended):
            if not future.done():
                future.set_result(None)

    def drop(self) -> None:
        """Abort the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _open(self, data: bytes) -> bytes:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            return b""
        self.status = int(head.split(b" ", 2)[1])
        if self.status == 101 and accept_key(self._key).encode() in head:
            self.opened.set_result(None)
            return rest
        self.drop()
        return b""

    def _send(self, opcode: int, payload: bytes) -> None:
        assert self._transport is not None
        # A mask of zeros leaves the payload as it is.
        self._transport.write(bytes((0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0)) + payload)


def handshake(port: int, path: str, key: str) -> bytes:
    """Return the request for a WebSocket."""
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    )
    return "\r\n".join((*lines, "", "")).encode()


def _bounds(data: bytes, at: int) -> tuple[int, int] | None:
    """Return the start and the end of the payload of the frame at `at`; None if the frame is incomplete."""
    if len(data) - at < 2:
        return None
    length, start = data[at + 1], at + 2
    if length >= 126:
        start += 2 if length == 126 else 8
        if len(data) < start:
            return None
        length = int.from_bytes(data[at + 2 : start])
    return (start, start + length) if len(data) >= start + length else None


class Tally:
    """Counts what all connections of this process have received since the last report."""

    def __init__(self, count: int, *, batch: bool) -> None:
        self._of = [0] * count
        self._decoder = msgspec.json.Decoder(BatchFrame) if batch else msgspec.json.Decoder(ProgressUpdate)
        self._clear()

    @property
    def updates(self) -> int:
        """The number of updates of all connections."""
        return sum(self._of)

    def add(self, number: int, payload: bytes, received_at: int) -> None:
        """Add a frame of the connection with this number."""
        message = self._decoder.decode(payload)
        updates = message.updates if isinstance(message, BatchFrame) else (message,)
        self._frames += 1
        self._bytes += len(payload)
        self._of[number] += len(updates)
        for update in updates:
            if update.message.isdecimal():
                self._latencies.append((received_at - int(update.message)) / 1e6)

    def report(self) -> dict[str, Any]:
        """Return all figures, and start the next report. Latencies (ms) are a sample, evenly spaced in their order."""
        ordered = sorted(self._latencies)
        step = max(1, len(ordered) // SAMPLE)
        figures = {
            "frames": self._frames,
            "updates": self.updates,
            "bytes": self._bytes,
            "fewest": min(self._of),
            "most": max(self._of),
            "latencies": ordered[step // 2 :: step],
            "worst": ordered[-1] if ordered else 0.0,
        }
        self._clear()
        return figures

    def _clear(self) -> None:
        self._of[:] = [0] * len(self._of)
        self._frames = self._bytes = 0
        self._latencies = array("d")


async def watch(port: int, path: str, count: int, *, batch: bool) -> None:
    """Open the connections, and answer the lines of stdin until `stop` or its end."""
    tally = Tally(count, batch=batch)
    limit = asyncio.Semaphore(AT_ONCE)
    loop = asyncio.get_running_loop()

    async def connected(number: int) -> Connection:
        def on_message(payload: bytes, received_at: int) -> None:
            tally.add(number, payload, received_at)

        async with limit, asyncio.timeout(START_SECONDS):
            _, connection = await loop.create_connection(lambda: Connection(port, path, on_message), "127.0.0.1", port)
            await connection.opened
        if connection.status != 101:
            raise SystemExit(f"watcher {number} was refused: HTTP {connection.status}")
        return connection

    connections = await asyncio.gather(*map(connected, range(count)))
    _print_json({"ready": count})
    async for command in stdin_lines():
        if command == "stop":
            return
        lost = [connection.close_code for connection in connections if connection.ended.done()]
        _print_json((tally.report() if command == "report" else {"updates": tally.updates}) | {"lost": lost})


async def stdin_lines() -> AsyncIterator[str]:
    """Yield the lines that the parent process sends."""
    reader = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().strip()


def _print_json(value: object) -> None:
    print(msgspec.json.encode(value).decode(), flush=True)


@dataclass
class Received:
    """The figures of what watchers received."""

    frames: int = 0
    updates: int = 0
    bytes: int = 0
    # Smallest and largest number of updates of one connection.
    fewest: int = sys.maxsize
    most: int = 0
    # Milliseconds, in ascending order.
    latencies: list[float] = field(default_factory=list)
    worst: float = 0.0
    # Close codes of the connections that have ended.
    lost: list[int] = field(default_factory=list)

    def __add__(self, other: Received) -> Received:
        return Received(
            self.frames + other.frames,
            self.updates + other.updates,
            self.bytes + other.bytes,
            min(self.fewest, other.fewest),
            max(self.most, other.most),
            sorted(self.latencies + other.latencies),
            max(self.worst, other.worst),
            self.lost + other.lost,
        )

    def latency(self, percent: float) -> float:
        """Return a percentile of the latencies, in ms."""
        return percentile(self.latencies, percent)


class Watchers:
    """Watcher processes, as the benchmark uses them: all are connected on entry and killed on exit."""

    def __init__(self, port: int, path: str, count: int, *, batch: bool = False, processes: int = 1) -> None:
        shares = [count // processes + (number < count % processes) for number in range(processes)]
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.bench.watchers", str(port), path, str(share), *(["batch"] * batch)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for share in shares
            if share
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            _line(process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def count(self) -> int:
        """Return the number of updates since the last report."""
        return self._request("count").updates

    def report(self) -> Received:
        """Return everything that was received since the last report."""
        return self._request("report")

    def settled(self, expected: int, seconds: float = 20) -> Received:
        """Return the report after `expected` updates, or when none has come for `QUIET_SECONDS`."""
        end, newest, since = time.monotonic() + seconds, -1, 0.0
        while (count := self.count()) < expected and time.monotonic() < end:
            if count != newest:
                newest, since = count, time.monotonic()
            elif time.monotonic() - since > QUIET_SECONDS:
                break
            time.sleep(0.02)
        return self.report()

    def _request(self, command: str) -> Received:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{command}\n")
            process.stdin.flush()
        return sum((msgspec.json.decode(_line(process), type=Received) for process in self._processes), Received())


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    if line := process.stdout.readline():
        return line
    raise AssertionError("a watcher process exited; its output is above")


def main(port: int, path: str, count: int, *, batch: bool) -> None:
    """Run the watchers of this process."""
    allow_many_files()
    uvloop.run(watch(port, path, count, batch=batch))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), batch="batch" in sys.argv[4:])
