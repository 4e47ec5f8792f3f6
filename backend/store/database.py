"""The SQLite file: one writer thread, several reader threads, and migrations before anything else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Concatenate, ParamSpec, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry

from backend.errors import CannotStart, StoreRefused
from backend.store.revisions import MIGRATIONS, newest_revision
from backend.store.rows import compact_json

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")
BUSY_SECONDS = 5.0
READERS = 8
WRITER_CACHE_KIB, READER_CACHE_KIB = 32 * 1024, 2 * 1024  # a tick's pages must not spill before the commit
CHECKPOINT_PAGES = 10_000  # 40 MiB: pages that every tick rewrites are copied once
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


class Database:
    """Transactions on one SQLite file: writes run one after the other, reads at the same time.

    A committed write survives the end of the process (WAL, synchronous NORMAL); a power cut may lose the last ones.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = _engine(path, "BEGIN IMMEDIATE", pool_size=1, cache_kib=WRITER_CACHE_KIB)
        self._reading = _engine(path, "BEGIN", pool_size=READERS)
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._readers = ThreadPoolExecutor(READERS, "store-reader")

    async def write(self, step: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `step(connection, …)` in one transaction, after all earlier ones; it is committed when this returns.

        Raises `StoreRefused` if the database is locked, full or read-only: nothing was written.
        """

        def work(connection: Connection) -> T:
            return step(connection, *args, **kwargs)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._writer, self.write_now, work)
        except DatabaseError as error:
            _raise_refusal(error, "written")
            raise

    async def read(self, step: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `step(connection, …)` on one consistent view of the committed data.

        Raises `StoreRefused` if the database cannot be read now.
        """

        def work(connection: Connection) -> T:
            return step(connection, *args, **kwargs)

        return await self._read(self.read_now, work)

    async def read_by_cursor(self, work: Callable[[sqlite3.Cursor], T]) -> T:
        """Read through the driver's own cursor, where SQLAlchemy would take most of the time."""
        return await self._read(self._read_by_cursor_now, work)

    async def _read(self, read_now: Callable[[Callable[[C], T]], T], work: Callable[[C], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, read_now, work)
        except (DatabaseError, sqlite3.DatabaseError) as error:
            _raise_refusal(error, "read")
            raise

    def write_now(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as `write` does, without an event loop."""
        with self._writing.begin() as connection:
            return work(connection)

    def read_now(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as `read` does, without an event loop."""
        with self._reading.connect() as connection:
            return work(connection)

    def _read_by_cursor_now(self, work: Callable[[sqlite3.Cursor], T]) -> T:
        with closing(self._reading.raw_connection()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("BEGIN")
            return work(cast(sqlite3.Cursor, cursor))

    def close(self) -> None:
        """Wait for the last transaction and close the file."""
        self._writer.shutdown()
        self._readers.shutdown()
        self._writing.dispose()
        self._reading.dispose()


def open_database(path: Path, *, backups: Path, migrations: Path = MIGRATIONS) -> Database:
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
        reason, remedy = _temporary_error(error) or (f"{_cause(error)}", "move it away or restore a backup")
        sentence = f"The database {path} cannot be opened ({reason}); {remedy}."
        raise CannotStart(sentence) from error
    return Database(path)


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
            present = _revision(connection)
        if present != newest_revision(migrations):
            _migrate(engine, path, present, backups, migrations)
    finally:
        engine.dispose()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _migrate(engine: Engine, path: Path, present: str | None, backups: Path, migrations: Path) -> None:
    from alembic import command  # takes as long to load as all else that the database needs
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migrations))
    script = ScriptDirectory.from_config(config)
    if present == script.get_current_head():
        return
    if present is not None:
        _back_up(path, backups, present, {revision.revision for revision in script.walk_revisions()})
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


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


def _raise_refusal(error: DatabaseError | sqlite3.DatabaseError, done: str) -> None:
    """Raise `StoreRefused` if a later try may succeed."""
    if found := _temporary_error(error):
        raise StoreRefused(f"The data cannot be {done} right now ({found[0]}); try again in a moment.") from error


def _temporary_error(error: DatabaseError | sqlite3.DatabaseError) -> tuple[str, str] | None:
    code = getattr(_cause(error), "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return TEMPORARY_ERRORS.get(code & PRIMARY_CODE)


def _cause(error: DatabaseError | sqlite3.DatabaseError) -> BaseException:
    """Return the driver's own error."""
    return (error.orig or error) if isinstance(error, DatabaseError) else error
