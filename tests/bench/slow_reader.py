"""What readers that never read cost everybody else: `python -m tests.bench.slow_reader [minutes of traffic]`.

The traffic: 100 updates a second, all of them failed videos, so that each has to be stored and sent for itself. Ten
minutes of it (60,000 updates, some 25 MB for each reader) are sent ten times as fast. Twice: with ten healthy watchers
alone, and with 50 more that never read, whose receive buffers are small. The server gives such a reader up after 15 s;
each opens another connection every 17 s and keeps the old one open, unread, to the end.
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
from tests.bench.watchers import Heard, Watchers, handshake

MINUTES = 10.0
UPDATES_A_SECOND = 100
COMPRESSION = 10
AT_ONCE = 50
SENDERS = 4
HEALTHY, SLOW = 10, 50
AGAIN_SECONDS = 17.0
RECEIVE_BYTES = 4096
GONE_SECONDS = 5.0
EVERY_SECONDS = SENDERS * AT_ONCE / (UPDATES_A_SECOND * COMPRESSION)
WIDTHS = (24, 9, 10, 10, 10, 9, 9, 8, 12)


@dataclass(frozen=True)
class Run:
    """What one run showed: the server's memory over time (MiB), its CPU time, what the healthy watchers heard."""

    sent: int
    seconds: float
    memory: list[float]
    cpu: float
    heard: Heard

    @property
    def all_heard(self) -> bool:
        return self.heard.fewest == self.heard.most == self.sent


class SlowReaders:
    """Sockets that shake hands and are never read; `opened` of them so far."""

    def __init__(self, port: int, path: str, count: int) -> None:
        self._port = port
        self._request = handshake(port, path, base64.b64encode(os.urandom(16)).decode())
        self._count = count
        self._sockets: list[socket.socket] = []
        self._ended = threading.Event()

    @property
    def opened(self) -> int:
        return len(self._sockets)

    @contextmanager
    def about(self) -> Iterator[SlowReaders]:
        """They come, and come again, while the block runs."""
        thread = threading.Thread(target=self._come_again)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()

    def given_up(self) -> int:
        """How many the server ended: what is left of each is read to its end, if it has one. Closes all."""
        return sum(map(_has_end, self._sockets))

    def _come_again(self) -> None:
        while True:
            for _ in range(self._count):
                self._sockets.append(self._connected())
            if self._ended.wait(AGAIN_SECONDS):
                return

    def _connected(self) -> socket.socket:
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        slow.connect(("127.0.0.1", self._port))
        slow.sendall(self._request)
        return slow


def _has_end(slow: socket.socket) -> bool:
    slow.settimeout(GONE_SECONDS)
    with slow:
        try:
            while slow.recv(2**20):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass  # cut off, which is an end too
        return True


async def jobs_for(port: int, jwt: str, seconds: float) -> list[ExternalJob]:
    """A job for each sender, with more videos than can fail in so many seconds."""
    videos = int(seconds / EVERY_SECONDS + 2) * AT_ONCE
    return await make_jobs(await connect_senders(port, jwt, SENDERS), SENDERS, videos)


async def send(port: int, jwt: str, jobs: Sequence[ExternalJob], seconds: float) -> int:
    """The traffic; returns how many updates it had."""

    async def fail_some(sender: Sender, job: ExternalJob) -> None:
        await sender.post(job.path, job.failures(AT_ONCE))

    senders = await connect_senders(port, jwt, SENDERS)
    pairs = zip(senders, jobs, strict=True)
    ran = await asyncio.gather(
        *(at_rate(partial(fail_some, *pair), every=EVERY_SECONDS, seconds=seconds) for pair in pairs)
    )
    return sum(ran) * AT_ONCE


@contextmanager
def memory_of(pid: int) -> Iterator[list[float]]:
    """The process's memory, looked at every second."""
    seen, ended = [memory_mib(pid)], threading.Event()

    def look() -> None:
        while not ended.wait(1):
            seen.append(memory_mib(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def run(slow_readers: int, seconds: float) -> Run:
    """The traffic over a fresh server, with so many slow readers beside the healthy watchers."""
    with tempfile.TemporaryDirectory() as home, program(Path(home)) as (server, jwt):
        jobs = asyncio.run(jobs_for(server.port, jwt, seconds))
        path = f"/api/ws/progress?token={jwt}"
        slow = SlowReaders(server.port, path, slow_readers)
        with Watchers(server.port, path, HEALTHY) as watchers, slow.about(), memory_of(server.pid) as memory:
            watchers.settled(len(jobs) * HEALTHY)  # what each is told on opening
            cpu, began = cpu_seconds(server.pid), time.monotonic()
            sent = asyncio.run(send(server.port, jwt, jobs, seconds))
            took, cpu = time.monotonic() - began, cpu_seconds(server.pid) - cpu
            heard = watchers.settled(sent * HEALTHY)
        if slow_readers:
            time.sleep(AGAIN_SECONDS)  # until the last ones were given up too
            print(f"{slow.opened} slow connections in all, {slow.given_up()} of them ended by the server")
        return Run(sent, took, memory, cpu, heard)


def show(name: str, shown: Run) -> None:
    row(
        name,
        f"{shown.sent:,}",
        f"{shown.memory[0]:.0f}",
        f"{sorted(shown.memory)[len(shown.memory) // 2]:.0f}",
        f"{max(shown.memory):.0f}",
        f"{shown.heard.latency(50):.1f}",
        f"{shown.heard.latency(99):.1f}",
        f"{100 * shown.cpu / shown.seconds:.0f}",
        "yes" if shown.all_heard else f"NO: {shown.heard.fewest}-{shown.heard.most}",
        widths=WIDTHS,
    )


def main(minutes: float) -> None:
    allow_many_files()
    print(load())
    print(f"{minutes:g} minutes of {UPDATES_A_SECOND} updates a second, sent {COMPRESSION} x as fast")
    seconds = minutes * 60 / COMPRESSION
    alone = run(0, seconds)
    beside = run(SLOW, seconds)
    row("", "updates", "MiB begin", "MiB median", "MiB peak", "p50 ms", "p99 ms", "CPU %", "all heard", widths=WIDTHS)
    show(f"{HEALTHY} healthy alone", alone)
    show(f"and {SLOW} that never read", beside)
    more = (max(beside.memory) - beside.memory[0]) - (max(alone.memory) - alone.memory[0])
    queued = alone.heard.bytes / HEALTHY * SLOW / 2**20
    print(f"memory for the slow readers: {more:+.0f} MiB, {more * 1024 / SLOW:+.0f} KiB each", end="; ")
    print(f"a queue for each would have held {queued:,.0f} MiB")
    print("MiB every 5 s, with slow readers:", *(f"{mib:.0f}" for mib in beside.memory[::5]))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES)
