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
from dataclasses import dataclass
from pathlib import Path

import jwt

from tests import ROOT
from tests.bench.bare_app import ALGORITHM, PATH
from tests.bench.measure import allow_many_files, cpu_seconds, load, percentile, row
from tests.bench.senders import ROOMY, ExternalJob, Sender, connect_senders, make_jobs
from tests.support.servers import ServerProcess, add_user, running, serving

LINES = (1, 8, 64)
ROUNDS = 3
SECONDS = 2.0
VIDEOS = 1_000
IN_LISTS = 500
WIDTHS = (40, 6, 10, 10, 9, 9, 9)
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


async def compare(program: ServerProcess, token: str, bare: ServerProcess, bare_token: str, seconds: float) -> None:
    """Print what each route costs beside the bare one."""
    row("", "lines", "answers/s", "a core", "p50 ms", "p99 ms", "× bare", widths=WIDTHS)
    for count in LINES:
        ours, theirs = (
            await connect_senders(program.port, token, count),
            await connect_senders(bare.port, bare_token, count),
        )
        jobs = dict(zip(ours, await make_jobs(ours, count, VIDEOS), strict=True))
        for route in routes(jobs):
            rounds = []
            for _ in range(ROUNDS):
                reference = await measure(bare, theirs, lambda line: line.get(PATH), seconds)
                rounds.append((reference, await measure(program, ours, route.act, seconds)))
            _show(route, count, rounds)
        for line in (*ours, *theirs):
            line.close()


def _show(route: Route, lines: int, rounds: Sequence[tuple[Measured, Measured]]) -> None:
    middle = sorted((mine for _, mine in rounds), key=lambda one: one.per_core)[len(rounds) // 2]
    ratio = statistics.median(mine.per_core / bare.per_core for bare, mine in rounds)
    figures = (f"{middle.per_second * route.updates:,.0f}", f"{middle.per_core * route.updates:,.0f}")
    row(route.name, lines, *figures, f"{middle.p50:.1f}", f"{middle.p99:.1f}", f"{ratio:.2f}", widths=WIDTHS)


def main(root: Path, seconds: float) -> None:
    """Run the program of this checkout beside the bare app."""
    allow_many_files()
    print(f"{root.name}: {load()}")
    secret = secrets.token_hex(32)
    bare_token = jwt.encode({"sub": "bench"}, secret, algorithm=ALGORITHM)
    with (
        tempfile.TemporaryDirectory() as home,
        serving("tests.bench.bare_app", secret) as bare,
        running(Path(home), root=root, **ROOMY) as program,
    ):
        token = add_user(Path(home), "bench")
        asyncio.run(compare(program, token, bare, bare_token, seconds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=SECONDS)
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout of the program")
    given = parser.parse_args()
    main(given.root, given.seconds)
