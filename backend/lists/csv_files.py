"""Reads lists of video IDs: from a CSV file, or as they come without one.

How a file is read:

- Encoding: a byte order mark (UTF-8, UTF-16) decides, then strict UTF-8, then Windows-1252.
- Table (`table`): `sep=` in the first line is obeyed. The delimiter is the one with which a line names an ID column,
  the lines above it being titles or comments; without such a line, the one with which a column has the IDs, or with
  which most records are equally wide; otherwise the file has one column. (`csv.Sniffer` reads valid files wrongly, and
  its patterns take seconds in one call on a hostile sample.)
- ID column (`columns`): the one whose cells are addresses or look like IDs, else the one with the best name. Columns
  that contradict each other are refused by name. The caller may choose a column.
- ID (`cells`): the ID in the cell, or in the address or the file's name there.
- Cells: a row has exactly one cell per column (one, if there is no header). Missing cells become empty, and surplus
  empty cells are removed. A row with surplus text is reported as invalid, because its ID may be in the wrong column.
- Records without any text are skipped. Line numbers are those of the file, where the record starts.

All errors are `DashboardError`s, for any bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import BinaryIO

from backend.domain.texts import printable
from backend.errors import Invalid, TooLarge
from backend.lists.columns import ColumnUndecided
from backend.lists.limits import MAX_BYTES, MAX_ROWS
from backend.lists.names import ID_NAMES
from backend.lists.records import CHUNK_BYTES, MAX_RECORD_LENGTH, Records, encoding_of, text_of
from backend.lists.table import DELIMITERS, MAX_COLUMNS, ONE_COLUMN, Table, table_of
from backend.lists.video_list import MAX_SHOWN_LENGTH, Duplicate, FoundRows, ListRow, Problem, VideoList

__all__ = [
    "DELIMITERS",
    "ID_NAMES",
    "MAX_BYTES",
    "MAX_COLUMNS",
    "MAX_RECORD_LENGTH",
    "MAX_ROWS",
    "MAX_SHOWN_LENGTH",
    "ColumnUndecided",
    "Duplicate",
    "ListRow",
    "Problem",
    "VideoList",
    "list_of_ids",
    "read_video_list",
]


def read_video_list(
    file: BinaryIO, *, column: str | int | None = None, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES
) -> VideoList:
    """Read the list in a CSV file, from its start and as a stream. The file stays open. Blocking: call it in a thread.

    `column` is the name of the column that holds the IDs, or its place; None: it is found.

    Raises `TooLarge`, `WrongType` (not text), `ColumnUndecided`, or `Invalid` (empty, no valid ID, invalid quotation
    marks).
    """
    encoding = encoding_of(file, max_bytes)
    with text_of(file, encoding) as text:
        sample = text.read(CHUNK_BYTES)
    table = table_of(sample, column=column)
    if table.several:
        return _list_of_one_line(table, encoding)
    with text_of(file, encoding) as text:
        return _read(Records(text, table), table, encoding, max_rows)


def list_of_ids(values: Sequence[str]) -> VideoList:
    """Return the list of IDs that came without a file. `line` counts them from 1; the column is `video_id`.

    Raises `TooLarge` or `Invalid`.
    """
    if not values:
        raise Invalid("The list is empty: send one video ID or more.")
    if len(values) > MAX_ROWS:
        raise TooLarge(f"The list has {len(values):,} IDs, the limit is {MAX_ROWS:,}: send it in several jobs.")
    found = FoundRows(Table(ONE_COLUMN, columns=("video_id",)))
    for line, value in enumerate(values, 1):
        found.add(line, value, (printable(value),))
    return found.video_list("utf-8")


def _list_of_one_line(table: Table, encoding: str) -> VideoList:
    found = FoundRows(table)
    for value in table.several:
        found.add(table.first_line + 1, value, (value,))
    return found.video_list(encoding)


def _read(records: Records, table: Table, encoding: str, max_rows: int) -> VideoList:
    stream = iter(records)
    first = next(stream, None)
    if first is None:
        raise Invalid("The file is empty: write one video ID a row.")
    if isinstance(first, Problem):
        raise Invalid(f"The first row, line {first.line}, cannot be read: {first.reason}; correct it.")
    found = FoundRows(table)
    for number, record in enumerate(stream if table.has_header else chain([first], stream), 1):
        found.add_record(record)
        if number > max_rows:
            raise TooLarge(f"The file has more than {max_rows:,} rows: split it into several files.")
    if not found.total:
        raise Invalid("The file has a header and no rows: write one video ID a row below it.")
    return found.video_list(encoding)
