"""What an upgrade of the database leaves to do: it takes minutes for millions of rows, so that it can be interrupted.

Each step is one short transaction, and what is left to do shows in the database itself: the table `LEFTOVER` exists
until everything is done. After Ctrl-C, or a kill at any moment, the next start of the server continues.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple
from pathlib import Path
from types import FrameType
from typing import Any

from backend.errors import CannotStart
from backend.store.traces import shared_trace

log = logging.getLogger(__name__)
LEFTOVER = "result_before_0007"
ROWS_AT_ONCE = 2_000
REPORT_SECONDS = 5.0
BUSY_SECONDS = 60.0
INSTRUCTIONS_BETWEEN_CHECKS = 100_000  # of SQLite, about a millisecond
WORTH_MIB, WORTH_SHARE = 16, 0.1
VACUUM_MIB_PER_SECOND = 40  # on a slow disk
FIELDS = (
    *("job_id", "position", "attempt", "error", "traceback", "fault", "fingerprint"),
    *("job_attempt", "tries", "result", "started_at", "duration_seconds", "error_folded"),
)
_OLDEST = f"SELECT {', '.join(FIELDS)} FROM {LEFTOVER} ORDER BY job_id, position, attempt LIMIT {ROWS_AT_ONCE}"  # noqa: S608  our own names
_ADDED = ("trace" if name == "traceback" else name for name in FIELDS)
_ADD = f"INSERT INTO result ({', '.join(_ADDED)}) VALUES ({', '.join('?' * len(FIELDS))})"  # noqa: S608
_MOVED = f"DELETE FROM {LEFTOVER} WHERE (job_id, position, attempt) <= (?, ?, ?)"  # noqa: S608
_ADD_TRACE = (
    "INSERT INTO trace (digest, body, uses) VALUES (?, ?, ?) ON CONFLICT (digest) DO UPDATE SET uses = uses + 1"
)
_ADD_WORDS = """
INSERT INTO job_words (rowid, words)
SELECT number, name_folded || char(31) || coalesce(error_folded, lower(error), '') FROM job
WHERE number > ? AND number <= ? AND NOT on_dashboard
"""


class Interrupted(CannotStart):
    """The upgrade of the database was stopped. Nothing is lost: the next start continues it."""


def finish_upgrade(path: Path) -> None:
    """Do what the last upgrade of the database at `path` left to do; nothing, as a rule.

    Only the server that owns the database calls it. Raises `Interrupted` after Ctrl-C or SIGTERM.
    """
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        if not _exists(connection, LEFTOVER):
            return
        try:
            with _stoppable(connection) as check:
                _collect_words(connection, check)
                _move_results(connection, check)
                _shrink(connection, path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise Interrupted from None
            raise
        connection.execute(f"DROP TABLE {LEFTOVER}")


def _collect_words(connection: sqlite3.Connection, check: Callable[[], None]) -> None:
    """Fill the search index with the jobs that have left the dashboard."""
    (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM job").fetchone()
    (done,) = connection.execute("SELECT coalesce(max(rowid), 0) FROM job_words").fetchone()
    countdown = Countdown("names and errors are collected for searching", last - done)
    for begin in range(done, last, ROWS_AT_ONCE):
        check()
        with _transaction(connection):
            connection.execute(_ADD_WORDS, (begin, begin + ROWS_AT_ONCE))
        countdown.add(ROWS_AT_ONCE)


def _move_results(connection: sqlite3.Connection, check: Callable[[], None]) -> None:
    """Move the results into their new table; each stack trace is stored once."""
    (rows,) = connection.execute(f"SELECT count(*) FROM {LEFTOVER}").fetchone()  # noqa: S608
    countdown = Countdown("results are moved", rows)
    while True:
        check()
        with _transaction(connection):
            moved = _move_some(connection)
        countdown.add(moved)
        if moved < ROWS_AT_ONCE:
            return


def _move_some(connection: sqlite3.Connection) -> int:
    rows = [dict(zip(FIELDS, row, strict=True)) for row in connection.execute(_OLDEST)]
    traces = [shared_trace(row["traceback"], row["error"]) for row in rows]
    connection.executemany(_ADD_TRACE, [astuple(trace) for trace in traces if trace is not None])
    for row, trace in zip(rows, traces, strict=True):
        row["traceback"] = trace and trace.digest
        row["result"] = row["result"] and json.dumps(json.loads(row["result"]), separators=(",", ":"))
    connection.executemany(_ADD, [tuple(row.values()) for row in rows])
    if rows:
        connection.execute(_MOVED, tuple(rows[-1][name] for name in ("job_id", "position", "attempt")))
    return len(rows)


def _shrink(connection: sqlite3.Connection, path: Path) -> None:
    """Give the room that is free in the file back to the disk, where that is worth the time and there is room to."""
    size, free = (
        _pragma(connection, "page_size") * _pragma(connection, name) for name in ("page_count", "freelist_count")
    )
    if free < max(WORTH_MIB * 2**20, size * WORTH_SHARE):
        return
    kept_mib, room_mib = (size - free) >> 20, shutil.disk_usage(path.parent).free >> 20
    extra = {"action": "database_vacuumed"}
    if room_mib < 2 * kept_mib:
        log.warning("the database file keeps its size: making it smaller needs %d MiB", 2 * kept_mib, extra=extra)
        return
    seconds = max(1, round(2 * kept_mib / VACUUM_MIB_PER_SECOND))
    log.info(
        "the database file is made smaller, from %d to about %d MiB, in about %d s; Ctrl-C stops it, and the next "
        "start continues",
        *(size >> 20, kept_mib, seconds),
        extra=extra,
    )
    began = time.monotonic()
    try:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise
        log.warning("the database file keeps its size (%s)", error, extra=extra)
    else:
        log.info("the database file was made smaller in %.0f s", time.monotonic() - began, extra=extra)


class Countdown:
    """Says how far the work is and how long it still takes, every few seconds."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._began = self._said = time.monotonic()

    def add(self, rows: int) -> None:
        """Count rows that are done."""
        self._done += rows
        now = time.monotonic()
        if now - self._said < REPORT_SECONDS:
            return
        self._said = now
        left = (now - self._began) * (self._total - self._done) / self._done
        log.info(
            "the database is upgraded: %s, %d %% done, about %d s left; Ctrl-C stops it, and the next start continues",
            *(self._what, 100 * self._done // self._total, left),
            extra={"action": "database_upgraded"},
        )


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set meanwhile, instead of what they usually do."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    in_main = threading.current_thread() is threading.main_thread()
    before: Sequence[Any] = [signal.signal(number, stop) for number in _SIGNALS] if in_main else ()
    try:
        yield stopped
    finally:
        for number, handler in zip(_SIGNALS, before, strict=False):
            signal.signal(number, handler)


@contextmanager
def _stoppable(connection: sqlite3.Connection) -> Iterator[Callable[[], None]]:
    """Let Ctrl-C and SIGTERM interrupt SQLite; yields a check for the pauses between two steps."""
    with stop_requests() as stopped:

        def check() -> None:
            if stopped.is_set():
                raise Interrupted

        connection.set_progress_handler(stopped.is_set, INSTRUCTIONS_BETWEEN_CHECKS)
        try:
            yield check
        finally:
            connection.set_progress_handler(None, 0)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # SQLite itself takes an interrupted one back
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _exists(connection: sqlite3.Connection, table: str) -> bool:
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone())


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
