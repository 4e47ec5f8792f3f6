"""One row codec: how values become rows of a table.

The types of the table convert each column, both ways, so that a column is spelled once, in `tables`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Dialect, SelectBase, Table, Text, cast, func, select
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

T = TypeVar("T")
compact_json = partial(json.dumps, separators=(",", ":"))
DIALECT: Dialect = sqlite_dialect(json_serializer=compact_json)
Row = tuple[object, ...]


class exact_text(FunctionElement[str]):  # noqa: N801  named as SQLAlchemy's functions are
    """A number with a fraction as the shortest text that has all of it, or a longer one."""

    type = Text()
    inherit_cache = True


@compiles(exact_text, "sqlite")
def _exact_in_sqlite(element: exact_text, compiler: SQLCompiler, **options: Any) -> str:
    return f"printf('%!.17g', {compiler.process(element.clauses, **options)})"


@compiles(exact_text)
def _exact_elsewhere(element: exact_text, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS TEXT)"


class past(FunctionElement[Any]):  # noqa: N801  named as SQLAlchemy's functions are
    """A column of a job that left the dashboard, from a column of its own where updates need that (PostgreSQL)."""

    inherit_cache = True

    def __init__(self, column: ColumnElement[Any]) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(past, "sqlite")
def _past_in_sqlite(element: past, compiler: SQLCompiler, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


@compiles(past)
def _past_elsewhere(element: past, compiler: SQLCompiler, **options: Any) -> str:
    table, _, name = str(compiler.process(element.clauses, **options)).rpartition(".")
    return f"{table}.past_{name}"


def rows_at_once(connection: Connection, query: SelectBase) -> list[list[Any]]:
    """Return very many rows as JSON has their stored values; numbers with a fraction must come as text.

    The database makes one JSON text of them: the driver lets other threads run before each row, and may wait for its
    turn as often.
    """
    rows = query.subquery("line")
    if connection.dialect.name == "sqlite":
        text: Any = func.json_group_array(func.json_array(*rows.c))
    else:
        text = func.coalesce(cast(func.json_agg(func.json_build_array(*rows.c)), Text), "[]")
    content: list[list[Any]] = msgspec.json.decode(connection.execute(select(text)).scalar_one())
    return content


class RowCodec(Generic[T]):
    """Encodes objects as rows for the driver's own statements.

    `columns` are those of the row, in its order. A column takes the attribute of its name, or the one that `attributes`
    gives for it (dotted for an attribute of an attribute).
    """

    def __init__(self, table: Table, columns: Sequence[str], attributes: Mapping[str, str] | None = None) -> None:
        self.table = table.name
        self.columns = tuple(columns)
        self.types = {column: table.c[column].type for column in columns}
        values = attrgetter(*((attributes or {}).get(column, column) for column in columns))
        self._values = values if len(self.columns) > 1 else lambda value: (values(value),)
        processors = [table.c[column].type.dialect_impl(DIALECT).bind_processor(DIALECT) for column in columns]
        self._converted = [(place, convert) for place, convert in enumerate(processors) if convert is not None]

    def row(self, value: T) -> Row:
        """Return the values as the database stores them."""
        row: list[Any] = list(self._values(value))
        for place, convert in self._converted:
            row[place] = convert(row[place])
        return tuple(row)
