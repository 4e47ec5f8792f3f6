"""One statement over many rows: the writer thread takes few steps, and seldom waits for its turn.

SQLite's driver lets other threads run at each step of a statement, so that with a busy event loop each row of an
`executemany` may have to wait for the interpreter. PostgreSQL gets all rows as one JSON text: the statement is the same
for every number of them, and the database takes them apart. The SQL is written out, and the values are as the database
stores them: through SQLAlchemy Core a tick's row cost more than in SQLite.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import Connection, CursorResult, Dialect, LargeBinary, Table
from sqlalchemy.dialects import postgresql, sqlite

from backend.store.connecting import NUL, NUL_SHOWN
from backend.store.rows import Row, RowCodec

T = TypeVar("T")
CHUNKS = (256, 64, 16, 4, 1)  # rows of a statement: few texts, so that the driver has them compiled already
NUL_IN_JSON = b"\\u0000"
ROWS = "{rows}"
POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]


class Bulk(Generic[T]):
    """A statement over the rows of a codec; `text` has `{rows}` where they go."""

    def __init__(self, codec: RowCodec[T], text: str) -> None:
        self._codec = codec
        self._text = text
        self._whole = text.replace(ROWS, _from_json(codec))
        self._row = msgspec.defstruct("Row", [(column, Any) for column in codec.columns])

    def execute(self, connection: Connection, values: Iterable[T]) -> None:
        """Execute the statement for all values, in order."""
        rows = [self._codec.row(value) for value in values]
        if connection.dialect.name == "sqlite":
            deque(self._in_chunks(connection, rows), maxlen=0)
        elif rows:
            connection.exec_driver_sql(self._whole, (self._json(rows),))

    def fetch(self, connection: Connection, values: Iterable[T]) -> list[Any]:
        """Execute the query for all values, and return what it finds."""
        rows = [self._codec.row(value) for value in values]
        if not rows:
            return []
        if connection.dialect.name == "sqlite":
            return [found for result in self._in_chunks(connection, rows) for found in result]
        return list(connection.exec_driver_sql(self._whole, (self._json(rows),)))

    def _in_chunks(self, connection: Connection, rows: Sequence[Row]) -> Iterator[CursorResult[Any]]:
        for chunk in _chunks(rows):
            marks = f"({', '.join('?' * len(chunk[0]))})"
            text = self._text.replace(ROWS, f"VALUES {', '.join([marks] * len(chunk))}")
            yield connection.exec_driver_sql(text, tuple(value for row in chunk for value in row))

    def _json(self, rows: Sequence[Row]) -> str:
        encoded = msgspec.json.encode([self._row(*row) for row in rows])
        if NUL_IN_JSON in encoded:
            encoded = msgspec.json.encode([self._row(*map(_without_nul, row)) for row in rows])
        return encoded.decode()


def insert(codec: RowCodec[T]) -> Bulk[T]:
    """Return the statement that inserts new rows."""
    return Bulk(codec, f"INSERT INTO {codec.table} ({', '.join(codec.columns)}) {ROWS}")


def add_absent(codec: RowCodec[T]) -> Bulk[T]:
    """Return the statement that inserts rows; one whose key is there already stays as it is."""
    names = ", ".join(codec.columns)
    return Bulk(codec, f"INSERT INTO {codec.table} ({names}) {ROWS} ON CONFLICT DO NOTHING")


def upsert(codec: RowCodec[T], *, key: str, change: str) -> Bulk[T]:
    """Return the statement that inserts rows; a row whose `key` is there already is changed."""
    names = ", ".join(codec.columns)
    text = f"INSERT INTO {codec.table} ({names}) {ROWS} ON CONFLICT ({key}) DO UPDATE SET {change}"
    return Bulk(codec, text)


def select(codec: RowCodec[T], columns: str) -> Bulk[T]:
    """Return the query for `columns` of the rows (`found`) that have the values of the codec."""
    given = ", ".join(codec.columns)
    # left to right, so that SQLite goes from the values to the rows by their key
    matches = " AND ".join(f"found.{name} = wanted.{name}" for name in codec.columns)
    text = f"WITH wanted ({given}) AS ({ROWS}) SELECT {columns} FROM wanted CROSS JOIN {codec.table} AS found"  # noqa: S608
    return Bulk(codec, f"{text} WHERE {matches}")


def update(codec: RowCodec[T], *, keys: Sequence[str]) -> Bulk[T]:
    """Return the statement that updates rows by the columns `keys`; it takes each row once."""
    given, table = ", ".join(codec.columns), codec.table
    matches = " AND ".join(f"{table}.{key} = new.{key}" for key in keys)
    values = ", ".join(f"{column} = new.{column}" for column in codec.columns if column not in keys)
    text = f"WITH new ({given}) AS ({ROWS}) UPDATE {table} SET {values} FROM new WHERE {matches}"  # noqa: S608
    return Bulk(codec, text)


def load(connection: Connection, codec: RowCodec[T], values: Iterable[T]) -> None:
    """Insert very many new rows the fastest way."""
    rows, columns = [codec.row(value) for value in values], ", ".join(codec.columns)
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(codec.columns))
        connection.exec_driver_sql(f"INSERT INTO {codec.table} ({columns}) VALUES ({marks})", rows)  # noqa: S608
        return
    driver: Any = connection.connection.dbapi_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {codec.table} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def insert_absent(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows whose keys are not there yet, and return their number."""
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table).on_conflict_do_nothing().returning(*table.primary_key)
    return len(connection.execute(statement, rows).all())


def _from_json(codec: RowCodec[Any]) -> str:
    """Return the query for the rows in a JSON text. JSON in it comes as text, and bytes as base64."""
    given, taken = [], []
    for name, kind in codec.types.items():
        native = kind.compile(POSTGRESQL)
        if isinstance(kind, LargeBinary):
            given.append(f"{name} TEXT")
            taken.append(f"decode(sent.{name}, 'base64')")
        else:
            given.append(f"{name} {'TEXT' if native == 'JSON' else native}")
            taken.append(f"sent.{name}::JSON" if native == "JSON" else f"sent.{name}")
    return f"SELECT {', '.join(taken)} FROM json_to_recordset(%s::JSON) AS sent ({', '.join(given)})"  # noqa: S608


def _without_nul(value: object) -> object:
    return value.replace(NUL, NUL_SHOWN) if isinstance(value, str) else value


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    done = 0
    for size in CHUNKS:
        while len(rows) - done >= size:
            yield rows[done : done + size]
            done += size
