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
from sqlalchemy import Connection, Dialect, SelectBase, Table, func, select
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

T = TypeVar("T")
compact_json = partial(json.dumps, separators=(",", ":"))
DIALECT: Dialect = sqlite_dialect(json_serializer=compact_json)
Row = tuple[object, ...]


def rows_at_once(connection: Connection, query: SelectBase) -> list[list[Any]]:
    """Return very many rows with their values as they are stored; numbers with a fraction must come as text.

    The database makes one JSON text of them: the driver lets other threads run before each row, and may wait for its
    turn as often.
    """
    rows = query.subquery("line")
    text = select(func.json_group_array(func.json_array(*rows.c)))
    content: list[list[Any]] = msgspec.json.decode(connection.execute(text).scalar_one())
    return content


class RowCodec(Generic[T]):
    """Encodes objects as rows for the driver's own statements.

    `columns` are those of the row, in its order. A column takes the attribute of its name, or the one that `attributes`
    gives for it (dotted for an attribute of an attribute).
    """

    def __init__(self, table: Table, columns: Sequence[str], attributes: Mapping[str, str] | None = None) -> None:
        self.table = table.name
        self.columns = tuple(columns)
        self._values = attrgetter(*((attributes or {}).get(column, column) for column in columns))
        processors = [table.c[column].type.dialect_impl(DIALECT).bind_processor(DIALECT) for column in columns]
        self._converted = [(place, convert) for place, convert in enumerate(processors) if convert is not None]

    def row(self, value: T) -> Row:
        """Return the values as the database stores them."""
        row: list[Any] = list(self._values(value))
        for place, convert in self._converted:
            row[place] = convert(row[place])
        return tuple(row)
