"""Decides from the beginning of a text what its table is: delimiter, lines above the header, header and ID column."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from backend.domain.texts import printable, trimmed
from backend.errors import Invalid
from backend.lists.cells import BETWEEN_IDS, is_certain, is_id
from backend.lists.columns import (
    ENOUGH,
    NEARLY_ALL,
    ColumnUndecided,
    column_named,
    columns_of,
    id_column,
    shown_names,
)
from backend.lists.names import OWN_ID_COLUMN, id_name, is_header_of_one_column, is_sure_name

MAX_COLUMNS = 200  # rows are filled up to the header's width: this limits the memory that a short file can take
MAX_SAMPLE_ROWS = 200
MAX_SAMPLE_CELLS = 5_000
MAX_LINES_ABOVE = 20
MAX_QUOTED = 60
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
ONE_COLUMN = "\x1f"  # the parser needs a delimiter; this one is in no text, because binary files are refused before
SEPARATOR_LINE = re.compile(r'[\ufeff"\s]*sep=([^\w\s"\\]|\t)["\s,;]*\Z', re.IGNORECASE)
SPACED_QUOTE = re.compile(r' +"')
MARKUP = re.compile(r"<(?:!doctype|html|\?xml|head|body|table|div|rss|opml|ul|ol|p|a)\b", re.IGNORECASE)
JSON_START = re.compile(r'\[\s*(?:[\[{"]|\])|\{\s*["}]')
Row = list[str]


@dataclass(frozen=True)
class Table:
    """What the table in a text is.

    `first_line` counts the lines from 0: that of the header, or of the first row without one. `columns` are () for one
    column without a header. With `several` the text is one line of several IDs.
    """

    delimiter: str
    first_line: int = 0
    columns: tuple[str, ...] = ()
    id_column: int = 0
    has_header: bool = False
    is_spaced: bool = False
    several: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class _Header:
    """A header that was found with a delimiter, and the rows below it; made-up names if none `is_there`."""

    delimiter: str
    line: int
    cells: Row
    rows: list[Row]
    is_there: bool = True

    @property
    def likelihood(self) -> tuple[float, ...]:
        """A sort key: the share of the rows that are as wide as the header, the best name, the width."""
        width = len(self.cells)
        alike = sum(len(row) == width for row in self.rows) / len(self.rows) if self.rows else 1
        rank = min((kind for cell in self.cells if (kind := id_name(cell)) is not None), default=9)
        return (alike, -rank, width)


def table_of(sample: str, *, column: str | int | None = None) -> Table:
    """Return what the table is that begins with `sample`; `column` names the one that holds the IDs, or is its place.

    Raises `ColumnUndecided`, or `Invalid` for what is no list.
    """
    if MARKUP.match(trimmed(sample[:500])):
        raise Invalid("This is a web page or XML, not a list: write one video ID a line, or save it as CSV.")
    if JSON_START.match(trimmed(sample[:500])):
        raise Invalid("This is JSON, not a list: write one video ID a line, or save it as CSV.")
    text = _Sample(sample)
    if not text.lines[text.start :]:
        return Table(ONE_COLUMN)  # nothing but blank lines so far: reading all of them says what follows
    if column is not None:
        return _with_chosen_column(text, column)
    header = _header(text)
    if header is not None:
        return _table(text, header, id_column(header.cells, header.rows))
    if pieces := _ids_of_one_line(text):
        return Table(ONE_COLUMN, text.start, several=pieces)
    return _without_header(text)


class _Sample:
    """The beginning of a text as lines, and as records by delimiter."""

    def __init__(self, sample: str) -> None:
        self.lines = list(io.StringIO(sample, newline=""))
        first = next((n for n, line in enumerate(self.lines) if trimmed(line)), len(self.lines))
        given = SEPARATOR_LINE.match(self.lines[first].rstrip("\r\n")) if first < len(self.lines) else None
        self.given = given[1] if given else ""
        self.start = first + 1 if given else first
        name = DELIMITERS.get(self.given, f'"{self.given}"')
        self.notes = [f"The cells are separated as line {first + 1} says: {name}."] if given else []

    @property
    def delimiters(self) -> Sequence[str]:
        return [self.given] if self.given else [*DELIMITERS]

    def rows(self, delimiter: str, line: int) -> list[Row]:
        """Return the first records with any text, from a line on."""
        rows, cells = [], 0
        for row in islice(self._parsed(delimiter, line), MAX_SAMPLE_ROWS):
            rows.append(row)
            cells += len(row)
            if cells > MAX_SAMPLE_CELLS:
                break
        return rows

    def first_row(self, delimiter: str, line: int) -> Row:
        """Return the record that begins on a line."""
        return next(self._parsed(delimiter, line), [])

    def is_spaced(self, delimiter: str, line: int) -> bool:
        """Return True if blanks between a delimiter and a quotation mark belong to neither.

        Such cells are read differently without these blanks; where the whole cell is quoted, they are not.
        """
        plain, spaced = (self._parsed(delimiter, line, is_spaced=one) for one in (False, True))
        for row, other in islice(zip(plain, spaced, strict=False), MAX_SAMPLE_ROWS):
            for number, cell in enumerate(row):
                if SPACED_QUOTE.match(cell):
                    return number >= len(other) or other[number] != cell
        return False

    def _parsed(self, delimiter: str, line: int, *, is_spaced: bool | None = None) -> Iterator[Row]:
        if is_spaced is None:
            is_spaced = delimiter != ONE_COLUMN and self.is_spaced(delimiter, line)
        lines = islice(self.lines, line, None)
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=is_spaced)
        return (row for row in _until_error(reader) if has_text(row))


def _until_error(reader: Iterator[Row]) -> Iterator[Row]:
    try:
        yield from reader
    except csv.Error:  # reading the whole text reports it
        return


def has_text(cells: Sequence[str]) -> bool:
    """Return True if there is more than blanks in the cells."""
    return bool("".join(cells).strip())


def _header(text: _Sample) -> _Header | None:
    found = [header for delimiter in text.delimiters if (header := _header_with(text, delimiter))]
    wide = [header for header in found if len(header.cells) > 1]
    if wide:
        return max(wide, key=lambda header: header.likelihood)
    return _header_with(text, ONE_COLUMN)


def _header_with(text: _Sample, delimiter: str) -> _Header | None:
    above: list[Row] = []
    for line in range(text.start, min(text.start + MAX_LINES_ABOVE, len(text.lines))):
        cells = text.first_row(delimiter, line) if trimmed(text.lines[line]) else []
        if not cells:
            continue
        if any(id_name(cell) is not None for cell in cells):
            header = _Header(delimiter, line, cells, text.rows(delimiter, line)[1:])
            if _is_header(header, above):
                return header
        above.append(cells)
    return None


def _is_header(header: _Header, above: Sequence[Row]) -> bool:
    filled = [cell for cell in header.cells if trimmed(cell)]
    if any(is_certain(cell) for cell in filled):
        return False
    if len(filled) > 1:
        return not above or (bool(header.rows) and all(_is_above(row, len(filled)) for row in above))
    if any(is_id(cell) and not is_comment(row) for row in above for cell in row):
        return False
    return is_header_of_one_column(filled[0]) or _are_certain(header.rows)


def _is_above(row: Row, width: int) -> bool:
    """Return True for a line that can be above a header so wide: a title, a comment."""
    filled = [cell for cell in row if trimmed(cell)]
    return (
        is_comment(row)
        or not any(is_id(cell) for cell in filled)
        or (len(filled) < width and not any(is_certain(cell) for cell in filled))
    )


def is_comment(row: Row) -> bool:
    """Return True for a line that begins with a number sign."""
    return trimmed(row[0]).startswith("#")


def _are_certain(rows: Sequence[Row]) -> bool:
    return bool(rows) and all(is_certain(cell) for row in rows for cell in row if trimmed(cell))


def _table(text: _Sample, header: _Header, place: int) -> Table:
    if len(header.cells) > MAX_COLUMNS:
        raise Invalid(f"The file has {len(header.cells):,} columns, the limit is {MAX_COLUMNS}: leave some out.")
    names = list(header.cells)
    if not header.is_there:
        names[place] = OWN_ID_COLUMN
    return Table(
        header.delimiter,
        header.line,
        tuple(names),
        place,
        has_header=header.is_there,
        is_spaced=text.is_spaced(header.delimiter, header.line),
        notes=(*text.notes, *_lines_above(text, header), *_about_column(header, place)),
    )


def _lines_above(text: _Sample, header: _Header) -> list[str]:
    above = [trimmed(one) for one in text.lines[text.start : header.line] if trimmed(one)]
    if not above:
        return []
    what = f"the line “{_quoted(above[0])}” above it is" if len(above) == 1 else f"{len(above)} lines above it are"
    return [f"The header is on line {header.line + 1}; {what} passed over."]


def _quoted(text: str) -> str:
    return printable(text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 1]}…")


def _about_column(header: _Header, place: int) -> list[str]:
    """Return what to say of the choice where the name alone would mislead."""
    columns = columns_of(header.cells, header.rows)
    chosen = columns[place]
    named = [column for column in columns if column.kind is not None and column is not chosen and column.cells]
    if named and chosen.is_certain and min(named, key=lambda column: column.rank).rank < chosen.rank:
        return [f"The IDs come from {shown_names([chosen.name])}, not from {shown_names(c.name for c in named)}."]
    if chosen.counts_rows and len(chosen.cells) > 1 and len(columns) > 1:
        return [
            f"The IDs in {shown_names([chosen.name])} are 1, 2, 3, …: choose another column if they count the rows."
        ]
    return []


def _ids_of_one_line(text: _Sample) -> tuple[str, ...]:
    """Return the IDs of a text that is one line of several; () for any other. Raises `Invalid` for other words."""
    lines = [trimmed(line) for line in text.lines[text.start :] if trimmed(line)]
    if len(lines) != 1:
        return ()
    pieces = [piece for piece in BETWEEN_IDS.split(lines[0]) if piece]
    if len(pieces) < 2 or '"' in lines[0]:
        return ()
    if all(map(is_certain, pieces)):
        return tuple(pieces)
    cells = [
        cell for delimiter in text.delimiters for cell in text.first_row(delimiter, text.start)[1:] if trimmed(cell)
    ]
    if cells and all(is_id(cell) for cell in pieces) and not any(map(is_certain, pieces)):
        raise Invalid(f"There are {len(pieces):,} words on one line: write one video ID a line.")
    return ()


def _without_header(text: _Sample) -> Table:
    lines = [trimmed(line) for line in text.lines[text.start :][:MAX_SAMPLE_ROWS] if trimmed(line)]
    as_ids = [is_id(line) or line.startswith("#") for line in lines]
    if sum(as_ids) >= NEARLY_ALL * len(lines):
        return Table(ONE_COLUMN, text.start, notes=tuple(text.notes))
    tables = [found for delimiter in text.delimiters if (found := _by_cells(text, delimiter)) is not None]
    if tables:
        return max(tables, key=lambda found: found[0])[1]
    best = max(text.delimiters, key=lambda delimiter: _evenness(text, delimiter))
    delimiter = best if _evenness(text, best) else ONE_COLUMN
    first = text.first_row(delimiter, text.start) or [text.lines[text.start]]
    if trimmed(first[0]) and not any(trimmed(cell) for cell in first[1:]):
        return Table(delimiter, text.start, notes=tuple(text.notes))
    for line in range(text.start + 1, min(text.start + MAX_LINES_ABOVE, len(text.lines))):
        if any(is_sure_name(cell) for cell in text.first_row(delimiter, line)):
            raise Invalid(f"Line {line + 1} is a header with other rows above it: delete those, or give them a header.")
    raise ColumnUndecided(f"No ID column: name one of the columns video_id (found: {shown_names(first)}).", first)


def _evenness(text: _Sample, delimiter: str) -> tuple[float, ...]:
    """Return a sort key for the likelihood of a delimiter without a header; () if it is not one."""
    rows = text.rows(delimiter, text.start)
    if not rows or len(rows[0]) == 1:
        return ()
    alike = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
    return (alike, len(rows[0])) if alike > ENOUGH else ()


def _by_cells(text: _Sample, delimiter: str) -> tuple[tuple[float, ...], Table] | None:
    """Return the table whose IDs are found by the cells alone, with a sort key; None if there is none."""
    header = _first_row_as_header(text, delimiter)
    if not 1 < len(header.cells) <= MAX_COLUMNS:
        return None
    certain = [one for one in columns_of(header.cells, header.rows) if one.is_certain]
    if not certain or 2 * len(certain[0].cells) <= len(header.rows):
        return None
    try:
        place = id_column(header.cells, header.rows)
    except ColumnUndecided as error:
        if header.is_there:
            raise
        sentence = "Each row has several IDs: write one video ID a line, or choose a column."
        raise ColumnUndecided(sentence, error.columns) from None
    return (certain[0].certain, -len(header.cells)), _table(text, header, place)


def _first_row_as_header(text: _Sample, delimiter: str) -> _Header:
    """Return the first row as a header; made-up names if it has a certain ID and is therefore none."""
    rows = text.rows(delimiter, text.start) or [[]]
    if any(is_certain(cell) for cell in rows[0]):
        names = [f"column_{number}" for number in range(1, max(map(len, rows)) + 1)]
        return _Header(delimiter, text.start, names, rows, is_there=False)
    return _Header(delimiter, text.start, rows[0], rows[1:])


def _with_chosen_column(text: _Sample, column: str | int) -> Table:
    """Return the table in which the user says which column holds the IDs."""
    header = _header_naming(text, column) if isinstance(column, str) else None
    if header is None:
        best = max(text.delimiters, key=lambda delimiter: _evenness(text, delimiter))
        header = _header(text) or _first_row_as_header(text, best if _evenness(text, best) else ONE_COLUMN)
    place = column if isinstance(column, int) else column_named(header.cells, column)
    if place is None or not 0 <= place < len(header.cells):
        found = shown_names(header.cells)
        raise ColumnUndecided(f'There is no column "{_quoted(str(column))}" (found: {found}).', header.cells)
    return _table(text, header, place)


def _header_naming(text: _Sample, column: str) -> _Header | None:
    for delimiter in (*text.delimiters, ONE_COLUMN):
        for line in range(text.start, min(text.start + MAX_LINES_ABOVE, len(text.lines))):
            cells = text.first_row(delimiter, line) if trimmed(text.lines[line]) else []
            if column_named(cells, column) is not None:
                return _Header(delimiter, line, cells, text.rows(delimiter, line)[1:])
    return None
