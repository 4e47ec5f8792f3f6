"""A database with very many jobs, written in bulk: as the program would have left it, but not through its ticks."""

from __future__ import annotations

import random
import sqlite3
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from uuid import UUID

import psycopg

from backend.clock import to_millis
from backend.database_url import DatabaseUrl
from backend.domain.words import folded, sort_key
from backend.store.traces import Trace, shared_trace
from tests.support.databases import FILE, location_of

OWNERS = 20
PRESENT_JOBS = 2_000
JOBS_AT_ONCE = 1_000
APART = 20  # milliseconds between jobs
STATUSES = (("completed", 80), ("completed_with_errors", 12), ("failed", 5), ("cancelled", 3))
SUBJECTS = (
    "nightly",
    "harbour",
    "interviews",
    "archive",
    "drone",
    "lectures",
    "Übung",
    "trailers",
    "sports",
    "weather",
)
ERRORS = (
    "File is cut off: the index is missing (an MP4 file has it at its end); fetch the file again.",
    "No file for this ID in the media directory",
    "File is damaged: {0}.0 % of its pictures ({0} of 100) cannot be read from 0:01 to 0:03; fetch it again.",
)
TRACE = (
    "Traceback (most recent call last):\n" + '  File "inspection.py", line 324, in _decode\n' * 40 + "VideoFailed: {}\n"
)
FACTS = (
    '{{"container":"mp4","duration_seconds":{0}.0,"bit_rate":{1},"size_bytes":{1},"video":{{"codec":"h264","width":320,'
    '"height":180,"display_width":320,"display_height":180,"frame_rate":15.0,"frames":{0}}},"audio":{{"codec":"aac",'
    '"channels":2,"sample_rate":48000,"decoded":true}},"poster":"poster.jpg","packets":{0},"bad_packets":0,'
    '"verified_share":1.0,"passed_over":[]}}'
)
JOB = (
    *("id", "owner_id", "name", "processor", "options", "source", "columns", "total_videos", "found", "status"),
    *("attempt", "lease_id", "current_video", "failed", "progress", "message", "video_id", "error", "created_at"),
    *("updated_at", "started_at", "finished_at", "on_dashboard", "seq", "removed_seq", "name_folded", "name_key"),
)
VIDEO = ("job_id", "position", "video_id", "line", "cells", "status", "attempts")
RESULT = (
    *("job_id", "position", "attempt", "error", "trace", "fault", "fingerprint", "result", "started_at"),
    "duration_seconds",
)
Row = tuple[object, ...]


@dataclass(frozen=True)
class Drawn:
    """A job and its videos, as rows."""

    job: Row
    videos: list[Row]
    results: list[Row]


def fill(data_dir: Path, jobs: int, videos: int, *, seed: int = 7) -> None:
    """Add this many jobs with this many videos each; the newest `PRESENT_JOBS` (at most half) are on the dashboard."""
    location = location_of(data_dir / FILE)
    if isinstance(location, DatabaseUrl):
        _fill_postgres(location, jobs, videos, seed)
        return
    with closing(sqlite3.connect(location, isolation_level=None)) as connection:
        for pragma in ("synchronous=OFF", "cache_size=-400000", "journal_size_limit=0"):
            connection.execute(f"PRAGMA {pragma}")
        later = _without_indexes(connection)
        _add_shared(connection.execute, mark="?")
        drawn = _drawn(jobs, videos, random.Random(seed))
        while chunk := list(islice(drawn, JOBS_AT_ONCE)):
            _add(connection, chunk)
        for statement in later:
            connection.execute(statement)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _fill_postgres(url: DatabaseUrl, jobs: int, videos: int, seed: int) -> None:
    with psycopg.connect(url.secret) as connection, connection.cursor() as cursor:
        _add_shared(cursor.execute, mark="%s")
        drawn = _drawn(jobs, videos, random.Random(seed))
        while chunk := list(islice(drawn, JOBS_AT_ONCE)):
            for table, columns, rows in _rows_of(chunk):
                with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()) as copy:
                    for row in rows:
                        copy.write_row(row)
    with psycopg.connect(url.secret, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def _without_indexes(connection: sqlite3.Connection) -> list[str]:
    """Drop what is written faster at the end; return the statements for it."""
    found = (
        "SELECT type, name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND tbl_name IN ('job', 'video')"
    )
    parts = [part for part in connection.execute(found).fetchall() if part[2]]
    for kind, name, _ in parts:
        connection.execute(f"DROP {kind} {name}")
    words = (
        "INSERT INTO job_words (rowid, words) SELECT number, name_folded || char(31) || "
        "coalesce(error_folded, lower(error), '') FROM job WHERE NOT on_dashboard "
        "AND number > (SELECT coalesce(max(rowid), 0) FROM job_words)"
    )
    return [*(sql for _, _, sql in parts), words]


def _rows_of(chunk: list[Drawn]) -> list[tuple[str, Sequence[str], list[Row]]]:
    """Return each table with its columns and its rows of these jobs."""
    by_id = sorted(chunk, key=lambda drawn: str(drawn.job[0]))
    return [
        ("job", JOB, [drawn.job for drawn in chunk]),
        ("video", VIDEO, [row for drawn in by_id for row in drawn.videos]),
        ("result", RESULT, [row for drawn in chunk for row in drawn.results]),
    ]


def _add(connection: sqlite3.Connection, chunk: list[Drawn]) -> None:
    connection.execute("BEGIN")
    for table, columns, rows in _rows_of(chunk):
        marks = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
    connection.execute("COMMIT")


def _traces() -> list[Trace]:
    """Return the stack traces of `ERRORS`."""
    found = [shared_trace(TRACE.format(error), error) for error in ERRORS]
    return [trace for trace in found if trace is not None]


def _add_shared(execute: Callable[[str, Row], object], *, mark: str) -> None:
    """Add the owners and the stack traces, unless they are there."""
    marks = f"{mark}, {mark}, {mark}"
    for number in range(OWNERS):
        owner = (f"owner-{number}", f"owner-{number}", 0)
        columns = "id, name, created_at, is_admin, disabled"
        execute(f'INSERT INTO "user" ({columns}) VALUES ({marks}, false, false) ON CONFLICT DO NOTHING', owner)
    for trace in _traces():
        columns, values = "digest, body, uses", (trace.digest, trace.body, 10**9)
        execute(f"INSERT INTO trace ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING", values)


def _drawn(jobs: int, videos: int, rng: random.Random) -> Iterator[Drawn]:
    digests = [trace.digest for trace in _traces()]
    began = to_millis(datetime.now(UTC)) - jobs * APART
    present = min(PRESENT_JOBS, jobs // 2)
    for number in range(jobs):
        yield _draw(number, began + number * APART, videos, rng, digests, on_dashboard=number >= jobs - present)


def _draw(number: int, at: int, videos: int, rng: random.Random, digests: list[bytes], *, on_dashboard: bool) -> Drawn:
    job_id = str(UUID(int=rng.getrandbits(128), version=4))
    [status] = rng.choices([one for one, _ in STATUSES], [weight for _, weight in STATUSES])
    name = f"{rng.choice(SUBJECTS)} {2020 + number % 7}-{1 + number % 12:02}-{1 + number % 28:02} {number}.csv"
    failing = videos if status == "failed" else videos // 5 if status == "completed_with_errors" else 0
    rows: list[Row] = []
    results: list[Row] = []
    error = None
    for position in range(videos):
        video_id = urlsafe_b64encode(rng.randbytes(8)).decode()[:11]
        is_failed = position < failing
        rows.append(
            (job_id, position, video_id, position + 2, f'["{video_id}"]', "failed" if is_failed else "completed", 1)
        )
        if is_failed:
            which = rng.randrange(len(ERRORS))
            error = ERRORS[which].format(rng.randrange(10, 99))
            outcome: Row = (error, digests[which], "permanent", f"81e10f5a51{which:02}", None)
        else:
            outcome = (None, None, None, None, FACTS.format(100 + position, number + 10**7))
        results.append((job_id, position, 1, *outcome, at + position, 1.5))
    owner = f"owner-{0 if rng.random() < 0.5 else rng.randrange(OWNERS)}"
    facts = (owner, name, "probe", "{}", "media", '["video_id"]', videos, videos, status, 1, 1, videos, failing, 100)
    message = f"Done, {failing} of {videos} videos failed"
    times = (at, at + videos, at, at + videos)
    place = (int(on_dashboard), at * 1000, None if on_dashboard else at * 1000 + 1)
    job = (job_id, *facts, message, video_id, error, *times, *place, folded(name), sort_key(name))
    return Drawn(job, rows, results)
