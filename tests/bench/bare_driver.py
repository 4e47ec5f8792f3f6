"""The reference of the benchmarks of the store: the database's driver, alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from backend.database_url import DatabaseUrl
from tests.support.databases import location_of

Rows = Callable[[str, Sequence[Any]], list[Any]]
_SIZES = (
    "SELECT relname, pg_relation_size(pg_class.oid) FROM pg_class "
    "JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = 'public' AND relkind IN ('r', 'i')"
)
_PAGES = "SELECT name, sum(pgsize) FROM dbstat WHERE aggregate = TRUE GROUP BY name"


@contextmanager
def bare_driver(path: Path) -> Iterator[Rows]:
    """Yield how to read rows by a statement, its values marked with `?`, from the database of this file."""
    location = location_of(path)
    if isinstance(location, DatabaseUrl):
        with psycopg.connect(location.secret, autocommit=True) as connection:
            yield lambda statement, values: connection.execute(statement.replace("?", "%s").encode(), values).fetchall()
    else:
        with closing(sqlite3.connect(location)) as connection:
            yield lambda statement, values: connection.execute(statement, values).fetchall()


def insert(path: Path, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows in bulk, in one transaction."""
    location, names = location_of(path), ", ".join(columns)
    if isinstance(location, DatabaseUrl):
        statement = f"COPY {table} ({names}) FROM STDIN".encode()
        with psycopg.connect(location.secret) as connection, connection.cursor().copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
        return
    marks = ", ".join("?" * len(columns))
    with closing(sqlite3.connect(location)) as file, file:
        file.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)


def sizes(path: Path) -> list[tuple[str, int]]:
    """Return the bytes of each table and index, the largest first."""
    with bare_driver(path) as rows:
        found = rows(_SIZES if isinstance(location_of(path), DatabaseUrl) else _PAGES, ())
    return sorted(((str(name), int(size)) for name, size in found), key=lambda part: -part[1])
