"""One statement over many rows, for SQLite: the writer's thread takes few steps, and waits as seldom for its turn.

The driver lets other threads run at each step of a statement, so that with a busy event loop each row of an
`executemany` may have to wait for the interpreter. The SQL is written out, and the values are as the database keeps
them: on its way through Core a tick's row cost more than in SQLite. PostgreSQL will want its own marks here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

CHUNKS = (256, 64, 16, 4, 1)  # rows of a statement: few texts, so that the driver has them compiled already
Row = tuple[object, ...]


class Bulk:
    """`text` with `{rows}` where the rows go; their values are as the database keeps them, all of the same number."""

    def __init__(self, text: str) -> None:
        self._text = text

    def execute(self, connection: Connection, rows: Sequence[Row]) -> None:
        """For all rows, in order."""
        for chunk in _chunks(rows):
            marks = f"({', '.join('?' * len(chunk[0]))})"
            text = self._text.format(rows=", ".join([marks] * len(chunk)))
            connection.exec_driver_sql(text, tuple(value for row in chunk for value in row))


def insert_into(table: str, columns: Sequence[str]) -> Bulk:
    """New rows, their values in the order of `columns`."""
    return Bulk(f"INSERT INTO {table} ({', '.join(columns)}) VALUES {{rows}}")  # noqa: S608  our own names


def update_rows(table: str, keys: Sequence[str], columns: Sequence[str]) -> Bulk:
    """New values of rows that are there, each given once: its keys, then the values of `columns`."""
    given, matches = ", ".join((*keys, *columns)), " AND ".join(f"{table}.{key} = new.{key}" for key in keys)
    values = ", ".join(f"{column} = new.{column}" for column in columns)
    return Bulk(f"WITH new ({given}) AS (VALUES {{rows}}) UPDATE {table} SET {values} FROM new WHERE {matches}")  # noqa: S608


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    done = 0
    for size in CHUNKS:
        while len(rows) - done >= size:
            yield rows[done : done + size]
            done += size
