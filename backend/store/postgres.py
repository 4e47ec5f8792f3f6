"""PostgreSQL: one writing connection, which is that of the leader, and several for consistent reads.

What SQLite's upkeep does by hand, PostgreSQL does itself: autovacuum gives room back and keeps the statistics.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import psycopg
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.exc import DBAPIError

from backend.command import command
from backend.database_url import DatabaseUrl
from backend.errors import CannotStart, Invalid, StoreRefused
from backend.store.connecting import CONNECTION, NUL, NUL_SHOWN, SESSION
from backend.store.leading import Lead
from backend.store.migrating import MARKER, known_revisions, migrate, revision_of
from backend.store.postgres_tables import BEGINS_AT, TABLES
from backend.store.revisions import newest_revision
from backend.store.rows import compact_json
from backend.store.transactions import READERS, Database

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")
MIN_VERSION = 14
MIGRATION_LOCK = 7_363_522
ANSWER_SECONDS = 10.0  # without an answer, after which a connection is given up
CHECK_SECONDS = 2.0  # without an answer to a question that costs nothing
BEAT_SECONDS = 1.0  # without a write, after which the leader says that it is there
UNREACHABLE = ("PostgreSQL cannot be reached", "start it, or correct DASHBOARD_DATABASE_URL")
SILENT = "The data cannot be reached right now (PostgreSQL does not answer); try again in a moment."
TEMPORARY_STATES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "25006": ("it can only be read", "connect to the primary"),
        "55P03": ("another program holds it", "end that program"),
    }
)
TEMPORARY_CLASSES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "08": UNREACHABLE,
        "40": ("another transaction was in the way", "try again"),
        "53": ("PostgreSQL has run out of disk, memory or connections", "make room"),
        "57": ("PostgreSQL is stopping or starting", "wait a moment"),
        "58": ("PostgreSQL reports an error of its system", "check its disk and its log"),
    }
)


class NulFreeDumper(StrDumperUnknown):
    """Texts without NUL, which PostgreSQL does not have: one that is looked for is not found, as in SQLite."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace(NUL, NUL_SHOWN) if NUL in obj else obj)


class MarkedCursor:
    """The driver's cursor, for statements that mark their values with `?`."""

    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self._cursor = cursor
        self.fetchone, self.fetchall, self.__iter__ = cursor.fetchone, cursor.fetchall, cursor.__iter__

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> psycopg.Cursor[Any]:
        return self._cursor.execute(_marked(statement), values)


@cache
def _marked(statement: str) -> Any:
    return statement.replace("?", "%s")


class Call:
    """One piece of work in a thread, which another thread can break off."""

    def __init__(self) -> None:
        self._connection: psycopg.Connection[Any] | None = None
        self._answered: float | None = None

    def begin(self) -> None:
        self._answered = time.monotonic()

    def answered(self, connection: psycopg.Connection[Any]) -> None:
        self._connection, self._answered = connection, time.monotonic()

    def end(self) -> None:
        self._connection = self._answered = None

    @property
    def silent_seconds(self) -> float:
        """The time since the last answer; 0 before it begins."""
        return 0.0 if self._answered is None else time.monotonic() - self._answered

    def break_off(self) -> None:
        """End the connection, so that the thread gets an error."""
        if (connection := self._connection) is not None:
            with suppress(psycopg.Error, OSError, ValueError), socket.socket(fileno=os.dup(connection.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)


class PostgresDatabase(Database):
    """Transactions on one PostgreSQL database. A committed write survives also a power cut."""

    dialect: Literal["postgresql"] = "postgresql"
    may_go_away = True

    def __init__(self, url: DatabaseUrl, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.url = url
        self._answer_seconds = answer_seconds
        self._lead = Lead()
        self._calls = threading.local()
        super().__init__(
            _engine(url, pool_size=1, prepare=self._lead.retake, answered=self._answered),
            _engine(url, pool_size=READERS, prepare=_only_read, answered=self._answered),
        )
        self._asking = _engine(url, pool_size=1, prepare=_only_read, answered=self._answered)
        self._asker = ThreadPoolExecutor(1, "store-check")
        self._question: asyncio.Future[None] | None = None
        self._is_silent = False
        self._written_at = 0.0

    async def write(self, step: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        def work(connection: Connection) -> T:
            if self._lead.life is not None:
                self._lead.prove(connection)
            return step(connection, *args, **kwargs)

        return await self._write(work)

    async def commit(self, step: Callable[[Connection], None], *, seq: int) -> None:
        if self._lead.life is None or not seq:
            await self.write(step)
            return

        def work(connection: Connection) -> None:
            if self._lead.is_new(connection, seq):
                step(connection)

        await self._write(work)

    async def check(self) -> None:
        """Ask if the database is there, and keep the lead. Raises `StoreRefused`, `LeadLost`."""
        if self._question is None:
            self._question = asyncio.get_running_loop().run_in_executor(self._asker, self._ask)
        answered, _ = await asyncio.wait({self._question}, timeout=CHECK_SECONDS)
        self._is_silent = not answered
        if not answered:
            raise StoreRefused(SILENT)
        question, self._question = self._question, None
        try:
            question.result()
        except DBAPIError as error:
            self._raise_refusal(error, "reached")
            raise
        if time.monotonic() - self._written_at > BEAT_SECONDS and self._lead.life is not None:
            await self.write(lambda connection: None)

    def take_lead(self) -> None:
        try:
            self._lead.take(self._writing)
        except DBAPIError as error:
            raise _cannot_start(self.url, error) from error

    def close(self) -> None:
        if self._lead.life is not None:
            with suppress(DBAPIError, StoreRefused):
                self._writer.submit(self._lead.resign, self._writing).result(CHECK_SECONDS)
        self._asker.shutdown()
        super().close()
        self._asking.dispose()

    def write_now(self, work: Callable[[Connection], T]) -> T:
        try:
            return super().write_now(work)
        finally:
            self._written_at = time.monotonic()

    def read_now(self, work: Callable[[Connection], T]) -> T:
        try:
            return super().read_now(work)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return super().read_now(work)  # on a new connection: SQLAlchemy gave up all that waited idle meanwhile

    def _read_by_cursor_now(self, work: Callable[[Any], T]) -> T:
        ended: psycopg.Error
        for _ in range(READERS + 1):  # all idle connections have ended when PostgreSQL is started again
            with closing(self._reading.raw_connection()) as connection:
                try:
                    driver: Any = connection.cursor()
                    with closing(driver) as cursor:
                        return work(MarkedCursor(cursor))
                except psycopg.Error as error:
                    if not getattr(connection.dbapi_connection, "closed", True):
                        raise
                    connection.invalidate(error)
                    ended = error
        raise ended

    async def _write(self, work: Callable[[Connection], T]) -> T:
        try:
            return await self._patiently(self._writer, self.write_now, work)
        except (DBAPIError, psycopg.Error) as error:
            self._raise_refusal(error, "written")
            raise

    async def _read(self, read_now: Callable[[Callable[[C], T]], T], work: Callable[[C], T]) -> T:
        if self._is_silent:
            raise StoreRefused(SILENT)
        try:
            return await self._patiently(self._readers, read_now, work)
        except (DBAPIError, psycopg.Error) as error:
            self._raise_refusal(error, "read")
            if isinstance(_cause(error), psycopg.DataError):
                raise Invalid("A value of the request is out of range; correct it.") from None
            raise

    async def _patiently(self, threads: Executor, run: Callable[[Callable[[C], T]], T], work: Callable[[C], T]) -> T:
        """Run the work in a thread, and give it up when the database does not answer."""
        call = Call()
        done = asyncio.get_running_loop().run_in_executor(threads, self._run, call, run, work)
        while True:
            await asyncio.wait({done}, timeout=self._answer_seconds)
            if done.done():
                return await done
            if call.silent_seconds >= self._answer_seconds:
                call.break_off()
                done.add_done_callback(_look_at)
                raise StoreRefused(SILENT)

    def _run(self, call: Call, run: Callable[[Callable[[C], T]], T], work: Callable[[C], T]) -> T:
        self._calls.call = call
        call.begin()
        try:
            return run(work)
        finally:
            call.end()
            self._calls.call = None

    def _answered(self, connection: psycopg.Connection[Any]) -> None:
        call: Call | None = getattr(self._calls, "call", None)
        if call is not None:
            call.answered(connection)

    def _ask(self) -> None:
        with self._asking.connect() as connection:
            connection.exec_driver_sql("SELECT 1")

    def _temporary_error(self, error: Exception) -> tuple[str, str] | None:
        return _temporary_error(error)


def open_postgres(url: DatabaseUrl, *, migrations: Path, is_for_move: bool = False) -> PostgresDatabase:
    """Open the database; one without tables gets them, under a lock, so that two programs may start at once.

    Raises `CannotStart` if it cannot be reached or used, is too old, or if a move to it was not finished.
    """
    engine = _engine(url, pool_size=1, prepare=lambda connection: None, answered=lambda connection: None)
    try:
        with engine.begin() as connection:
            _require_fitting(connection, url)
            if revision_of(connection) != newest_revision(migrations):
                _upgrade(connection, url, migrations)
            if not is_for_move and inspect(connection).has_table(MARKER):
                again = command("move-to")
                raise CannotStart(f"The move to the database {url} was not finished; run `{again}` again.")
    except DBAPIError as error:
        raise _cannot_start(url, error) from error
    finally:
        engine.dispose()
    return PostgresDatabase(url)


def _upgrade(connection: Connection, url: DatabaseUrl, migrations: Path) -> None:
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    present = revision_of(connection)  # another program may have been faster
    if present is None:
        connection.exec_driver_sql(TABLES)
        migrate(connection, migrations, begun_at=BEGINS_AT)
    elif present not in known_revisions(migrations):
        raise CannotStart(f"The database {url} was written by a newer version of this program; install that version.")
    else:
        migrate(connection, migrations)


def _require_fitting(connection: Connection, url: DatabaseUrl) -> None:
    driver: Any = connection.connection.dbapi_connection
    version = driver.info.server_version // 10_000
    if version < MIN_VERSION:
        raise CannotStart(f"The database {url} is PostgreSQL {version}; {MIN_VERSION} or newer is needed.")
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise CannotStart(f"The database {url} stores texts as {encoding}; make one with ENCODING 'UTF8'.")


def _cannot_start(url: DatabaseUrl, error: DBAPIError) -> CannotStart:
    cause = _cause(error)
    words = str(cause).splitlines()[0].removeprefix("connection failed: ").rstrip(".")
    for secret in url.secrets:
        words = words.replace(secret, "***")
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        return CannotStart(f"The database {url} cannot be used ({words}); make its user the owner of the database.")
    return CannotStart(f"The database {url} cannot be opened ({words}); start PostgreSQL, or correct the address.")


def _engine(
    url: DatabaseUrl,
    *,
    pool_size: int,
    prepare: Callable[[psycopg.Connection[Any]], None],
    answered: Callable[[psycopg.Connection[Any]], None],
) -> Engine:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=partial(_connect, url, prepare),
        pool_size=pool_size,
        max_overflow=0,
        pool_use_lifo=True,
        json_serializer=compact_json,
        use_native_hstore=False,
    )
    event.listen(engine, "checkout", lambda connection, *_: answered(connection))
    event.listen(
        engine, "after_cursor_execute", lambda connection, *_: answered(connection.connection.dbapi_connection)
    )
    return engine


def _connect(url: DatabaseUrl, prepare: Callable[[psycopg.Connection[Any]], None]) -> psycopg.Connection[Any]:
    connection = psycopg.connect(url.secret, autocommit=True, **CONNECTION)  # type: ignore[arg-type]
    try:
        connection.adapters.register_dumper(str, NulFreeDumper)
        connection.execute(SESSION)
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        prepare(connection)
        connection.autocommit = False
    except BaseException:
        connection.close()
        raise
    return connection


def _only_read(connection: psycopg.Connection[Any]) -> None:
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True


def _temporary_error(error: Exception) -> tuple[str, str] | None:
    cause = _cause(error)
    if not isinstance(cause, psycopg.Error):
        return None
    if cause.sqlstate is None:
        return UNREACHABLE if isinstance(cause, psycopg.OperationalError) else None
    return TEMPORARY_STATES.get(cause.sqlstate) or TEMPORARY_CLASSES.get(cause.sqlstate[:2])


def _cause(error: Exception) -> BaseException:
    return (error.orig or error) if isinstance(error, DBAPIError) else error


def _look_at(done: asyncio.Future[Any]) -> None:
    """Take the error of work that nobody waits for."""
    if not done.cancelled():
        done.exception()
