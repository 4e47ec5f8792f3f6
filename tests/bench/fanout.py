"""What a watcher costs: `python -m tests.bench.fanout [WATCHERS…] [--processes N] [--seconds S] [--repeats N]`.

Watchers of the default format in other processes parse every frame. Beside the product stand `websockets.broadcast()`
and a plain FastAPI `send_json` loop (tests/bench/references.py), in the same run, cell by cell in turn; figures are
medians of the repeats. Every server gets the same trigger: a POST with one report, or with a list of 20 failed videos,
which makes 20 frames for each watcher. The product checks the token, commits to its database, sends, and answers; the
references only send and answer. "steady" leaves the server time to rest; "full" keeps up to 64 posts under way.

"each CPU s": updates delivered for each second of the server process's CPU time, all of it. "fan-out": the same
without what such triggers cost with nobody watching (measured first), so it compares the sending alone
(nan: the sending is less than a quarter of it, too little to tell apart).
Then `format=batch`: 1,000 jobs, each reported once a second over 64 connections, or as often as the route can take.
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
from tests.bench.watchers import Heard, Watchers

MANY_SENDERS, LIST_SENDERS = 64, 16
MANY_UPDATES = 20
LISTS_A_SECOND = 25  # more than one sender gets through, at a list a tick
DELIVERIES_UNDER_WAY = 64_000
TOO_LITTLE = 0.25
STEADY_DELIVERIES = 20_000
WIDTHS = (18, 9, 12, 12, 12, 8, 8, 8)
AIMS = {"broadcast": 1.0, "send_json loop": 2.5}
BATCH_JOBS = 1000


@dataclass(frozen=True)
class Target:
    """A server under measurement: its process, where it takes triggers, where its watchers connect."""

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
    """`updates` for each trigger; `senders` post, each again `every` seconds after its last (0: at once)."""

    updates: int
    senders: int
    every: float

    @classmethod
    def steady(cls, updates: int, watchers: int) -> Traffic:
        """Ten triggers a second, fewer when that were more than 20,000 deliveries a second."""
        return cls(updates, 1, max(0.1, updates * watchers / STEADY_DELIVERIES))

    @classmethod
    def full(cls, updates: int, watchers: int) -> Traffic:
        """As many as the server takes."""
        most = MANY_SENDERS if updates == 1 else LIST_SENDERS
        return cls(updates, min(most, max(1, DELIVERIES_UNDER_WAY // max(1, watchers * updates))), 0)

    def __str__(self) -> str:
        pace = "full" if self.every == 0 else f"steady, {1 / self.every:g} posts/s"
        return f"{self.updates} update{'s' * (self.updates > 1)} a post, {pace}"


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    triggers: int
    seconds: float
    cpu: float
    heard: Heard

    def each_cpu_second(self, cost_of_a_trigger: float = 0.0) -> float:
        """Updates delivered, also without what the triggers cost; NaN where that leaves too little to tell."""
        left = self.cpu - self.triggers * cost_of_a_trigger
        return self.heard.updates / left if left > TOO_LITTLE * self.cpu else nan


async def measure(
    target: Target, traffic: Traffic, jobs: Sequence[ExternalJob], watchers: Watchers, count: int, seconds: float
) -> Cell:
    """Post for so long, then wait until everything has arrived."""
    senders = await connect_senders(target.port, target.jwt, traffic.senders)
    watchers.report()
    cpu, began = cpu_seconds(target.pid), time.monotonic()

    async def post(sender: Sender, job: ExternalJob) -> None:
        await sender.post(job.path, job.stamped() if traffic.updates == 1 else job.failures(traffic.updates))

    ran = await asyncio.gather(
        *(
            at_rate(partial(post, sender, job), every=traffic.every, seconds=seconds)
            for sender, job in zip(senders, jobs, strict=False)
        )
    )
    heard = watchers.settled(sum(ran) * traffic.updates * count)
    cell = Cell(sum(ran), time.monotonic() - began, cpu_seconds(target.pid) - cpu, heard)
    for sender in senders:
        sender.close()
    return cell


async def jobs_of(target: Target, videos: int) -> dict[int, list[ExternalJob]]:
    """A job for each sender, by the updates that they post at once; those of twenty need videos that can fail."""
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
    """The product both ways and the two references, all running."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = []
        for name, direct in (("direct sending", True), ("plain twin", False)):
            server, jwt = stack.enter_context(program(home / name.replace(" ", "-"), direct_sending=direct))
            path = f"/api/ws/progress?token={jwt}"
            found.append(Target(name, server.pid, server.port, jwt, server.port, path))
        for name, kind in (("broadcast", "broadcast"), ("send_json loop", "loop")):
            other, watch_port = stack.enter_context(reference(kind))
            found.append(Target(name, other.pid, other.port, "", watch_port, "/ws"))
        yield found


@dataclass(frozen=True)
class Scene:
    """A server with its jobs, by the updates that are posted at once, and its watchers."""

    target: Target
    jobs: Mapping[int, Sequence[ExternalJob]]
    watchers: Watchers


class Fanout:
    """One run: its cells and what triggers cost by themselves."""

    def __init__(self, processes: int, seconds: float, repeats: int) -> None:
        self._processes = processes
        self._seconds = seconds
        self._repeats = repeats
        self._alone: dict[tuple[str, int, bool], float] = {}

    def triggers_alone(self) -> None:
        """Learn what a trigger costs with nobody watching."""
        print("\nCPU ms of a post that nobody watches")
        with targets() as found, ExitStack() as stack:
            stage = self._stage(stack, found, 0)
            for traffic in traffics(0):
                for target, cells in self._cells(stage, traffic, 0).items():
                    cost = median(cell.cpu / max(1, cell.triggers) for cell in cells)
                    self._alone[target.name, traffic.updates, traffic.every == 0] = cost
                    print(f"{traffic!s:38} {target.name:16} {cost * 1000:6.2f}", flush=True)

    def watched(self, count: int) -> None:
        """All cells with so many watchers."""
        with targets() as found, ExitStack() as stack:
            before = {target: memory_mib(target.pid) for target in found}
            stage = self._stage(stack, found, count)
            connected = {target: memory_mib(target.pid) for target in found}
            for traffic in traffics(count):
                self._compare(traffic, count, self._cells(stage, traffic, count))
            print()
            for target in found:
                after = memory_mib(target.pid)
                print(
                    f"MiB of {target.name:16} at the start {before[target]:.0f}, "
                    f"with jobs and {count:,} watchers {connected[target]:.0f}, after the traffic {after:.0f}"
                )

    def _stage(self, stack: ExitStack, found: Sequence[Target], count: int) -> list[Scene]:
        videos = int(self._seconds + 1) * 2 * self._repeats * LISTS_A_SECOND * MANY_UPDATES
        jobs = [asyncio.run(jobs_of(target, videos)) for target in found]
        stage = [
            Scene(target, mine, stack.enter_context(self._watchers(target, count)))
            for target, mine in zip(found, jobs, strict=True)
        ]
        for scene in stage:  # what each is told on opening
            scene.watchers.settled(sum(map(len, scene.jobs.values())) * count if scene.target.is_product else 0)
        return stage

    def _watchers(self, target: Target, count: int) -> Watchers:
        return Watchers(target.watch_port, target.watch_path, count, processes=self._processes)

    def _cells(self, stage: Sequence[Scene], traffic: Traffic, count: int) -> dict[Target, list[Cell]]:
        cells: dict[Target, list[Cell]] = {scene.target: [] for scene in stage}
        for _ in range(self._repeats):
            for scene in stage:
                jobs = scene.jobs[traffic.updates]
                measured = measure(scene.target, traffic, jobs, scene.watchers, count, self._seconds)
                cells[scene.target].append(asyncio.run(measured))
        return cells

    def _compare(self, traffic: Traffic, count: int, cells: Mapping[Target, Sequence[Cell]]) -> None:
        print(f"\n{count:,} watchers, {traffic}")
        row("", "posts/s", "delivered/s", "each CPU s", "fan-out", "CPU %", "p50 ms", "p99 ms", widths=WIDTHS)
        shown = {target.name: self._show(target, traffic, found) for target, found in cells.items()}
        for name in ("direct sending", "plain twin"):
            for other, aim in AIMS.items():
                whole, sending = (ours / theirs for ours, theirs in zip(shown[name], shown[other], strict=True))
                aimed = f", aim {aim} x" if name == "direct sending" else ""
                print(f"{name} / {other}: each CPU s {whole:.2f} x, fan-out {sending:.2f} x{aimed}", flush=True)

    def _show(self, target: Target, traffic: Traffic, cells: Sequence[Cell]) -> tuple[float, float]:
        """Print the medians; returns the updates that a CPU second delivers, and one of sending alone."""
        alone = self._alone[target.name, traffic.updates, traffic.every == 0]
        whole = median(cell.each_cpu_second() for cell in cells)
        sending = median(cell.each_cpu_second(alone) for cell in cells)
        row(
            target.name,
            f"{median(cell.triggers / cell.seconds for cell in cells):.0f}",
            f"{median(cell.heard.updates / cell.seconds for cell in cells):,.0f}",
            f"{whole:,.0f}",
            f"{sending:,.0f}",
            f"{median(100 * cell.cpu / cell.seconds for cell in cells):.0f}",
            f"{median(cell.heard.latency(50) for cell in cells):.1f}",
            f"{median(cell.heard.latency(99) for cell in cells):.1f}",
            widths=WIDTHS,
        )
        return whole, sending


async def batches(target: Target, count: int, processes: int, seconds: float) -> None:
    """1,000 jobs, each reported about once a second, seen by `count` watchers of `format=batch`."""
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
        ran = await asyncio.gather(
            *(
                at_rate(partial(report_all, sender, share), every=1.0, seconds=seconds)
                for sender, share in zip(senders, shares, strict=True)
            )
        )
        changes = sum(times * len(share) for times, share in zip(ran, shares, strict=True))
        took = time.monotonic() - began
        heard = watching.settled(changes * count)
        cpu = cpu_seconds(target.pid) - cpu
    print(
        f"{target.name:16} {count:5,} watchers: {changes / took:5.0f} changes/s, "
        f"{heard.updates / max(1, heard.frames):5.1f} updates a frame, {heard.updates / cpu:9,.0f} updates each CPU s, "
        f"CPU {100 * cpu / took:.0f} %, p50 {heard.latency(50):.1f} ms, p99 {heard.latency(99):.1f} ms",
        flush=True,
    )


def traffics(count: int) -> list[Traffic]:
    """One update a post and twenty, steady and full."""
    return [make(updates, count) for updates in (1, MANY_UPDATES) for make in (Traffic.steady, Traffic.full)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("watchers", nargs="*", type=int, default=[10, 100, 1000])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    allow_many_files()
    print(load())
    run = Fanout(asked.processes, asked.seconds, asked.repeats)
    run.triggers_alone()
    for count in asked.watchers:
        run.watched(count)
    print(f"\nformat=batch, {BATCH_JOBS:,} jobs that are to change once a second each (changes/s: what posts carry)")
    for count in asked.watchers:
        with targets() as found:
            for target in found[:2]:
                asyncio.run(batches(target, count, asked.processes, asked.seconds))


if __name__ == "__main__":
    main()
