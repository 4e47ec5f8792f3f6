"""The SQLite file: one writer thread, several reader threads, and migrations before anything else."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry

from backend.errors import CannotStart
from backend.store.migrating import known_revisions, migrate, revision_of
from backend.store.revisions import newest_revision
from backend.store.rows import compact_json
from backend.store.transactions import READERS, Cursor, Database, driver_error
from backend.store.upkeep import finish_upgrade

T = TypeVar("T")
BUSY_SECONDS = 5.0
WRITER_CACHE_KIB, READER_CACHE_KIB = 32 * 1024, 2 * 1024  # a tick's pages must not spill before the commit
CHECKPOINT_SECONDS = 1.0  # between two checkpoints while there are writes
CHECKPOINT_BYTES = 4 * 2**20  # of the log's file, before the first one
CHECKPOINT_PAGES = 10_000  # 40 MiB, after which the writer makes one itself, and a tick waits for it
PRIMARY_CODE = 0xFF  # the part of an SQLite error code that names its kind
TEMPORARY_ERRORS: Mapping[int, tuple[str, str]] = MappingProxyType(  # each with its reason and its remedy
    {
        sqlite3.SQLITE_FULL: ("the disk is full", "make room"),
        sqlite3.SQLITE_READONLY: ("it can only be read", "make the file and its directory writable"),
        sqlite3.SQLITE_BUSY: ("another program holds it", "end that program"),
        sqlite3.SQLITE_LOCKED: ("another program holds it", "end that program"),
        sqlite3.SQLITE_PROTOCOL: ("another program holds it", "end that program"),
        sqlite3.SQLITE_IOERR: ("the disk reports an error", "check the disk and how much room it has"),
        sqlite3.SQLITE_CANTOPEN: ("its files cannot be opened", "check the directory"),
    }
)


class Checkpoints:
    """Copies what was written from the log into the file, beside the writer: ticks would wait for it in a commit."""

    def __init__(self, path: Path, *, every_seconds: float = CHECKPOINT_SECONDS) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._every_seconds = every_seconds
        self._thread = ThreadPoolExecutor(1, "store-checkpoint")
        self._connection: sqlite3.Connection | None = None
        self._newest = time.monotonic()

    def make_soon(self) -> None:
        """Make one, unless the newest is from a moment ago."""
        now = time.monotonic()
        if now - self._newest >= self._every_seconds:
            self._newest = now
            self._thread.submit(self._make)

    def close(self) -> None:
        """Wait for the last one, after the last write."""
        self._thread.shutdown()
        if self._connection is not None:
            self._connection.close()

    def _make(self) -> None:
        with suppress(OSError, sqlite3.Error):  # what is not copied now is copied by the next one, or by the writer
            if self._log.stat().st_size < CHECKPOINT_BYTES:
                return
            if self._connection is None:
                uri = f"{self._path.absolute().as_uri()}?mode=rw"
                self._connection = sqlite3.connect(uri, uri=True, timeout=0, check_same_thread=False)
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


class SqliteDatabase(Database):
    """Transactions on one SQLite file.

    A committed write survives the end of the process (WAL, synchronous NORMAL); a power cut may lose the last ones.
    """

    dialect: Literal["sqlite"] = "sqlite"

    def __init__(self, path: Path) -> None:
        super().__init__(
            _engine(path, "BEGIN IMMEDIATE", pool_size=1, cache_kib=WRITER_CACHE_KIB),
            _engine(path, "BEGIN", pool_size=READERS),
        )
        self.path = path
        self._checkpoints = Checkpoints(path)

    def finish_upgrade(self) -> None:
        finish_upgrade(self.path)

    def write_now(self, work: Callable[[Connection], T]) -> T:
        written = super().write_now(work)
        self._checkpoints.make_soon()
        return written

    def close(self) -> None:
        super().close()
        self._checkpoints.close()

    def _read_by_cursor_now(self, work: Callable[[Cursor], T]) -> T:
        with closing(self._reading.raw_connection()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("BEGIN")
            return work(cast(Cursor, cursor))

    def _temporary_error(self, error: Exception) -> tuple[str, str] | None:
        return _temporary_error(error)


def open_sqlite(path: Path, *, backups: Path, migrations: Path) -> SqliteDatabase:
    """Open the database at `path`; create it, or migrate it after a copy to `backups`.

    Raises `CannotStart` if the file is not a database of this program, is damaged, or was written by a newer version.
    """
    try:
        # SQLite gives its side files the same mode, so that no other user can read the password hashes.
        path.touch(mode=0o600)
        _upgrade(path, backups, migrations)
    except OSError as error:
        raise CannotStart(f"The database {path} cannot be written ({error.strerror}); check the directory.") from error
    except (DatabaseError, sqlite3.DatabaseError) as error:
        reason, remedy = _temporary_error(error) or (f"{driver_error(error)}", "move it away or restore a backup")
        sentence = f"The database {path} cannot be opened ({reason}); {remedy}."
        raise CannotStart(sentence) from error
    return SqliteDatabase(path)


def copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite file that may be in use, consistently."""
    with sqlite3.connect(f"file:{source}?mode=ro", uri=True) as read, sqlite3.connect(target) as written:
        read.backup(written)
    read.close()
    written.close()


def _upgrade(path: Path, backups: Path, migrations: Path) -> None:
    engine = _engine(path, "BEGIN IMMEDIATE", pool_size=1)
    try:
        with engine.begin() as connection:
            present = revision_of(connection)
        if present == newest_revision(migrations):
            return
        if present is not None:
            _back_up(path, backups, present, known_revisions(migrations))
        with engine.begin() as connection:
            migrate(connection, migrations)
    finally:
        engine.dispose()


def _back_up(path: Path, backups: Path, present: str, known: set[str]) -> None:
    if present not in known:
        raise CannotStart(f"The database {path} was written by a newer version of this program; install that version.")
    backups.mkdir(mode=0o700, exist_ok=True)
    copy_database(path, backups / f"before-upgrade-from-{present}.sqlite3")


def _engine(path: Path, begin: str, *, pool_size: int, cache_kib: int = READER_CACHE_KIB) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        pool_size=pool_size,
        max_overflow=0,
        pool_use_lifo=True,  # the connection that was used last has the pages in its cache
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
        json_serializer=compact_json,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver's own implicit BEGIN would come too late for IMMEDIATE
        for pragma in (
            "journal_mode=WAL",
            f"wal_autocheckpoint={CHECKPOINT_PAGES}",
            f"cache_size=-{cache_kib}",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            f"busy_timeout={int(BUSY_SECONDS * 1000)}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _temporary_error(error: Exception) -> tuple[str, str] | None:
    code = getattr(driver_error(error), "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return TEMPORARY_ERRORS.get(code & PRIMARY_CODE)
