"""Databases for tests, on SQLite or PostgreSQL, and what a test does to them from outside.

A database belongs to the path of the file that SQLite would keep it in, on PostgreSQL too: there it has a name that
follows from the path, so that every process of a test finds the same one. New databases are copies of one that was
migrated once, because migrations are half of a short test.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, NullPool, create_engine, text

from backend.database_url import DatabaseUrl
from backend.settings import SQLITE, Settings, load_settings
from backend.store.database import Database, open_database

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

# The address of the server on which this process and those that it starts make their databases; unset: SQLite files.
SERVER_VARIABLE = "TESTS_POSTGRESQL"
KINDS = ("sqlite", "postgresql")
OPTION = "--database"
FILE = "dashboard.sqlite3"
TEMPLATE = "migrated"
LEAVE_SECONDS, POLL_SECONDS = 30, 0.01
LOCK_SECONDS = 30
OTHER_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
OF_WORKERS = "(tablename IN ('run', 'worker') OR tablename LIKE 'procrastinate%')"
LEADING_SESSIONS = (
    "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
    " WHERE locktype = 'advisory' AND objid = :lock AND datname = current_database()"
)
_made: dict[Path, str] = {}


def is_postgresql() -> bool:
    """Return True if the tests make their databases on PostgreSQL."""
    return SERVER_VARIABLE in os.environ


def chosen_kind() -> str:
    """Return which of `KINDS` the tests use."""
    return "postgresql" if is_postgresql() else "sqlite"


@contextmanager
def on_postgresql(*, locale: str = "C") -> Iterator[None]:
    """Start a PostgreSQL server, on which this process and those that it starts make their databases meanwhile.

    Within another such block that block's server is used.
    """
    from tests.support.postgres import PostgresServer  # most tests need no driver for it

    if is_postgresql():
        yield
        return
    with PostgresServer.made(locale=locale) as server, on_server(server):
        yield


@contextmanager
def on_server(server: PostgresServer) -> Iterator[None]:
    """Let this process, and those that it starts meanwhile, make their databases on this server."""
    from tests.support.postgres import create_database

    before, made = os.environ.get(SERVER_VARIABLE), dict(_made)
    create_database(server.url, TEMPLATE)
    open_database(DatabaseUrl(f"{server.url}/{TEMPLATE}"), backups=Path()).close()
    os.environ[SERVER_VARIABLE] = server.url
    try:
        yield
    finally:
        os.environ.pop(SERVER_VARIABLE)
        if before is not None:
            os.environ[SERVER_VARIABLE] = before
        _made.clear()
        _made.update(made)


@contextmanager
def chosen(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Use the database of the option `--database` among a command's arguments, and yield the other arguments."""
    kind, rest = taken_kind(arguments)
    with on_postgresql() if kind == "postgresql" else nullcontext():
        yield rest


def taken_kind(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the database of the option `--database` among a command's arguments, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(OPTION, choices=KINDS, default=KINDS[0])
    given, rest = parser.parse_known_args(arguments)
    return str(given.database), rest


def url_of(path: Path) -> str:
    """Return the setting for the database that SQLite would keep in this file; on PostgreSQL it exists afterwards."""
    if not is_postgresql():
        return f"{SQLITE}{path}"
    from tests.support.postgres import create_database

    path = path.resolve()
    if path not in _made:
        name = f"t{hashlib.sha256(bytes(path)).hexdigest()[:20]}"
        create_database(os.environ[SERVER_VARIABLE], name, template=TEMPLATE)
        _made[path] = name
    return f"{os.environ[SERVER_VARIABLE]}/{_made[path]}"


def database_settings(data_dir: Path) -> Mapping[str, str]:
    """Return the settings with which a program uses the database of this data directory."""
    return {"database_url": url_of(data_dir / FILE)} if is_postgresql() else {}


def settings_of(data_dir: Path, **given: object) -> Settings:
    """Return the settings of a program over this data directory."""
    return load_settings(data_dir=data_dir, **{**database_settings(data_dir), **given})


def new_database(path: Path) -> Database:
    """Open the database of `path`; a missing one is created without migrating it."""
    return open_database(location_of(path), backups=path.parent / "backups")


def location_of(path: Path) -> Path | DatabaseUrl:
    """Return the database of `path`, as the program's parts take it; it exists, and is migrated."""
    if is_postgresql():
        return DatabaseUrl(url_of(path))
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(_migrated())
    return path


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "migrated.sqlite3"
        open_database(path, backups=Path(directory) / "backups").close()
        return path.read_bytes()


def drop_databases(below: Path) -> None:
    """Drop the databases on PostgreSQL that this process made for files in this directory."""
    from tests.support.postgres import drop_databases as drop

    gone = [path for path in _made if path.is_relative_to(below.resolve())]
    if gone:
        drop(os.environ[SERVER_VARIABLE], [_made.pop(path) for path in gone])


def copy_database(source: Path, target: Path) -> None:
    """Give a copied data directory its copy of the database, which nothing uses; a file was copied with the rest."""
    if is_postgresql():
        from tests.support.postgres import create_database

        of_source, of_target = (url_of(path / FILE).rpartition("/")[2] for path in (source, target))
        drop_databases(target)
        create_database(os.environ[SERVER_VARIABLE], of_target, template=of_source)


def rows(data_dir: Path, statement: str, **values: object) -> list[Any]:
    """Return the rows of a query on the database of this data directory, while a server may use it."""
    with _engine(data_dir, mode="ro").connect() as connection:
        return list(connection.execute(text(statement), values))


def change(data_dir: Path, statement: str, **values: object) -> None:
    """Change the database of this data directory, while a server may use it."""
    with _engine(data_dir).begin() as connection:
        connection.execute(text(statement), values)


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Lock the database of this data directory while the block runs, so that it can be read but not written.

    Workers go on writing what is theirs.
    """
    with _engine(data_dir).connect() as connection:
        if is_postgresql():
            tables = connection.scalars(
                text(
                    f"SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' AND NOT {OF_WORKERS} "
                    "ORDER BY tablename <> 'life'"  # each transaction of a server begins there, so that none is within
                )
            )
            connection.execute(text(f"LOCK TABLE {', '.join(tables)} IN EXCLUSIVE MODE"))
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
        connection.rollback()


def until_left(data_dir: Path) -> None:
    """Return when no server uses the database of this data directory; the one that did has been killed.

    PostgreSQL's side of a connection finishes what it was told last. SQLite needs no waiting.
    """
    if is_postgresql():
        _until_none(data_dir, OTHER_SESSIONS)


def until_led_by_none(data_dir: Path) -> None:
    """Return when PostgreSQL has finished what a killed server told it last; workers go on using the database."""
    from backend.store.leading import LOCK  # most tests need no driver for it

    _until_none(data_dir, LEADING_SESSIONS, lock=LOCK)


def _until_none(data_dir: Path, sessions: str, **values: object) -> None:
    end = time.monotonic() + LEAVE_SECONDS
    with _engine(data_dir).connect() as connection:
        while connection.scalar(text(sessions), values):
            connection.rollback()  # the view is as it was when the transaction began
            assert time.monotonic() < end, "a killed server still uses its database"
            time.sleep(POLL_SECONDS)  # the end of a session has no event


def assert_intact(data_dir: Path) -> None:
    """Assert that the file of this data directory is not damaged. PostgreSQL sees to that itself."""
    if is_postgresql():
        return
    with _engine(data_dir, mode="ro").connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").all() == [("ok",)]
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def _engine(data_dir: Path, *, mode: str = "rw") -> Engine:
    if is_postgresql():
        url = url_of(data_dir / FILE).replace("postgresql:", "postgresql+psycopg:", 1)
        return create_engine(url, poolclass=NullPool)
    file = f"{SQLITE}file:{data_dir / FILE}?mode={mode}&uri=true"
    return create_engine(file, poolclass=NullPool, connect_args={"timeout": LOCK_SECONDS})
