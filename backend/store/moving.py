"""Moves a stopped SQLite database to an empty PostgreSQL one: table by table, in one transaction, and compared.

The table `moving` marks the target from the first step to the last: no server opens it in between, and a move that was
interrupted has left nothing else behind. The source is only read; one of an earlier version is upgraded in a copy.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Float, Integer, LargeBinary, Table, inspect, select, text

from backend.database_url import DatabaseUrl
from backend.errors import CannotStart
from backend.store.database import open_database
from backend.store.filling import LEFT, finish_filling
from backend.store.migrating import MARKER
from backend.store.postgres import PostgresDatabase, open_postgres
from backend.store.problem_filling import LEFT as PROBLEMS_LEFT
from backend.store.problem_filling import finish_problems
from backend.store.problem_tables import METADATA
from backend.store.revisions import MIGRATIONS, newest_revision
from backend.store.sqlite import copy_database
from backend.store.upkeep import LEFTOVER

ROWS_AT_ONCE = 5_000
REPORT_SECONDS = 2.0
MICRO = 1_000_000
Report = Callable[[str, int, int], None]
"""Called with a table's name, the rows of it that are moved, and how many it has."""


def move(source: Path, target: DatabaseUrl, *, report: Report) -> int:
    """Copy all rows and return their number; the caller has seen to it that no server uses the source.

    Raises `CannotStart` if the source is no database of this program, the target is not empty, a server leads on it,
    or what arrived is not what was sent.
    """
    with closing(_opened(target)) as database, _current(source) as path:
        database.take_lead()
        database.write_now(_mark)
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as rows:
            moved = database.write_now(lambda connection: _move_all(rows, connection, report))
        database.write_now(lambda connection: connection.exec_driver_sql("ANALYZE"))
    return moved


def _opened(target: DatabaseUrl) -> PostgresDatabase:
    return open_postgres(target, migrations=MIGRATIONS, is_for_move=True)


@contextmanager
def _current(source: Path) -> Iterator[Path]:
    """Yield a file with the same data at the newest revision: the source itself, or an upgraded copy of it."""
    if _is_current(source):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="moving-", dir=source.parent) as directory:  # for nobody else to read
        copy = Path(directory) / source.name
        copy_database(source, copy)
        with closing(open_database(copy, backups=Path(directory))) as upgraded:
            upgraded.finish_upgrade()
            finish_filling(upgraded)
            finish_problems(upgraded)
        yield copy


def _is_current(source: Path) -> bool:
    with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            revisions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            unfinished = (LEFTOVER, LEFT.table, PROBLEMS_LEFT.table)
            left = connection.execute("SELECT 1 FROM sqlite_master WHERE name IN (?, ?, ?)", unfinished).fetchall()
        except sqlite3.DatabaseError as error:
            raise CannotStart(
                f"{source} is not a database of this program ({error}); name its data directory."
            ) from None
    return revisions == [(newest_revision(),)] and not left


def _mark(connection: Connection) -> None:
    """Reserve the target. Raises `CannotStart` if it has data."""
    if inspect(connection).has_table(MARKER):
        return
    for table in METADATA.sorted_tables:
        if connection.execute(select(table).limit(1)).first() is not None:
            raise CannotStart("That database has data already; create an empty one, and move there.")
    connection.exec_driver_sql(f"CREATE TABLE {MARKER} (since TIMESTAMPTZ DEFAULT now())")


def _move_all(rows: sqlite3.Connection, connection: Connection, report: Report) -> int:
    rows.execute("BEGIN")  # one view of all tables
    moved = sum(_move_table(rows, connection, table, report) for table in METADATA.sorted_tables)
    connection.execute(
        text("SELECT setval(pg_get_serial_sequence('job', 'number'), max(number)) FROM job HAVING max(number) > 0")
    )
    connection.exec_driver_sql(f"DROP TABLE {MARKER}")
    return moved


def _move_table(rows: sqlite3.Connection, connection: Connection, table: Table, report: Report) -> int:
    names = ", ".join(map(_quoted, table.columns))
    (total,) = rows.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()  # noqa: S608  our own names
    found = rows.execute(f'SELECT {names} FROM "{table.name}" ORDER BY {_key(table)}')  # noqa: S608
    driver: Any = connection.connection.dbapi_connection
    sums, said = [0] * (len(table.columns) + 1), time.monotonic()
    with driver.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
        while some := found.fetchmany(ROWS_AT_ONCE):
            for row in some:
                copy.write_row(row)
                _add(sums, row)
            if time.monotonic() - said > REPORT_SECONDS:
                said = time.monotonic()
                report(table.name, sums[0], total)
    arrived = list(connection.exec_driver_sql(_summed(table)).one())
    if arrived != sums:
        raise CannotStart(f"The rows of {table.name} did not arrive as they were sent; move again.")
    report(table.name, sums[0], total)
    return sums[0]


def _key(table: Table) -> str:
    return ", ".join(map(_quoted, table.primary_key))


def _quoted(column: Column[Any]) -> str:
    return f'"{column.name}"'  # some are words of SQL


def _add(sums: list[int], row: Sequence[Any]) -> None:
    """Add a row to the sums: 1, then of each column its number, or the length of its text."""
    sums[0] += 1
    for place, value in enumerate(row, 1):
        if isinstance(value, float):
            sums[place] += int(value * MICRO)
        elif value is not None:
            sums[place] += value if isinstance(value, int) else len(value)


def _summed(table: Table) -> str:
    """Return the query for the same sums of the rows that arrived."""
    sums = ", ".join(f"coalesce(sum({_measure(column)}), 0)" for column in table.columns)
    return f'SELECT count(*), {sums} FROM "{table.name}"'  # noqa: S608  our own names


def _measure(column: Column[Any]) -> str:
    kind, name = getattr(column.type, "impl_instance", column.type), _quoted(column)
    if isinstance(kind, Boolean):
        return f"{name}::INTEGER"
    if isinstance(kind, Float):
        return f"trunc({name} * {MICRO})::NUMERIC"
    if isinstance(kind, Integer):
        return name
    return f"length({name})" if isinstance(kind, LargeBinary) else f"length({name}::TEXT)"
