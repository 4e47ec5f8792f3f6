"""The cost of a watcher: `python -m tests.bench.fanout [WATCHERS…] [--processes N] [--seconds S] [--repeats N]`.

Watchers of the default format in other processes parse every frame. The product is compared with
`websockets.broadcast()` and with a plain FastAPI `send_json` loop (tests/bench/references.py) in the same run, cell by
cell in turn; figures are medians of the repeats. Every server gets the same trigger: a POST with one report, or with a
list of 20 failed videos, which causes 20 frames for each watcher. The product checks the token, commits to its
database, sends, and answers; the references only send and answer. "steady" leaves the server idle time; "full" keeps
up to 64 posts in flight.

"per CPU s": updates delivered per second of the server process's whole CPU time. "fan-out": the same without the cost
of such triggers when there are no watchers (measured first), so it compares only the sending (nan: the sending is less
than a quarter of the CPU time, too little to separate). "p50 ms", "p99 ms": from the post to the watcher.
Then `format=batch`: 1,000 jobs, each reported once a second over 64 connections, or as often as the route accepts.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import nan
from pathlib import Path
from statistics import median

from tests.bench.measure import allow_many_files, cpu_seconds, load, memory_mib, row
from tests.bench.references import reference
from tests.bench.senders import ExternalJob, Sender, at_rate, connect_senders, make_jobs, program
from tests.bench.watchers import Received, Watchers

MANY_SENDERS, LIST_SENDERS = 64, 16
MANY_UPDATES = 20
LISTS_PER_SECOND = 25  # more than one sender can post, at one list per tick
MAX_DELIVERIES_IN_FLIGHT = 64_000
MIN_SHARE = 0.25
STEADY_DELIVERIES = 20_000  # a second
WIDTHS = (18, 9, 12, 12, 12, 8, 8, 8)
AIMS = {"broadcast": 1.0, "send_json loop": 2.5}
BATCH_JOBS = 1000


@dataclass(frozen=True)
class Target:
    """A server under measurement: its process, its port for triggers, the address for its watchers."""

    name: str
    pid: int
    port: int
    jwt: str
    watch_port: int
    watch_path: str

    @property
    def is_product(self) -> bool:
        return bool(self.jwt)


@dataclass(frozen=True)
class Traffic:
    """A pattern of triggers: `senders` each post a trigger of `updates` updates every `every` seconds (0: at once)."""

    updates: int
    senders: int
    every: float

    @classmethod
    def steady(cls, updates: int, watchers: int) -> Traffic:
        """Return ten triggers a second, or fewer to keep below 20,000 deliveries a second."""
        return cls(updates, 1, max(0.1, updates * watchers / STEADY_DELIVERIES))

    @classmethod
    def full(cls, updates: int, watchers: int) -> Traffic:
        """Return as many triggers as the server accepts."""
        senders = MANY_SENDERS if updates == 1 else LIST_SENDERS
        return cls(updates, min(senders, max(1, MAX_DELIVERIES_IN_FLIGHT // max(1, watchers * updates))), 0)

    def __str__(self) -> str:
        pace = "full" if self.every == 0 else f"steady, {1 / self.every:g} posts/s"
        return f"{self.updates} update{'s' * (self.updates > 1)} per post, {pace}"


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    triggers: int
    seconds: float
    cpu: float
    received: Received

    def per_cpu_second(self, cost_of_trigger: float = 0.0) -> float:
        """Return the delivered updates per CPU second without the cost of the triggers; NaN if too little is left."""
        rest = self.cpu - self.triggers * cost_of_trigger
        return self.received.updates / rest if rest > MIN_SHARE * self.cpu else nan


async def measure(
    target: Target, traffic: Traffic, jobs: Sequence[ExternalJob], watchers: Watchers, count: int, seconds: float
) -> Cell:
    """Post for this time, then wait until all updates have arrived."""
    senders = await connect_senders(target.port, target.jwt, traffic.senders)
    watchers.report()
    cpu, began = cpu_seconds(target.pid), time.monotonic()

    async def post(sender: Sender, job: ExternalJob) -> None:
        await sender.post(job.path, job.stamped() if traffic.updates == 1 else job.failures(traffic.updates))

    triggers = sum(
        await asyncio.gather(
            *(
                at_rate(partial(post, sender, job), every=traffic.every, seconds=seconds)
                for sender, job in zip(senders, jobs, strict=False)
            )
        )
    )
    received = watchers.settled(triggers * traffic.updates * count)
    cell = Cell(triggers, time.monotonic() - began, cpu_seconds(target.pid) - cpu, received)
    for sender in senders:
        sender.close()
    return cell


async def jobs_of(target: Target, videos: int) -> dict[int, list[ExternalJob]]:
    """Return a job for each sender, by the number of updates per post; `videos` of each list job can fail."""
    if not target.is_product:
        job = ExternalJob("/progress", sys.maxsize)
        return {1: [job] * MANY_SENDERS, MANY_UPDATES: [job] * LIST_SENDERS}
    senders = await connect_senders(target.port, target.jwt, LIST_SENDERS)
    return {
        1: await make_jobs(senders, MANY_SENDERS, 1),
        MANY_UPDATES: await make_jobs(senders, LIST_SENDERS, videos),
    }


@contextmanager
def targets() -> Iterator[list[Target]]:
    """Run the product with both ways of sending, and the two references."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = []
        for name, direct in (("direct sending", True), ("plain sending", False)):
            server, jwt = stack.enter_context(program(home / name.replace(" ", "-"), direct_sending=direct))
            path = f"/api/ws/progress?token={jwt}"
            servers.append(Target(name, server.pid, server.port, jwt, server.port, path))
        for name, kind in (("broadcast", "broadcast"), ("send_json loop", "loop")):
            other, watch_port = stack.enter_context(reference(kind))
            servers.append(Target(name, other.pid, other.port, "", watch_port, "/ws"))
        yield servers


@dataclass(frozen=True)
class Scene:
    """A server with its jobs, by the number of updates per post, and its watchers."""

    target: Target
    jobs: Mapping[int, Sequence[ExternalJob]]
    watchers: Watchers


class Fanout:
    """One run of all measurements, with the cost of the triggers alone."""

    def __init__(self, processes: int, seconds: float, repeats: int) -> None:
        self._processes = processes
        self._seconds = seconds
        self._repeats = repeats
        self._alone: dict[tuple[str, int, bool], float] = {}

    def triggers_alone(self) -> None:
        """Measure the cost of a trigger without watchers."""
        print("\nCPU ms of a post without watchers")
        with targets() as servers, ExitStack() as stack:
            scenes = self._scenes(stack, servers, 0)
            for traffic in traffics(0):
                for target, cells in self._cells(scenes, traffic, 0).items():
                    cost = median(cell.cpu / max(1, cell.triggers) for cell in cells)
                    self._alone[target.name, traffic.updates, traffic.every == 0] = cost
                    print(f"{traffic!s:40} {target.name:16} {cost * 1000:6.2f}", flush=True)

    def watched(self, count: int) -> None:
        """Measure all cells with this number of watchers."""
        with targets() as servers, ExitStack() as stack:
            before = {target: memory_mib(target.pid) for target in servers}
            scenes = self._scenes(stack, servers, count)
            connected = {target: memory_mib(target.pid) for target in servers}
            for traffic in traffics(count):
                self._compare(traffic, count, self._cells(scenes, traffic, count))
            print()
            for target in servers:
                after = memory_mib(target.pid)
                print(
                    f"MiB of {target.name:16} at the start {before[target]:.0f}, "
                    f"with jobs and {count:,} watchers {connected[target]:.0f}, after the traffic {after:.0f}"
                )

    def _scenes(self, stack: ExitStack, servers: Sequence[Target], count: int) -> list[Scene]:
        videos = int(self._seconds + 1) * 2 * self._repeats * LISTS_PER_SECOND * MANY_UPDATES
        jobs = [asyncio.run(jobs_of(target, videos)) for target in servers]
        scenes = [
            Scene(target, own, stack.enter_context(self._watchers(target, count)))
            for target, own in zip(servers, jobs, strict=True)
        ]
        for scene in scenes:  # the snapshot that each watcher receives
            scene.watchers.settled(sum(map(len, scene.jobs.values())) * count if scene.target.is_product else 0)
        return scenes

    def _watchers(self, target: Target, count: int) -> Watchers:
        return Watchers(target.watch_port, target.watch_path, count, processes=self._processes)

    def _cells(self, scenes: Sequence[Scene], traffic: Traffic, count: int) -> dict[Target, list[Cell]]:
        cells: dict[Target, list[Cell]] = {scene.target: [] for scene in scenes}
        for _ in range(self._repeats):
            for scene in scenes:
                jobs = scene.jobs[traffic.updates]
                measured = measure(scene.target, traffic, jobs, scene.watchers, count, self._seconds)
                cells[scene.target].append(asyncio.run(measured))
        return cells

    def _compare(self, traffic: Traffic, count: int, cells: Mapping[Target, Sequence[Cell]]) -> None:
        print(f"\n{count:,} watchers, {traffic}")
        row("", "posts/s", "delivered/s", "per CPU s", "fan-out", "CPU %", "p50 ms", "p99 ms", widths=WIDTHS)
        shown = {target.name: self._show(target, traffic, own) for target, own in cells.items()}
        for name in ("direct sending", "plain sending"):
            for other, aim in AIMS.items():
                whole, sending = (ours / theirs for ours, theirs in zip(shown[name], shown[other], strict=True))
                aim_text = f", aim {aim} x" if name == "direct sending" else ""
                print(f"{name} / {other}: per CPU s {whole:.2f} x, fan-out {sending:.2f} x{aim_text}", flush=True)

    def _show(self, target: Target, traffic: Traffic, cells: Sequence[Cell]) -> tuple[float, float]:
        """Print the medians; return the updates per CPU second, and per CPU second of the sending alone."""
        alone = self._alone[target.name, traffic.updates, traffic.every == 0]
        whole = median(cell.per_cpu_second() for cell in cells)
        sending = median(cell.per_cpu_second(alone) for cell in cells)
        row(
            target.name,
            f"{median(cell.triggers / cell.seconds for cell in cells):.0f}",
            f"{median(cell.received.updates / cell.seconds for cell in cells):,.0f}",
            f"{whole:,.0f}",
            f"{sending:,.0f}",
            f"{median(100 * cell.cpu / cell.seconds for cell in cells):.0f}",
            f"{median(cell.received.latency(50) for cell in cells):.1f}",
            f"{median(cell.received.latency(99) for cell in cells):.1f}",
            widths=WIDTHS,
        )
        return whole, sending


async def batches(target: Target, count: int, processes: int, seconds: float) -> None:
    """Report on 1,000 jobs, each about once a second, to `count` watchers of `format=batch`; print the figures."""
    jobs = await make_jobs(await connect_senders(target.port, target.jwt, MANY_SENDERS), BATCH_JOBS, 1)
    shares = [jobs[place::MANY_SENDERS] for place in range(MANY_SENDERS)]

    async def report_all(sender: Sender, share: Sequence[ExternalJob]) -> None:
        for job in share:
            await sender.post(job.path, job.stamped())

    path = f"{target.watch_path}&format=batch"
    with Watchers(target.watch_port, path, count, batch=True, processes=processes) as watching:
        watching.settled(BATCH_JOBS * count)
        senders = await connect_senders(target.port, target.jwt, MANY_SENDERS)
        cpu, began = cpu_seconds(target.pid), time.monotonic()
        rounds = await asyncio.gather(
            *(
                at_rate(partial(report_all, sender, share), every=1.0, seconds=seconds)
                for sender, share in zip(senders, shares, strict=True)
            )
        )
        changes = sum(number * len(share) for number, share in zip(rounds, shares, strict=True))
        took = time.monotonic() - began
        received = watching.settled(changes * count)
        cpu = cpu_seconds(target.pid) - cpu
    print(
        f"{target.name:16} {count:5,} watchers: {changes / took:5.0f} changes/s, "
        f"{received.updates / max(1, received.frames):5.1f} updates per frame, "
        f"{received.updates / cpu:9,.0f} updates per CPU s, "
        f"CPU {100 * cpu / took:.0f} %, p50 {received.latency(50):.1f} ms, p99 {received.latency(99):.1f} ms",
        flush=True,
    )


def traffics(count: int) -> list[Traffic]:
    """Return the traffic of one update per post and of twenty, each steady and full."""
    return [make(updates, count) for updates in (1, MANY_UPDATES) for make in (Traffic.steady, Traffic.full)]


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser()
    parser.add_argument("watchers", nargs="*", type=int, default=[10, 100, 1000])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    allow_many_files()
    print(load())
    run = Fanout(arguments.processes, arguments.seconds, arguments.repeats)
    run.triggers_alone()
    for count in arguments.watchers:
        run.watched(count)
    print(f"\nformat=batch, {BATCH_JOBS:,} jobs, each to change once a second (changes/s: the accepted reports)")
    for count in arguments.watchers:
        with targets() as servers:
            for target in servers[:2]:
                asyncio.run(batches(target, count, arguments.processes, arguments.seconds))


if __name__ == "__main__":
    main()
