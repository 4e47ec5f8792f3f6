"""A thousand clients reconnect at once: `python -m tests.bench.herd [clients]`.

Half of the clients use `format=batch` and resume with `after=`, half the default format. 200 jobs change continuously.
Ten jobs finish just before the server is killed (-9), and leave the dashboard after three seconds, while few clients
are connected. The server starts again on its port; as soon as it is ready, jobs change for another second. Clients
retry after 0.25, 0.5, 1, then every 2 s, each delay multiplied by a random factor from 0.5 to 1.5.

A client is connected again at its first frame. It is exact when its jobs equal the answer of
`GET /api/jobs?dashboard=true` that was requested after the last change, at the earliest when it gets that answer;
clients of the default format, which receive no removals, may have more jobs. The event loop's lag is measured from
outside: the latency of `GET /healthz` over one connection, every 20 ms. The clients run on the same machine, in another
process (`python -m tests.bench.herd clients PORT PATH COUNT`). Times are in seconds since the server was ready again.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import uvloop

from progress_dashboard.protocol import ProgressUpdate
from tests import ROOT
from tests.bench.measure import allow_many_files, cpu_seconds, load, percentile
from tests.bench.senders import ROOMY, ExternalJob, Sender, at_rate, connect_senders, make_jobs, program
from tests.bench.watchers import BatchFrame, Connection, stdin_lines
from tests.support.servers import Program, free_port, running

CLIENTS = 1000
JOBS, FINISHED, SENDERS = 200, 10, 20
DELAYS = (0.25, 0.5, 1.0, 2.0)
REFUSALS = (1008, 1013)
LAG_SECONDS = 0.02
MAX_WAIT_SECONDS = 120.0
PERCENTILES = {"p50": 50, "p99": 99, "worst": 100}
ON_DASHBOARD = "/api/jobs?dashboard=true&limit=1000"
SETTINGS: Mapping[str, Any] = {"completed_job_ttl_seconds": 3, "cleanup_interval_seconds": 1}


class Page(msgspec.Struct):
    """The answer of `GET /api/jobs`, as updates."""

    items: list[ProgressUpdate]


class Client:
    """One client with its jobs."""

    def __init__(self, herd: Herd, port: int, path: str, *, batch: bool, rng: random.Random) -> None:
        self._herd = herd
        self._port = port
        self._path = path
        self._batch = batch
        self._rng = rng
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(BatchFrame if batch else ProgressUpdate)
        self._jobs: dict[str, ProgressUpdate] = {}
        self._position: int | None = None
        self._has_frame = False
        self.is_exact = False

    async def run(self) -> None:
        """Connect and receive, and reconnect after each end, until cancelled."""
        tries = 0
        while True:
            self._has_frame = False
            connection = await self._connect()
            if connection is not None:
                await connection.ended
                self._herd.count_refusal(connection)
            tries = 0 if self._has_frame else min(tries + 1, len(DELAYS) - 1)
            await asyncio.sleep(DELAYS[tries] * self._rng.uniform(0.5, 1.5))

    def compare(self, target: dict[str, ProgressUpdate]) -> None:
        """Notify the herd if its jobs have become the server's."""
        if self.is_exact or len(self._jobs) < len(target):
            return
        known = self._jobs if self._batch else {job_id: self._jobs.get(job_id) for job_id in target}
        if known == target:
            self.is_exact = True
            self._herd.add_exact()

    async def _connect(self) -> Connection | None:
        after = f"&format=batch{f'&after={self._position}' if self._position else ''}" if self._batch else ""
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._port, self._path + after, self._receive), "127.0.0.1", self._port
            )
        except OSError:  # no server listens at the moment
            return None
        await connection.opened
        return connection

    def _receive(self, payload: bytes, received_at: int) -> None:
        if not self._has_frame:
            self._has_frame = True
            self._herd.add_connected()
        message = self._decoder.decode(payload)
        if isinstance(message, BatchFrame):
            self._apply_batch(message)
        else:
            self._apply(message)
        if self._herd.target is not None:
            self.compare(self._herd.target)

    def _apply_batch(self, frame: BatchFrame) -> None:
        if frame.snapshot:
            self._jobs.clear()  # also before further parts, which are no snapshots themselves
        else:
            self._herd.out_of_step += frame.prev != self._position
        for update in frame.updates:
            self._apply(update)
        for job_id in frame.removed:
            self._jobs.pop(job_id, None)
        self._position = frame.seq

    def _apply(self, update: ProgressUpdate) -> None:
        known = self._jobs.get(update.job_id)
        if known is None or known.seq < update.seq:
            self._jobs[update.job_id] = update


class Herd:
    """All clients of this process, with the times when they were connected and exact."""

    def __init__(self, port: int, path: str, count: int) -> None:
        self.target: dict[str, ProgressUpdate] | None = None
        self.out_of_step = 0
        self._refused: Counter[str] = Counter()
        self._connected: list[float] = []
        self._exact: list[float] = []
        self._all_exact = asyncio.Event()
        self._clients = [
            Client(self, port, path, batch=number % 2 == 0, rng=random.Random(number)) for number in range(count)
        ]

    async def run(self) -> None:
        """Run all clients, and answer each line of stdin, a present dashboard, when all clients equal it."""
        tasks = [asyncio.create_task(client.run()) for client in self._clients]
        async for line in stdin_lines():
            self.expect(msgspec.json.decode(line, type=Page))
            await self._until_all_exact()
            print(msgspec.json.encode(self._report()).decode(), flush=True)
        for task in tasks:
            task.cancel()

    def expect(self, page: Page) -> None:
        """Compare the clients with this dashboard from now on."""
        self._exact.clear()
        self._all_exact.clear()
        self.target = {update.job_id: update for update in page.items}
        for client in self._clients:
            client.is_exact = False
            client.compare(self.target)

    def count_refusal(self, connection: Connection) -> None:
        """Count a connection that has ended, if the server refused it."""
        if connection.status not in (0, 101):
            self._refused[f"HTTP {connection.status}"] += 1
        elif connection.close_code in REFUSALS:
            self._refused[str(connection.close_code)] += 1

    def add_connected(self) -> None:
        """Record that a client is connected again."""
        self._connected.append(time.perf_counter())

    def add_exact(self) -> None:
        """Record that a client is exact."""
        self._exact.append(time.perf_counter())
        if len(self._exact) == len(self._clients):
            self._all_exact.set()

    async def _until_all_exact(self) -> None:
        with suppress(TimeoutError):  # the report shows how many are missing
            await asyncio.wait_for(self._all_exact.wait(), MAX_WAIT_SECONDS)

    def _report(self) -> dict[str, Any]:
        figures = {"connected": self._connected, "exact": self._exact, "refused": self._refused}
        return figures | {"out_of_step": self.out_of_step, "clients": len(self._clients)}


class Report(msgspec.Struct):
    """The report of the clients: times of `time.perf_counter()`, and refusals by their code."""

    connected: list[float]
    exact: list[float]
    refused: dict[str, int]
    out_of_step: int
    clients: int


class Clients:
    """The process of the clients, as the benchmark uses it; killed on exit."""

    def __init__(self, port: int, path: str, count: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.herd", "clients", str(port), path, str(count)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def until_exact(self, page: bytes) -> Report:
        """Wait until all clients have exactly this dashboard."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(page + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Report)


async def change_jobs(server: Program, jwt: str, jobs: Sequence[ExternalJob], seconds: float) -> None:
    """Report on all jobs again and again for this time."""
    senders = await connect_senders(server.port, jwt, SENDERS)

    async def report(sender: Sender, share: Sequence[ExternalJob]) -> None:
        for job in share:
            await sender.post(job.path, job.stamped())

    shares = [jobs[place::SENDERS] for place in range(SENDERS)]
    pairs = zip(senders, shares, strict=True)
    await asyncio.gather(*(at_rate(partial(report, *pair), every=0, seconds=seconds) for pair in pairs))


async def begin(server: Program, jwt: str, clients: Clients) -> list[ExternalJob]:
    """Create the jobs, wait until all clients have them, finish some; return the others."""
    jobs = await make_jobs(await connect_senders(server.port, jwt, SENDERS), JOBS)
    sender = await Sender.connect(server.port, jwt)
    await asyncio.to_thread(clients.until_exact, await sender.get(ON_DASHBOARD))
    await change_jobs(server, jwt, jobs, 1)
    senders = await connect_senders(server.port, jwt, FINISHED)
    posts = (sender.post(job.path, job.report(status="completed")) for sender, job in zip(senders, jobs, strict=False))
    await asyncio.gather(*posts)
    return jobs[FINISHED:]


async def reconnect(
    server: Program, jwt: str, jobs: Sequence[ExternalJob], clients: Clients
) -> tuple[Report, list[float]]:
    """Change the jobs for a second, wait until all clients are exact; return their report and the latencies in ms."""
    latencies: list[float] = []
    measuring = asyncio.create_task(measure_latency(server.port, latencies))
    await change_jobs(server, jwt, jobs, 1)
    report = await asyncio.to_thread(clients.until_exact, await settled_dashboard(server, jwt))
    measuring.cancel()
    with suppress(asyncio.CancelledError):
        await measuring
    return report, sorted(latencies)


async def settled_dashboard(server: Program, jwt: str) -> bytes:
    """Return the dashboard after the finished jobs have left it."""
    sender = await Sender.connect(server.port, jwt)
    while True:
        page = await sender.get(ON_DASHBOARD)
        if b'"completed"' not in page:
            return page
        await asyncio.sleep(0.1)


async def measure_latency(port: int, latencies: list[float]) -> None:
    """Request the server's health again and again, and append the latency of each answer in ms."""
    sender = await Sender.connect(port)
    while True:
        began = time.perf_counter()
        await sender.get("/healthz")
        latencies.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(LAG_SECONDS)


def show(report: Report, latencies: Sequence[float], *, killed_at: float, ready_at: float, cpu: float) -> None:
    """Print the results, in seconds since the server was ready again."""
    outage = f"server killed, and ready again after {ready_at - killed_at:.2f} s"
    print(f"{outage}; it used {cpu:.2f} s of CPU until all were exact")
    connected = sorted(moment - ready_at for moment in report.connected if moment > killed_at)
    exact = sorted(moment - ready_at for moment in report.exact)
    for what, moments in (("connected", connected), ("exact", exact)):
        times = ", ".join(f"{percent} % {percentile(moments, percent):.2f} s" for percent in (50, 99, 100))
        print(f"{what:10} {len(moments):5,} of {report.clients:,}: {times}")
    print(f"refused connections {report.refused or 0} (aim 0), frames out of step {report.out_of_step} (aim 0)")
    figures = ", ".join(f"{name} {percentile(latencies, p):.1f} ms" for name, p in PERCENTILES.items())
    print(f"GET /healthz, {len(latencies)} times: {figures}")


def main(count: int) -> None:
    """Kill the server under this number of clients, and print how they reconnect."""
    allow_many_files()
    print(load())
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        home, port = Path(temporary) / "data", free_port()
        server, jwt = stack.enter_context(program(home, port=port, **SETTINGS))
        clients = stack.enter_context(Clients(port, f"/api/ws/progress?token={jwt}", count))
        jobs = asyncio.run(begin(server, jwt, clients))
        server.kill()
        killed_at = time.perf_counter()
        restarted = stack.enter_context(running(home, port=port, python_path=None, **ROOMY, **SETTINGS))
        ready_at = time.perf_counter()
        report, latencies = asyncio.run(reconnect(restarted, jwt, jobs, clients))
        cpu = cpu_seconds(restarted.pid)
    show(report, latencies, killed_at=killed_at, ready_at=ready_at, cpu=cpu)


if __name__ == "__main__":
    if sys.argv[1:2] == ["clients"]:
        allow_many_files()
        uvloop.run(Herd(int(sys.argv[2]), sys.argv[3], int(sys.argv[4])).run())
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else CLIENTS)
