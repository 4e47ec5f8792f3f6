"""The upload of a long list: `python -m tests.bench.upload [rows] [--database postgresql]` (default 100,000).

The list is sent five times, each time beside the reference: the bare driver stores the same videos in bulk, in one
transaction. Meanwhile another client asks for `/healthz`. The job is external, so that nothing runs it. Seconds are
medians; "p99 ms" is of the other client's requests.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from uuid import uuid4

from backend.store.tables import VIDEOS
from tests.bench.bare_driver import insert
from tests.bench.beside import databases
from tests.bench.measure import load, percentile, row
from tests.support.databases import FILE, taken_kind
from tests.support.servers import Program, api, running, token

ROWS, ROUNDS = 100_000, 5
AIM_SECONDS = 4
WIDTHS = (14, 12, 12, 8, 10)
COLUMNS = ("job_id", "position", "video_id", "line", "cells", "status", "attempts")
TABLE = VIDEOS.name


def others(program: Program, jwt: str, ended: threading.Event, took: list[float]) -> None:
    """Append the milliseconds of requests of another client until the end."""
    with api(program, jwt) as client:
        while not ended.wait(0.02):
            began = time.perf_counter()
            assert client.get("/healthz").status_code == 200
            took.append((time.perf_counter() - began) * 1000)


def upload(program: Program, jwt: str, text: bytes) -> float:
    """Return the seconds of one upload."""
    with api(program, jwt) as client:
        client.timeout = 120
        began = time.perf_counter()
        answer = client.post(
            "/api/jobs", files={"file": ("long.csv", text, "text/csv")}, data={"processor": "external"}
        )
        assert answer.status_code == 201, answer.text
        return time.perf_counter() - began


def bare(path: Path, ids: list[str]) -> float:
    """Return the seconds of the driver alone, for the same videos."""
    job_id = str(uuid4())
    videos = [(job_id, n, video_id, n + 2, f'["{video_id}"]', "pending", 0) for n, video_id in enumerate(ids)]
    began = time.perf_counter()
    insert(path, TABLE, COLUMNS, videos)
    return time.perf_counter() - began


def measure(name: str, home: Path, count: int) -> None:
    """Print the line of one database."""
    ids = [f"video-{number:07}" for number in range(count)]
    text = "video_id\n" + "\n".join(ids)
    waits: list[float] = []
    with running(home) as program:
        jwt, ended = token(home, "admin"), threading.Event()
        other = threading.Thread(target=others, args=(program, jwt, ended, waits))
        other.start()
        try:
            rounds = [(upload(program, jwt, text.encode()), bare(home / FILE, ids)) for _ in range(ROUNDS)]
        finally:
            ended.set()
            other.join()
    ours, theirs = (statistics.median(times) for times in zip(*rounds, strict=True))
    figures = (f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.2f}", f"{percentile(sorted(waits), 99):.0f}")
    row(name, *figures, widths=WIDTHS)


def main(count: int, kind: str) -> None:
    """Measure each database."""
    print(f"{count:,} rows; {load()}")
    row("database", "upload s", "driver s", "x", "p99 ms", widths=WIDTHS)
    with databases(kind) as kinds:
        for name, used in kinds.items():
            with tempfile.TemporaryDirectory() as home, used():
                measure(name, Path(home), count)
    print(f"aim: at most {AIM_SECONDS} s for {ROWS:,} rows")


if __name__ == "__main__":
    chosen_kind, given = taken_kind(sys.argv[1:])
    main(int(given[0]) if given else ROWS, chosen_kind)
