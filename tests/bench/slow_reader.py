"""The cost of clients that never read: `python -m tests.bench.slow_reader [minutes of traffic]`.

The traffic is 100 updates a second, all of them failed videos, so that the server must store and send each of them. Ten
minutes of it (60,000 updates, some 25 MB for each client) are sent ten times as fast. This happens twice: with only ten
healthy watchers, and with 50 more clients that never read and have small receive buffers. The server disconnects such
a client after 15 s; each of them opens another connection every 17 s, and keeps the old one open, unread, to the end.

"MiB": memory of the server's process, measured every second. "p50 ms", "p99 ms": from the report to a healthy watcher.
"CPU %": of a core, by the server's process. "all received": every healthy watcher received every update.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.measure import allow_many_files, cpu_seconds, load, memory_mib, row
from tests.bench.senders import ExternalJob, Sender, at_rate, connect_senders, make_jobs, program
from tests.bench.watchers import Received, Watchers, handshake

MINUTES = 10.0
UPDATES_PER_SECOND = 100
SPEED = 10
UPDATES_PER_POST = 50
SENDERS = 4
HEALTHY, SLOW = 10, 50
RECONNECT_SECONDS = 17.0
RECEIVE_BYTES = 4096
READ_SECONDS = 5.0
POST_SECONDS = SENDERS * UPDATES_PER_POST / (UPDATES_PER_SECOND * SPEED)
WIDTHS = (24, 9, 10, 10, 10, 9, 9, 8, 12)


@dataclass(frozen=True)
class Run:
    """The results of one run: the server's memory over time (MiB), its CPU time, and what the watchers received."""

    sent: int
    seconds: float
    memory: list[float]
    cpu: float
    received: Received

    @property
    def all_received(self) -> bool:
        """True if each healthy watcher received each update."""
        return self.received.fewest == self.received.most == self.sent


class SlowReaders:
    """Sockets that are opened and never read."""

    def __init__(self, port: int, path: str, count: int) -> None:
        self._port = port
        self._request = handshake(port, path, base64.b64encode(os.urandom(16)).decode())
        self._count = count
        self._sockets: list[socket.socket] = []
        self._is_over = threading.Event()

    @property
    def opened(self) -> int:
        """The number of sockets so far."""
        return len(self._sockets)

    @contextmanager
    def reconnecting(self) -> Iterator[SlowReaders]:
        """Open `count` sockets again and again while the block runs."""
        thread = threading.Thread(target=self._keep_opening)
        thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            thread.join()

    def disconnected(self) -> int:
        """Return the number of sockets that the server has closed. Reads and closes all sockets."""
        return sum(map(_has_end, self._sockets))

    def _keep_opening(self) -> None:
        while True:
            for _ in range(self._count):
                self._sockets.append(self._connect())
            if self._is_over.wait(RECONNECT_SECONDS):
                return

    def _connect(self) -> socket.socket:
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        slow.connect(("127.0.0.1", self._port))
        slow.sendall(self._request)
        return slow


def _has_end(slow: socket.socket) -> bool:
    slow.settimeout(READ_SECONDS)
    with slow:
        try:
            while slow.recv(2**20):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass  # a reset, which is an end as well
        return True


async def jobs_for(port: int, jwt: str, seconds: float) -> list[ExternalJob]:
    """Return a job for each sender, with more videos than can fail in this time."""
    videos = int(seconds / POST_SECONDS + 2) * UPDATES_PER_POST
    return await make_jobs(await connect_senders(port, jwt, SENDERS), SENDERS, videos)


async def send(port: int, jwt: str, jobs: Sequence[ExternalJob], seconds: float) -> int:
    """Send the traffic; return the number of its updates."""

    async def fail_some(sender: Sender, job: ExternalJob) -> None:
        await sender.post(job.path, job.failures(UPDATES_PER_POST))

    senders = await connect_senders(port, jwt, SENDERS)
    pairs = zip(senders, jobs, strict=True)
    posts = await asyncio.gather(
        *(at_rate(partial(fail_some, *pair), every=POST_SECONDS, seconds=seconds) for pair in pairs)
    )
    return sum(posts) * UPDATES_PER_POST


@contextmanager
def memory_of(pid: int) -> Iterator[list[float]]:
    """Measure the memory of a process every second while the block runs; yield the growing list."""
    measured, is_over = [memory_mib(pid)], threading.Event()

    def keep_measuring() -> None:
        while not is_over.wait(1):
            measured.append(memory_mib(pid))

    thread = threading.Thread(target=keep_measuring)
    thread.start()
    try:
        yield measured
    finally:
        is_over.set()
        thread.join()


def run(slow_readers: int, seconds: float) -> Run:
    """Send the traffic over a new server, with this number of slow readers besides the healthy watchers."""
    with tempfile.TemporaryDirectory() as home, program(Path(home)) as (server, jwt):
        jobs = asyncio.run(jobs_for(server.port, jwt, seconds))
        path = f"/api/ws/progress?token={jwt}"
        slow = SlowReaders(server.port, path, slow_readers)
        with Watchers(server.port, path, HEALTHY) as watchers, slow.reconnecting(), memory_of(server.pid) as memory:
            watchers.settled(len(jobs) * HEALTHY)  # the snapshot that each watcher receives
            cpu, began = cpu_seconds(server.pid), time.monotonic()
            sent = asyncio.run(send(server.port, jwt, jobs, seconds))
            took, cpu = time.monotonic() - began, cpu_seconds(server.pid) - cpu
            received = watchers.settled(sent * HEALTHY)
        if slow_readers:
            time.sleep(RECONNECT_SECONDS)  # the server disconnects the last ones meanwhile
            print(f"{slow.opened} slow connections in total, {slow.disconnected()} of them ended by the server")
        return Run(sent, took, memory, cpu, received)


def show(name: str, shown: Run) -> None:
    """Print a line of the table."""
    row(
        name,
        f"{shown.sent:,}",
        f"{shown.memory[0]:.0f}",
        f"{sorted(shown.memory)[len(shown.memory) // 2]:.0f}",
        f"{max(shown.memory):.0f}",
        f"{shown.received.latency(50):.1f}",
        f"{shown.received.latency(99):.1f}",
        f"{100 * shown.cpu / shown.seconds:.0f}",
        "yes" if shown.all_received else f"NO: {shown.received.fewest}-{shown.received.most}",
        widths=WIDTHS,
    )


def main(minutes: float) -> None:
    """Measure without and with the slow readers."""
    allow_many_files()
    print(load())
    print(f"{minutes:g} minutes of {UPDATES_PER_SECOND} updates a second, sent {SPEED} x as fast")
    seconds = minutes * 60 / SPEED
    alone = run(0, seconds)
    together = run(SLOW, seconds)
    row(
        "", "updates", "MiB begin", "MiB median", "MiB peak", "p50 ms", "p99 ms", "CPU %", "all received", widths=WIDTHS
    )
    show(f"{HEALTHY} healthy alone", alone)
    show(f"and {SLOW} that never read", together)
    more = (max(together.memory) - together.memory[0]) - (max(alone.memory) - alone.memory[0])
    queued = alone.received.bytes / HEALTHY * SLOW / 2**20
    print(f"memory for the slow readers: {more:+.0f} MiB, {more * 1024 / SLOW:+.0f} KiB each", end="; ")
    print(f"a queue for each of them would have needed {queued:,.0f} MiB")
    print("MiB every 5 s, with slow readers:", *(f"{mib:.0f}" for mib in together.memory[::5]))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES)
