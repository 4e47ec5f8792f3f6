"""What several machines cost and bring: `python -m tests.bench.workers [part of a name…]`.

Four workers of eight slots, a server that runs no videos itself, and PostgreSQL that waits for its disk; beside them,
in the same run and in turn, one machine: the server on SQLite with 32 slots. All of them share this machine's
processors, so the videos only let time pass (`tests/bench/paced_processor.py`). The figures of one machine are those
of the program without any of this; what several machines add is the difference.

"begin": from the request for a job of one video until its process begins; "known": from its end until a watcher has it;
"step": from a step in the process until a watcher has it; "cancel": from the request until a watcher has `cancelled`,
with eight videos at work; "empty": videos that take no time, as many at once as there is room; "second": videos of a
second, 32 at once; "turns": a user's five videos beside another one's 500, until the first of them begins. "server" is
the processor time of the server's process, in all and for each video.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.bench.measure import cpu_seconds, load, percentile, row
from tests.bench.paced_processor import Moment, install_plug_in, moments
from tests.support.clips import make_clip
from tests.support.databases import on_server
from tests.support.postgres import PostgresServer
from tests.support.servers import Program, add_user, api, running, token
from tests.support.worker_programs import working

WORKERS, SLOTS = 4, 8
FILES = 500
SINGLE_JOBS, STEPS, STEP_SECONDS, CANCELS = 100, 60, 0.15, 60
EMPTY, SECONDS = 1_000, 320
LONG_SECONDS, HEAD_START_SECONDS = 600.0, 3.0
ROUNDS = 3
WAIT_SECONDS, POLL_SECONDS = 120.0, 0.002
WIDTHS = (26, 12, 12, 12, 12, 30)
HEADER = ("milliseconds", "one p50", "p99", "several p50", "p99", "aim")


class TimedWatcher:
    """Records the jobs' updates with the moments of their arrival, in a thread."""

    def __init__(self, program: Program, jwt: str) -> None:
        self._socket = connect(f"ws://127.0.0.1:{program.port}/api/ws/progress?token={jwt}", open_timeout=30)
        self._changed = threading.Condition()
        self._updates: list[tuple[float, dict[str, Any]]] = []
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._thread.join()

    def of(self, job_id: str) -> list[tuple[float, dict[str, Any]]]:
        """Return the updates of this job so far, with their moments."""
        with self._changed:
            return [(at, update) for at, update in self._updates if update["job_id"] == job_id]

    def until(self, job_id: str, *statuses: str) -> float:
        """Return when the first update with one of these statuses arrived."""

        def found() -> list[float]:
            return [at for at, one in self._updates if one["job_id"] == job_id and one["status"] in statuses]

        with self._changed:
            assert self._changed.wait_for(found, WAIT_SECONDS), f"{job_id} never was {statuses}"
            return found()[0]

    def _receive(self) -> None:
        try:
            for text in self._socket:
                at = time.monotonic()
                update = json.loads(text)
                with self._changed:
                    self._updates.append((at, update))
                    self._changed.notify_all()
        except ConnectionClosed:
            return


@dataclass(frozen=True)
class Side:
    """A running server, on one machine or with several, with clients."""

    program: Program
    watcher: TimedWatcher
    # Client of each user, by name.
    clients: Mapping[str, httpx.Client]
    log: Path

    def submit(self, videos: int, *, user: str = "admin", **options: Any) -> str:
        """Submit a job over so many videos, and return its ID."""
        ids = [f"video-{number}" for number in range(videos)]
        job = {"video_ids": ids, "processor": "paced", "options": {"log": str(self.log), **options}}
        return str(self.clients[user].post("/api/jobs", json=job).raise_for_status().json()["job_id"])

    def cancel(self, job_id: str) -> float:
        """Cancel a job, and return the seconds until a watcher has it."""
        began = time.monotonic()
        self.clients["admin"].post(f"/api/jobs/{job_id}/cancel").raise_for_status()
        return self.watcher.until(job_id, "cancelled") - began

    def until_begun(self, job_id: str, videos: int) -> list[Moment]:
        """Return the starts of this job's videos, when there are so many."""
        end = time.monotonic() + WAIT_SECONDS
        while len(begun := [one for one in moments(self.log, job_id) if one.word == "start"]) < videos:
            assert time.monotonic() < end, f"only {len(begun)} of {videos} videos have begun"
            time.sleep(POLL_SECONDS)
        return begun


@dataclass(frozen=True)
class Sides:
    """One machine, and several."""

    one: Side
    several: Side

    def in_turn(self, measure: Callable[[Side], Sequence[float]], rounds: int) -> tuple[list[float], list[float]]:
        """Return the sorted values of both, measured in turn so often, after a round that does not count."""
        values: dict[int, list[float]] = {id(self.one): [], id(self.several): []}
        for number in range(rounds + 1):
            for side in (self.one, self.several) if number % 2 else (self.several, self.one):
                measured = measure(side)
                if number:
                    values[id(side)] += measured
        return sorted(values[id(self.one)]), sorted(values[id(self.several)])


def begin_and_known(sides: Sides) -> None:
    """Measure jobs of one video, on idle servers."""
    known: dict[int, list[float]] = {id(sides.one): [], id(sides.several): []}

    def begin(side: Side) -> list[float]:
        began = time.monotonic()
        job_id = side.submit(1)
        at = side.watcher.until(job_id, "completed")
        start, end = moments(side.log, job_id)
        known[id(side)].append(at - end.at)
        return [start.at - began]

    one, several = sides.in_turn(begin, SINGLE_JOBS)
    show("begin", one, several, aim="25 more at p50", limit=25)
    one, several = (sorted(known[id(side)]) for side in (sides.one, sides.several))
    show("known", one, several, aim="40 more at p50", limit=40)


def step(sides: Sides) -> None:
    """Measure the steps of one video."""

    def steps(side: Side) -> list[float]:
        job_id = side.submit(1, seconds=STEPS * STEP_SECONDS, steps=STEPS)
        side.watcher.until(job_id, "completed")
        made = {one.word: one.at for one in moments(side.log, job_id)}
        arrived: dict[int, float] = {}
        for at, update in side.watcher.of(job_id):
            arrived.setdefault(update["progress"], at)
        return [arrived[one] - made[f"step{one}"] for one in range(1, STEPS) if one in arrived]

    show("step", *sides.in_turn(steps, 1), aim="150 at p50", is_total=True, limit=150)


def cancel(sides: Sides) -> None:
    """Measure cancels with eight videos at work."""

    def once(side: Side) -> list[float]:
        job_id = side.submit(SLOTS, seconds=LONG_SECONDS, steps=6_000)
        side.until_begun(job_id, SLOTS)
        return [side.cancel(job_id)]

    show("cancel", *sides.in_turn(once, CANCELS), aim="300 at p99", is_total=True, percent=99, limit=300)


def empty(sides: Sides) -> None:
    """Measure videos that take no time."""
    throughput(sides, "empty", EMPTY, seconds=0.0)


def second(sides: Sides) -> None:
    """Measure videos of a second."""
    throughput(sides, "second", SECONDS, seconds=1.0)


def turns(sides: Sides) -> None:
    """Measure how soon a small job begins beside a large one of another user."""

    def first(side: Side) -> list[float]:
        large = side.submit(FILES, user="ana", seconds=1.0)
        side.until_begun(large, WORKERS * SLOTS)
        time.sleep(HEAD_START_SECONDS)
        asked = time.monotonic()
        small = side.submit(5, user="ben", seconds=1.0)
        begun = side.until_begun(small, 1)[0].at
        side.watcher.until(small, "completed")
        side.cancel(large)
        return [begun - asked]

    show("turns", *sides.in_turn(first, ROUNDS), aim="a video's time, 1000", is_total=True, limit=1000)


def throughput(sides: Sides, name: str, videos: int, *, seconds: float) -> None:
    """Measure a job of many videos: how long it takes, and the server's processor time."""
    used: dict[int, list[float]] = {id(sides.one): [], id(sides.several): []}

    def run(side: Side) -> list[float]:
        before, began = cpu_seconds(side.program.pid), time.monotonic()
        jobs = [side.submit(min(FILES, videos - done), seconds=seconds) for done in range(0, videos, FILES)]
        took = max(side.watcher.until(job_id, "completed") for job_id in jobs) - began
        used[id(side)].append((cpu_seconds(side.program.pid) - before) / videos)
        return [took / videos]

    one, several = sides.in_turn(run, ROUNDS)
    ideal = seconds / (WORKERS * SLOTS)
    if ideal:
        share = ideal / percentile(several, 50)
        aim = f"{ideal * 1000:.2f} is ideal: {share:.1%} of 95 %"
    else:
        aim = f"{1 / percentile(several, 50):.0f} a second"
    show(f"{name}: a video", one, several, aim=aim, is_total=True)
    one, several = (sorted(used[id(side)][1:]) for side in (sides.one, sides.several))
    show(f"{name}: server, a video", one, several, aim="3 at p50", is_total=True, limit=3)


def show(
    name: str,
    one: Sequence[float],
    several: Sequence[float],
    *,
    aim: str,
    limit: float | None = None,
    is_total: bool = False,
    percent: float = 50,
) -> None:
    """Print a line: p50 and p99 of both, and the aim with what was reached of it."""
    figures = [1000 * percentile(values, share) for values in (one, several) for share in (50, 99)]
    reached = 1000 * percentile(several, percent) - (0 if is_total else 1000 * percentile(one, percent))
    verdict = "" if limit is None else f": {reached:.1f}, {'reached' if reached <= limit else 'MISSED'}"
    row(name, *(f"{figure:.2f}" for figure in figures), f"{aim}{verdict}", widths=WIDTHS)


BENCHES: dict[str, Callable[[Sides], None]] = {
    "begin and known": begin_and_known,
    "step": step,
    "cancel": cancel,
    "empty": empty,
    "second": second,
    "turns": turns,
}


@contextmanager
def served(home: Path, plug_ins: Path, media: Path, **settings: Any) -> Iterator[Side]:
    """Run a server with its clients."""
    data = home / "data"
    tokens = {"admin": token(data, "admin"), **{name: add_user(data, name) for name in ("ana", "ben")}}
    with ExitStack() as stack:
        program = stack.enter_context(running(data, python_path=plug_ins, media_dir=media, **settings))
        watcher = stack.enter_context(TimedWatcher(program, tokens["admin"]))
        clients = {name: stack.enter_context(api(program, jwt)) for name, jwt in tokens.items()}
        yield Side(program, watcher, clients, home / "moments.log")


@contextmanager
def both(home: Path) -> Iterator[Sides]:
    """Run one machine, and several."""
    plug_ins, media = install_plug_in(home / "plug-ins"), home / "media"
    clip = make_clip(media / "video-0.mp4", seconds=0.1)
    for number in range(1, FILES):
        os.link(clip, media / f"video-{number}.mp4")
    for name in ("one", "several"):
        (home / name).mkdir()
    with ExitStack() as stack:
        one = stack.enter_context(served(home / "one", plug_ins, media, max_running_videos=WORKERS * SLOTS))
        postgres = stack.enter_context(PostgresServer.made(is_durable=True))
        stack.enter_context(on_server(postgres))
        several = stack.enter_context(served(home / "several", plug_ins, media, max_running_videos=0))
        for number in range(WORKERS):
            data, name = home / "several" / "data", f"worker-{number}"
            stack.enter_context(working(data, name, slots=SLOTS, media=media, python_path=plug_ins))
        yield Sides(one, several)


def main(parts: Sequence[str]) -> None:
    """Run the benches whose name has one of these parts, or all."""
    chosen = [bench for name, bench in BENCHES.items() if not parts or any(part in name for part in parts)]
    print(f"{WORKERS} workers of {SLOTS} slots beside one machine of {WORKERS * SLOTS}; {load()}", flush=True)
    with tempfile.TemporaryDirectory() as directory, both(Path(directory)) as sides:
        row(*HEADER, widths=WIDTHS)
        for bench in chosen:
            bench(sides)


if __name__ == "__main__":
    main(sys.argv[1:])
