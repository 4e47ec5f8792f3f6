"""Decides which column of a table holds the IDs: by the cells, and not only by the names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from backend.domain.texts import printable, trimmed
from backend.errors import Invalid, InvalidVideoId
from backend.lists.cells import is_certain, read_id
from backend.lists.names import CONTENT, FILE, SURE, id_name, own_id_column, words_of

MAX_NAMED = 10
MAX_NAME_LENGTH = 40
ENOUGH = 0.5  # share of the cells that speak for a column whose name does too
NEARLY_ALL = 0.8  # for a column whose name says nothing
UNNAMED = CONTENT + 1
Row = Sequence[str]


class ColumnUndecided(Invalid):
    """No column certainly holds the IDs; choose one. `columns` are all of them, as shown."""

    def __init__(self, sentence: str, columns: Sequence[str]) -> None:
        super().__init__(sentence)
        self.columns = tuple(columns)


@dataclass(frozen=True)
class Column:
    """A column of the first rows: its place, its name, and its cells that are not empty, by row."""

    place: int
    name: str
    cells: dict[int, str]

    @cached_property
    def kind(self) -> int | None:
        return id_name(self.name)

    @cached_property
    def ids(self) -> dict[int, str]:
        """The IDs by row, without the cells that hold none."""
        return {row: found for row, cell in self.cells.items() if (found := _id_or_none(cell)) is not None}

    @cached_property
    def certain(self) -> float:
        """Share of the cells that are hardly anything but an ID or an address."""
        return sum(map(is_certain, self.cells.values())) / len(self.cells) if self.cells else 0.0

    @property
    def is_certain(self) -> bool:
        return self.certain >= (NEARLY_ALL if self.kind is None else ENOUGH)

    @property
    def is_valid(self) -> bool:
        return bool(self.cells) and len(self.ids) >= ENOUGH * len(self.cells)

    @property
    def rank(self) -> tuple[int, int]:
        return (UNNAMED if self.kind is None else self.kind, self.place)

    @cached_property
    def counts_rows(self) -> bool:
        """True if the cells count the rows, from any number on."""
        numbers = [int(cell) for cell in self.cells.values() if cell.isascii() and cell.isdigit() and len(cell) < 7]
        return len(numbers) == len(self.cells) > 0 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def columns_of(header: Row, rows: Sequence[Row]) -> list[Column]:
    """Return the columns of the first rows."""
    return [
        Column(
            place, name, {n: cell for n, row in enumerate(rows) if place < len(row) and (cell := trimmed(row[place]))}
        )
        for place, name in enumerate(header)
    ]


def id_column(header: Row, rows: Sequence[Row]) -> int:
    """Return the place of the column that holds the IDs, by its name and the cells of the first rows.

    Raises `ColumnUndecided`, which names the columns that compete.
    """
    own = own_id_column(header)
    if own is not None:
        return own
    columns = columns_of(header, rows)
    named = [column for column in columns if column.kind is not None]
    if any(column.is_certain for column in named):
        return _agreed([column for column in named if column.is_certain], header)
    if any(column.is_certain for column in columns):
        return _agreed([column for column in columns if column.certain >= ENOUGH], header)
    if not named:
        raise ColumnUndecided(f"No ID column: name one of the columns video_id (found: {shown_names(header)}).", header)
    return _among_named(named, header)


def column_named(header: Row, name: str) -> int | None:
    """Return the place of the column of this name, as written or but for case and punctuation; None without one."""
    same = [place for place, own in enumerate(header) if trimmed(own) == trimmed(name)]
    alike = [place for place, own in enumerate(header) if words_of(own) and words_of(own) == words_of(name)]
    return next(iter(same or alike), None)


def shown_names(names: Iterable[str]) -> str:
    """Return the names for a sentence, at most `MAX_NAMED`."""
    found = [printable(trimmed(name))[:MAX_NAME_LENGTH].strip() for name in names if trimmed(name)]
    return ", ".join(found[:MAX_NAMED]) + (", …" if len(found) > MAX_NAMED else "")


def _among_named(named: Sequence[Column], header: Row) -> int:
    """Return the best of the columns whose names fit, none of whose cells are certainly IDs."""
    filled = [column for column in named if column.cells]
    usable = [column for column in filled if column.is_valid and not column.counts_rows]
    if len(filled) < 2:
        return min(filled or named, key=lambda column: column.rank).place
    best = min(usable or filled, key=lambda column: column.rank)
    if best in usable and best.kind == SURE and [column.kind for column in usable].count(SURE) == 1:
        return best.place
    if any(column.counts_rows for column in filled):  # the others hold words, or nothing that can be read
        raise _competing(filled, header)
    if not usable:
        return best.place
    weak = (FILE, CONTENT)
    return _agreed([column for column in usable if best.kind in weak or column.kind not in weak], header)


def _agreed(columns: Sequence[Column], header: Row) -> int:
    """Return the column with the best name if all of these columns name the same videos."""
    most = max(len(column.cells) for column in columns)
    full = [column for column in columns if len(column.cells) >= ENOUGH * most]
    best = min(full, key=lambda column: column.rank)
    others = [column for column in full if column is not best and _contradict(best, column)]
    if others:
        raise _competing(sorted([best, *others], key=lambda column: column.place), header)
    return best.place


def _contradict(one: Column, other: Column) -> bool:
    both = one.ids.keys() & other.ids.keys()
    return sum(one.ids[row] != other.ids[row] for row in both) > 0.2 * len(both) or not both


def _competing(columns: Sequence[Column], header: Row) -> ColumnUndecided:
    names = shown_names(column.name for column in columns)
    return ColumnUndecided(
        f"Several columns could hold the video IDs ({names}): choose one of them, or name it video_id.", header
    )


def _id_or_none(cell: str) -> str | None:
    try:
        return read_id(cell)
    except InvalidVideoId:
        return None
