"""The time that video work continues after a cancel: `python -m tests.bench.cancel [cancels]`.

A job of clips that need over a second of decoding each runs in the real program, in as many slots as CPUs. At a random
moment of the decoding it is cancelled over HTTP; each round has a new job. All times are milliseconds from the request.
"exit": until no process of its videos is left, not even one that is not reaped; /proc is searched every 2 ms. "shown":
until the API shows `cancelled`: in every second round in an update on the progress socket, in the others in the answer
of `GET /api/jobs/{id}`, which is requested continuously. "early": rounds in which a process was found after that; there
must be none. "files": unfinished files (`*.part`) of all rounds at the request, and those left when `cancelled` was
shown.

The first line is the probe. The second one has an unfinished file from its start. The third one also ignores SIGTERM
and decodes endlessly without progress, so it is killed after half a second; it has a fifth of the rounds.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import httpx

from tests.bench.measure import load, percentile, row
from tests.bench.throughput import copies, slow_clip
from tests.support.processes import ProcessMonitor, VideoProcesses
from tests.support.servers import Program, api, running, token
from tests.support.unfinished_output import install_plug_in
from tests.support.watchers import Watcher

CANCELS, DEAF_SHARE = 100, 5
AIM_MS = 200
VIDEOS = 16
CANCEL_SECONDS = (0.1, 1.5)  # after the start: from the decoding of a first video to that of a second one
START_SECONDS = 30.0
POLL_SECONDS = 0.002
WIDTHS = (34, 6, 9, 8, 8, 8, 8, 8, 8, 6, 10)
HEADER = "milliseconds,rounds,processes,exit p50,p99,worst,shown p50,p99,worst,early,files"


@dataclass(frozen=True)
class Work:
    """A kind of job that is cancelled."""

    title: str
    processor: str
    options: dict[str, Any]
    rounds: int


@dataclass(frozen=True)
class Round:
    """The figures of one cancel."""

    # Milliseconds from the request until the exit of all processes, and until `cancelled` was shown.
    exit: float
    shown: float
    # Number of processes at the request.
    processes: int
    # True if a process was found after `cancelled` was shown.
    is_early: bool
    # Number of unfinished files at the request, and when `cancelled` was shown.
    parts: int
    parts_left: int


class Bench:
    """The program with a client, and its videos' processes."""

    def __init__(self, program: Program, ids: list[str], rng: random.Random) -> None:
        self._program = program
        self._ids = ids
        self._rng = rng
        self._jwt = token(program.data_dir, "admin")
        self._client = api(program, self._jwt)
        self._processes = VideoProcesses(program.pid)

    def cancel(self, work: Work, *, over_socket: bool) -> Round:
        """Start a job of this work, cancel it during its decoding, and return the figures."""
        with Watcher(self._program, self._jwt) as watcher:
            job_id = self._start(work)
            parts, processes = len(self._parts(job_id)), len(self._processes.sample())
            with ProcessMonitor(self._processes) as monitor:
                sent_at = time.perf_counter()
                answer = content(self._client.post(f"/api/jobs/{job_id}/cancel"))
                if over_socket and answer["status"] != "cancelled":
                    watcher.until_status(job_id, "cancelled")
                else:
                    self._until_cancelled(job_id, answer)
                shown_at = time.perf_counter()
                parts_left = len(self._parts(job_id))
                assert content(self._client.get(f"/api/jobs/{job_id}"))["status"] == "cancelled"
                until(monitor.finds_none, "the exit of its processes")
        return Round(
            exit=1000 * (monitor.exited_at() - sent_at),
            shown=1000 * (shown_at - sent_at),
            processes=processes,
            is_early=monitor.found_after(shown_at) > 0,
            parts=parts,
            parts_left=parts_left,
        )

    def _start(self, work: Work) -> str:
        """Start a job, wait until a video is decoded, and return the job's ID."""
        order = {"video_ids": self._ids, "processor": work.processor, "options": work.options}
        job = content(self._client.post("/api/jobs", json=order))
        until(lambda: bool(self._processes.sample()), "a video's process")
        time.sleep(self._rng.uniform(*CANCEL_SECONDS))
        return str(job["job_id"])

    def _until_cancelled(self, job_id: str, answer: dict[str, Any]) -> None:
        newest = [answer]

        def is_cancelled() -> bool:
            if newest[0]["status"] != "cancelled":
                newest[0] = content(self._client.get(f"/api/jobs/{job_id}"))
            return bool(newest[0]["status"] == "cancelled")

        until(is_cancelled, "cancelled")

    def _parts(self, job_id: str) -> list[Path]:
        return list((self._program.data_dir / "outputs" / job_id).rglob("*.part"))


def content(response: httpx.Response) -> dict[str, Any]:
    """Return the content of an answer. Fails if the request was not successful."""
    assert response.is_success, response.text
    fields: dict[str, Any] = response.json()
    return fields


def until(holds: Callable[[], bool], what: str) -> None:
    """Return when this holds. Fails with `what` after `START_SECONDS`."""
    end = time.monotonic() + START_SECONDS
    while not holds():
        assert time.monotonic() < end, f"not in {START_SECONDS:g} s: {what}"
        time.sleep(POLL_SECONDS)


def show(work: Work, rounds: Sequence[Round]) -> None:
    """Print a line of the table."""
    times = [sorted(map(attrgetter(name), rounds)) for name in ("exit", "shown")]
    processes = [round_.processes for round_ in rounds]
    row(
        work.title,
        len(rounds),
        f"{min(processes)}-{max(processes)}",
        *(f"{percentile(values, percent):.0f}" for values in times for percent in (50, 99, 100)),
        sum(round_.is_early for round_ in rounds),
        f"{sum(round_.parts for round_ in rounds)} -> {sum(round_.parts_left for round_ in rounds)}",
        widths=WIDTHS,
    )


def report(rounds: Sequence[Round]) -> bool:
    """Print the totals; return True if no process and no unfinished file was left when `cancelled` was shown."""
    early, left = sum(round_.is_early for round_ in rounds), sum(round_.parts_left for round_ in rounds)
    shortest = min(round_.shown - round_.exit for round_ in rounds)
    print(
        f"shown before all processes had exited: {early} of {len(rounds)}; otherwise at least {shortest:.1f} ms after"
    )
    print(f"unfinished files left: {left} of {sum(round_.parts for round_ in rounds)}")
    return early == left == 0


def main(cancels: int) -> None:
    """Measure the three kinds of work; exit with 1 if `cancelled` was ever shown too early."""
    print(f"cancel -> no process left, aim p99 < {AIM_MS} ms (the first two lines); {load()}", flush=True)
    works = (
        Work("the probe", "probe", {}, cancels),
        Work("with an unfinished file", "unfinished", {}, cancels),
        Work("... that ignores SIGTERM (0.5 s)", "unfinished", {"deaf": True}, max(1, cancels // DEAF_SHARE)),
    )
    everything: list[Round] = []
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        slow_clip(home / "slow.mp4")
        ids = copies(home / "slow.mp4", home / "media", VIDEOS)
        plug_ins = install_plug_in(home / "plug-ins")
        with running(home / "data", media_dir=home / "media", python_path=plug_ins) as program:
            bench = Bench(program, ids, random.Random(5))
            bench.cancel(works[0], over_socket=True)  # not counted: it includes everything that is done only once
            row(*HEADER.split(","), widths=WIDTHS)
            for work in works:
                rounds = [bench.cancel(work, over_socket=number % 2 == 0) for number in range(work.rounds)]
                show(work, rounds)
                everything += rounds
    sys.exit(not report(everything))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CANCELS)
