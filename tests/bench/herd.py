"""A thousand clients come back at once: `python -m tests.bench.herd [clients]`.

Half of the clients use `format=batch` and resume with `after=`, half the default format. 200 jobs change all the time;
ten end just before the server is killed (-9), and leave the dashboard after three seconds, while few are connected. The
server starts again on its port; as soon as it is ready, jobs change for another second. Clients try again after 0.25,
0.5, 1, then every 2 s, each delay half to one and a half times as long by chance.

A client is connected again at its first frame. It is exact once its map of jobs equals the answer of
`GET /api/jobs?dashboard=true` asked for after the last change, and not before it is told that answer; clients of the
default format, which hear of no removals, may know more jobs. The event loop's lag is seen from outside: the latency
of `GET /healthz` over one connection, every 20 ms. The clients share the machine with the server, in another process
(`python -m tests.bench.herd clients PORT PATH COUNT`).
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
JOBS, ENDED, SENDERS = 200, 10, 20
DELAYS = (0.25, 0.5, 1.0, 2.0)
REFUSALS = (1008, 1013)
LAG_SECONDS = 0.02
LONGEST_SECONDS = 120.0
ON_DASHBOARD = "/api/jobs?dashboard=true&limit=1000"
SETTINGS: Mapping[str, Any] = {"completed_job_ttl_seconds": 3, "cleanup_interval_seconds": 1}


class Page(msgspec.Struct):
    """The answer of `GET /api/jobs`, as far as updates go."""

    items: list[ProgressUpdate]


class Client:
    """One client: what it knows, and how often it was refused."""

    def __init__(self, herd: Herd, port: int, path: str, *, batch: bool, chance: random.Random) -> None:
        self._herd = herd
        self._port = port
        self._path = path
        self._batch = batch
        self._chance = chance
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(BatchFrame if batch else ProgressUpdate)
        self._jobs: dict[str, ProgressUpdate] = {}
        self._position: int | None = None
        self._began = False
        self.is_back = False

    async def run(self) -> None:
        """Connect, hear, and come again, for ever."""
        tries = 0
        while True:
            self._began = False
            connection = await self._connected()
            if connection is not None:
                await connection.ended
                self._herd.note(connection)
            tries = 0 if self._began else min(tries + 1, len(DELAYS) - 1)
            await asyncio.sleep(DELAYS[tries] * self._chance.uniform(0.5, 1.5))

    def compare(self, target: dict[str, ProgressUpdate]) -> None:
        """Note the moment when what it knows is the server's state."""
        if self.is_back or len(self._jobs) < len(target):
            return
        known = self._jobs if self._batch else {job_id: self._jobs.get(job_id) for job_id in target}
        if known == target:
            self.is_back = True
            self._herd.came_back()

    async def _connected(self) -> Connection | None:
        after = f"&format=batch{f'&after={self._position}' if self._position else ''}" if self._batch else ""
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._port, self._path + after, self._heard), "127.0.0.1", self._port
            )
        except OSError:  # nobody listens at the moment
            return None
        await connection.opened
        return connection

    def _heard(self, payload: bytes, now: int) -> None:
        if not self._began:
            self._began = True
            self._herd.connected()
        said = self._decoder.decode(payload)
        if isinstance(said, BatchFrame):
            self._take(said)
        else:
            self._keep(said)
        if self._herd.target is not None:
            self.compare(self._herd.target)

    def _take(self, frame: BatchFrame) -> None:
        if frame.snapshot:
            self._jobs.clear()  # also where parts follow: they are no snapshots themselves
        else:
            self._herd.out_of_step += frame.prev != self._position
        for update in frame.updates:
            self._keep(update)
        for job_id in frame.removed:
            self._jobs.pop(job_id, None)
        self._position = frame.seq

    def _keep(self, update: ProgressUpdate) -> None:
        known = self._jobs.get(update.job_id)
        if known is None or known.seq < update.seq:
            self._jobs[update.job_id] = update


class Herd:
    """All clients of this process, and what became of them."""

    def __init__(self, port: int, path: str, count: int) -> None:
        self.target: dict[str, ProgressUpdate] | None = None
        self.out_of_step = 0
        self._refused: Counter[str] = Counter()
        self._connected: list[float] = []
        self._back: list[float] = []
        self._complete = asyncio.Event()
        self._clients = [
            Client(self, port, path, batch=number % 2 == 0, chance=random.Random(number)) for number in range(count)
        ]

    async def run(self) -> None:
        """Let them go, and answer stdin: each line is the dashboard as the server has it now, to be reached."""
        tasks = [asyncio.create_task(client.run()) for client in self._clients]
        async for line in stdin_lines():
            self.expect(msgspec.json.decode(line, type=Page))
            await self._all_back()
            print(msgspec.json.encode(self._report()).decode(), flush=True)
        for task in tasks:
            task.cancel()

    def expect(self, page: Page) -> None:
        """From now on clients are measured against this."""
        self._back.clear()
        self._complete.clear()
        self.target = {update.job_id: update for update in page.items}
        for client in self._clients:
            client.is_back = False
            client.compare(self.target)

    def note(self, connection: Connection) -> None:
        """A connection ended; a refused sign-in is counted."""
        if connection.status not in (0, 101):
            self._refused[f"HTTP {connection.status}"] += 1
        elif connection.close_code in REFUSALS:
            self._refused[str(connection.close_code)] += 1

    def connected(self) -> None:
        self._connected.append(time.perf_counter())

    def came_back(self) -> None:
        self._back.append(time.perf_counter())
        if len(self._back) == len(self._clients):
            self._complete.set()

    async def _all_back(self) -> None:
        with suppress(TimeoutError):  # the report says how many are missing
            await asyncio.wait_for(self._complete.wait(), LONGEST_SECONDS)

    def _report(self) -> dict[str, Any]:
        figures = {"connected": self._connected, "back": self._back, "refused": self._refused}
        return figures | {"out_of_step": self.out_of_step, "clients": len(self._clients)}


class Return(msgspec.Struct):
    """How the clients came back: moments of `time.perf_counter()`, refusals by their code."""

    connected: list[float]
    back: list[float]
    refused: dict[str, int]
    out_of_step: int
    clients: int


class Clients:
    """The herd's process, seen from the benchmark; ended on exit."""

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

    def reach(self, page: bytes) -> Return:
        """Wait until all clients know exactly this."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(page + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Return)


async def change(server: Program, jwt: str, jobs: Sequence[ExternalJob], seconds: float) -> None:
    """Have all jobs change for so long."""
    senders = await connect_senders(server.port, jwt, SENDERS)

    async def report(sender: Sender, share: Sequence[ExternalJob]) -> None:
        for job in share:
            await sender.post(job.path, job.stamped())

    shares = [jobs[place::SENDERS] for place in range(SENDERS)]
    pairs = zip(senders, shares, strict=True)
    await asyncio.gather(*(at_rate(partial(report, *pair), every=0, seconds=seconds) for pair in pairs))


async def begin(server: Program, jwt: str, clients: Clients) -> list[ExternalJob]:
    """Jobs at work, clients that know them, some jobs that have just ended; returns those that go on."""
    jobs = await make_jobs(await connect_senders(server.port, jwt, SENDERS), JOBS)
    sender = await Sender.connect(server.port, jwt)
    await asyncio.to_thread(clients.reach, await sender.get(ON_DASHBOARD))
    await change(server, jwt, jobs, 1)
    senders = await connect_senders(server.port, jwt, ENDED)
    ends = (sender.post(job.path, job.report(status="completed")) for sender, job in zip(senders, jobs, strict=False))
    await asyncio.gather(*ends)
    return jobs[ENDED:]


async def come_back(
    server: Program, jwt: str, jobs: Sequence[ExternalJob], clients: Clients
) -> tuple[Return, list[float]]:
    """Jobs go on changing, clients return; when all are exact: how that was, and the latencies of `/healthz` (ms)."""
    lags: list[float] = []
    watching = asyncio.create_task(watch_lag(server.port, lags))
    await change(server, jwt, jobs, 1)
    returned = await asyncio.to_thread(clients.reach, await settled_dashboard(server, jwt))
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    return returned, sorted(lags)


async def settled_dashboard(server: Program, jwt: str) -> bytes:
    """The dashboard once the jobs that ended have left it."""
    sender = await Sender.connect(server.port, jwt)
    while True:
        page = await sender.get(ON_DASHBOARD)
        if b'"completed"' not in page:
            return page
        await asyncio.sleep(0.1)


async def watch_lag(port: int, lags: list[float]) -> None:
    """Ask for the server's health again and again; adds the latency of each answer in ms."""
    sender = await Sender.connect(port)
    while True:
        began = time.perf_counter()
        await sender.get("/healthz")
        lags.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(LAG_SECONDS)


def show(returned: Return, lags: Sequence[float], *, killed: float, ready: float, cpu: float) -> None:
    """Print what came out; seconds count from the moment when the server was ready again."""
    print(
        f"server killed, and ready again after {ready - killed:.2f} s; it used {cpu:.2f} s of CPU until all were exact"
    )
    again = sorted(moment - ready for moment in returned.connected if moment > killed)
    exact = sorted(moment - ready for moment in returned.back)
    for what, moments in (("connected", again), ("exact", exact)):
        times = ", ".join(f"{percent} % {percentile(moments, percent):.2f} s" for percent in (50, 99, 100))
        print(f"{what:10} {len(moments):5,} of {returned.clients:,}: {times}")
    print(f"refused sign-ins {returned.refused or 0} (aim 0), frames out of step {returned.out_of_step} (aim 0)")
    print(
        f"GET /healthz, {len(lags)} times: p50 {percentile(lags, 50):.1f} ms, p99 {percentile(lags, 99):.1f} ms, "
        f"worst {percentile(lags, 100):.1f} ms"
    )


def main(count: int) -> None:
    allow_many_files()
    print(load())
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        home, port = Path(temporary) / "data", free_port()
        server, jwt = stack.enter_context(program(home, port=port, **SETTINGS))
        clients = stack.enter_context(Clients(port, f"/api/ws/progress?token={jwt}", count))
        jobs = asyncio.run(begin(server, jwt, clients))
        server.kill()
        killed = time.perf_counter()
        restarted = stack.enter_context(running(home, port=port, python_path=None, **ROOMY, **SETTINGS))
        ready = time.perf_counter()
        returned, lags = asyncio.run(come_back(restarted, jwt, jobs, clients))
        cpu = cpu_seconds(restarted.pid)
    show(returned, lags, killed=killed, ready=ready, cpu=cpu)


if __name__ == "__main__":
    if sys.argv[1:2] == ["clients"]:
        allow_many_files()
        uvloop.run(Herd(int(sys.argv[2]), sys.argv[3], int(sys.argv[4])).run())
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else CLIENTS)
