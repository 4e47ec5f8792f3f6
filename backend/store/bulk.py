"""One statement over many rows, for SQLite: the writer thread takes few steps, and seldom waits for its turn.

The driver lets other threads run at each step of a statement, so that with a busy event loop each row of an
`executemany` may have to wait for the interpreter. The SQL is written out, and the values are as the database stores
them: through SQLAlchemy Core a tick's row cost more than in SQLite.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from sqlalchemy import Connection

from backend.store.rows import Row, RowCodec

T = TypeVar("T")
CHUNKS = (256, 64, 16, 4, 1)  # rows of a statement: few texts, so that the driver has them compiled already


class Bulk(Generic[T]):
    """A statement over the rows of a codec; `text` has `{rows}` where they go."""

    def __init__(self, codec: RowCodec[T], text: str) -> None:
        self._codec = codec
        self._text = text

    def execute(self, connection: Connection, values: Iterable[T]) -> None:
        """Execute the statement for all values, in order."""
        for chunk in _chunks([self._codec.row(value) for value in values]):
            marks = f"({', '.join('?' * len(chunk[0]))})"
            text = self._text.format(rows=", ".join([marks] * len(chunk)))
            connection.exec_driver_sql(text, tuple(value for row in chunk for value in row))


def insert(codec: RowCodec[T]) -> Bulk[T]:
    """Return the statement that inserts new rows."""
    return Bulk(codec, f"INSERT INTO {codec.table} ({', '.join(codec.columns)}) VALUES {{rows}}")  # noqa: S608  our own names


def upsert(codec: RowCodec[T], *, key: str, change: str) -> Bulk[T]:
    """Return the statement that inserts rows; a row whose `key` is there already is changed."""
    names = ", ".join(codec.columns)
    text = f"INSERT INTO {codec.table} ({names}) VALUES {{rows}} ON CONFLICT ({key}) DO UPDATE SET {change}"  # noqa: S608
    return Bulk(codec, text)


def update(codec: RowCodec[T], *, keys: Sequence[str]) -> Bulk[T]:
    """Return the statement that updates rows by the columns `keys`; it takes each row once."""
    given, table = ", ".join(codec.columns), codec.table
    matches = " AND ".join(f"{table}.{key} = new.{key}" for key in keys)
    values = ", ".join(f"{column} = new.{column}" for column in codec.columns if column not in keys)
    text = f"WITH new ({given}) AS (VALUES {{rows}}) UPDATE {table} SET {values} FROM new WHERE {matches}"  # noqa: S608
    return Bulk(codec, text)


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    done = 0
    for size in CHUNKS:
        while len(rows) - done >= size:
            yield rows[done : done + size]
            done += size
