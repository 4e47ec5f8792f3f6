"""What a request costs the server, on 1, 8 and 64 keep-alive lines, beside a bare FastAPI route with a JWT check.

Rounds alternate between the bare app and the program. "a core" is the answers for each second of the server's own
processor time, which a busy machine changes little.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import jwt

from tests import ROOT
from tests.bench.bare_app import ALGORITHM, PATH
from tests.bench.beside import databases
from tests.bench.measure import allow_many_files, cpu_seconds, load, percentile, row
from tests.bench.senders import ROOMY, ExternalJob, Sender, connect_senders, make_jobs
from tests.support.databases import KINDS, OPTION
from tests.support.servers import ServerProcess, add_user, running, serving

LINES = (1, 8, 64)
ROUNDS = 3
SECONDS = 2.0
VIDEOS = 1_000
IN_LISTS = 500
WIDTHS = (52, 6, 10, 10, 9, 9, 9)
Act = Callable[[Sender], Awaitable[object]]


@dataclass(frozen=True)
class Measured:
    """What one round measured."""

    # Answers per second, and per second of the server's processor time.
    per_second: float
    per_core: float
    # Milliseconds from a request to its answer.
    p50: float
    p99: float


@dataclass(frozen=True)
class Route:
    """A route of the program, and how many updates one request carries."""

    name: str
    act: Act
    updates: int = 1


async def measure(server: ServerProcess, lines: Sequence[Sender], act: Act, seconds: float) -> Measured:
    """Send one request after the other on each line."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def drive(line: Sender) -> None:
        while (began := time.perf_counter()) < end:
            await act(line)
            times.append(time.perf_counter() - began)

    cpu, began = cpu_seconds(server.pid), time.perf_counter()
    await asyncio.gather(*map(drive, lines))
    used, passed = cpu_seconds(server.pid) - cpu, time.perf_counter() - began
    times.sort()
    return Measured(len(times) / passed, len(times) / used, percentile(times, 50) * 1000, percentile(times, 99) * 1000)


def routes(jobs: dict[Sender, ExternalJob]) -> list[Route]:
    """Return what is measured; each line reports on its own job."""

    async def single(line: Sender) -> None:
        job = jobs[line]
        await line.post(job.path, job.report(video_id=job.next_video(), message="Working"))

    async def many(line: Sender) -> None:
        job = jobs[line]
        await line.post(job.path, [job.report(video_id=job.next_video(), message="Working") for _ in range(IN_LISTS)])

    def get(path: Callable[[str], str]) -> Act:
        return lambda line: line.get(path(jobs[line].path.removesuffix("/progress")))

    return [
        Route("GET /healthz", get(lambda _: "/healthz")),
        Route("GET /api/auth/me", get(lambda _: "/api/auth/me")),
        Route("GET /api/jobs/{id}", get(lambda job: job)),
        Route("GET …/progress-history?limit=20", get(lambda job: f"{job}/progress-history?limit=20")),
        Route("POST …/progress, single", single),
        Route(f"POST …/progress, lists of {IN_LISTS}", many, updates=IN_LISTS),
    ]


@dataclass(frozen=True)
class Side:
    """A program that is measured: what it is called, its server, and a token for it."""

    name: str
    server: ServerProcess
    token: str


async def compare(sides: Sequence[Side], bare: ServerProcess, bare_token: str, seconds: float) -> None:
    """Print what each route of each program costs beside the bare one."""
    row("", "lines", "answers/s", "a core", "p50 ms", "p99 ms", "× bare", widths=WIDTHS)
    for count in LINES:
        theirs = await connect_senders(bare.port, bare_token, count)
        ours = [await connect_senders(side.server.port, side.token, count) for side in sides]
        routes_of = [routes(dict(zip(lines, await make_jobs(lines, count, VIDEOS), strict=True))) for lines in ours]
        for same in zip(*routes_of, strict=True):
            rounds: list[list[tuple[Measured, Measured]]] = [[] for _ in sides]
            for _, number in product(range(ROUNDS), range(len(sides))):
                reference = await measure(bare, theirs, lambda line: line.get(PATH), seconds)
                await asyncio.gather(*(line.reopen() for line in ours[number]))
                measured = await measure(sides[number].server, ours[number], same[number].act, seconds)
                rounds[number].append((reference, measured))
            for side, route, results in zip(sides, same, rounds, strict=True):
                _show(f"{route.name}{side.name}", route, count, results)
        for line in (*theirs, *(line for lines in ours for line in lines)):
            line.close()


def _show(name: str, route: Route, lines: int, rounds: Sequence[tuple[Measured, Measured]]) -> None:
    middle = sorted((mine for _, mine in rounds), key=lambda one: one.per_core)[len(rounds) // 2]
    ratio = statistics.median(mine.per_core / bare.per_core for bare, mine in rounds)
    figures = (f"{middle.per_second * route.updates:,.0f}", f"{middle.per_core * route.updates:,.0f}")
    row(name, lines, *figures, f"{middle.p50:.1f}", f"{middle.p99:.1f}", f"{ratio:.2f}", widths=WIDTHS)


def main(root: Path, seconds: float, kind: str) -> None:
    """Run the program of this checkout, on one database or on both, beside the bare app."""
    allow_many_files()
    print(f"{root.name}: {load()}")
    secret = secrets.token_hex(32)
    bare_token = jwt.encode({"sub": "bench"}, secret, algorithm=ALGORITHM)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kinds = stack.enter_context(databases(kind))
        bare, sides = stack.enter_context(serving("tests.bench.bare_app", secret)), []
        for name, used in kinds.items():
            with used():
                home = directory / name
                program = stack.enter_context(running(home, root=root, **ROOMY))
                sides.append(Side(f", {name}" if len(kinds) > 1 else "", program, add_user(home, "bench")))
        asyncio.run(compare(sides, bare, bare_token, seconds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=SECONDS)
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout of the program")
    parser.add_argument(OPTION, choices=KINDS, default=KINDS[0], help="on PostgreSQL beside SQLite")
    given = parser.parse_args()
    main(given.root, given.seconds, given.database)
