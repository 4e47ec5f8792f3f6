"""What is known of a list: its rows, sorted into valid ones, duplicates and invalid ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backend.domain.texts import counted, printable, trimmed
from backend.domain.video import VideoStatus
from backend.domain.video_ids import VIDEO_ID
from backend.errors import Invalid, InvalidVideoId
from backend.lists.cells import LETTERS_OF_AN_ID, read_id
from backend.lists.names import first_result_column, is_placeholder, is_sum, is_sure_name
from backend.lists.table import DELIMITERS, ONE_COLUMN, SPACED_QUOTE, Table

MAX_SHOWN_LENGTH = 200  # characters
MAX_ODD_SHARE = 0.2
MAX_NAMED = 3
MIN_ROWS_TO_COMPARE = 3
SUM = "a sum, not a video"
HEADER = "the header, once more"
PLACEHOLDER = "a placeholder, not a video"
COMMENT = "a comment"
WORDS = {SUM: "sum", HEADER: "repeated header", PLACEHOLDER: "placeholder", COMMENT: "comment"}
STATUSES = frozenset(status.value for status in VideoStatus)


@dataclass(frozen=True, slots=True)
class ListRow:
    """A row whose ID is valid and new. `cells` are as in the file, one per column."""

    line: int
    video_id: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A row whose ID is on `first_line` already. `value` is its ID cell, safe to show."""

    line: int
    value: str
    first_line: int


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that cannot be used, and the reason. `value` is its ID cell or the line.

    Values that are safe to show, here and in `Duplicate`, have at most 200 characters and no control characters.
    """

    line: int
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class VideoList:
    """The rows of a list in their order; at least one is valid.

    `columns` are the names as in the header, or made up for a table without one; () for one column without a header.
    Each row has as many cells (one for one column), and its ID is in `id_column`. `encoding` is Python's name.
    `delimiter` is empty if one column was read without any. `notes` are sentences on what was decided.
    """

    columns: tuple[str, ...]
    id_column: int
    rows: tuple[ListRow, ...]
    duplicates: tuple[Duplicate, ...]
    invalid: tuple[Problem, ...]
    encoding: str
    delimiter: str
    has_header: bool = True
    notes: tuple[str, ...] = ()

    @property
    def total_rows(self) -> int:
        return len(self.rows) + len(self.duplicates) + len(self.invalid)

    @property
    def column(self) -> str | None:
        """The name of the column with the IDs, safe to show; None for one column without a header."""
        return shown(self.columns[self.id_column]) if self.columns else None


class FoundRows:
    """The rows of a list, sorted as they are added."""

    def __init__(self, table: Table) -> None:
        self._rows: list[ListRow] = []
        self._duplicates: list[Duplicate] = []
        self._invalid: list[Problem] = []
        self._first_lines: dict[str, int] = {}
        self._file_names = 0
        self._table = table
        self._place = table.id_column
        self._width = len(table.columns) or 1
        self._header = [trimmed(name) for name in table.columns] if table.has_header else []
        self._names = frozenset((*self._header, *table.columns)) if self._header else frozenset()
        self._id_name = self._header[table.id_column] if self._header else None
        self._status = first_result_column(table.columns)

    @property
    def total(self) -> int:
        return len(self._rows) + len(self._duplicates) + len(self._invalid)

    def add_record(self, record: tuple[int, list[str]] | Problem) -> None:
        """Add a row of the file. Raises `Invalid` if the columns change their order there."""
        if isinstance(record, Problem):
            self._invalid.append(record)
            return
        line, cells = record
        first = cells[0] if cells[0].isascii() else trimmed(cells[0])
        if first in self._names and self._is_header(line, cells):
            name = cells[self._place] if self._place < len(cells) else first
            self._invalid.append(Problem(line, shown(name), HEADER))
            return
        width = self._width
        if len(cells) > width and any(map(trimmed, cells[width:])):
            value = cells[self._place]
            self._invalid.append(Problem(line, shown(value), self._why_too_wide(cells)))
            return
        if len(cells) != width:
            cells = cells[:width] + [""] * (width - len(cells))
        self.add(line, cells[self._place], tuple(cells))

    def add(self, line: int, value: str, cells: tuple[str, ...]) -> None:
        """Add a row with this ID cell."""
        try:
            video_id = read_id(value)
        except InvalidVideoId as error:
            self._invalid.append(_problem(line, value, cells, error))
            return
        if video_id != value and VIDEO_ID.match(value):
            self._file_names += 1
        first_line = self._first_lines.get(video_id)
        if first_line is None:
            self._first_lines[video_id] = line
            self._rows.append(ListRow(line, video_id, cells))
        else:
            self._duplicates.append(Duplicate(line, shown(value), first_line))

    def video_list(self, encoding: str) -> VideoList:
        """Return the list of all added rows. Raises `Invalid` if no row is valid."""
        self._leave_out_words()
        if not self._rows:
            first = self._invalid[0]
            raise Invalid(
                f"No valid video ID in {counted(self.total, 'row')}; the first, on line {first.line}: {first.reason}."
            )
        return VideoList(
            columns=self._table.columns,
            id_column=self._place,
            rows=tuple(self._rows),
            duplicates=tuple(self._duplicates),
            invalid=tuple(self._invalid),
            encoding=encoding,
            delimiter="" if self._table.delimiter == ONE_COLUMN else self._table.delimiter,
            has_header=self._table.has_header,
            notes=(*self._table.notes, *self._notes()),
        )

    def _is_header(self, line: int, cells: Sequence[str]) -> bool:
        """Return True for the header itself. Raises `Invalid` for its columns in another order."""
        names = [trimmed(cell) for cell in cells if trimmed(cell)]
        header = [name for name in self._header if name]
        if names == header:
            return len(header) > 1 or is_sure_name(names[0]) or names[0] == self._id_name
        if len(names) > 1 and sorted(names) == sorted(header):
            raise Invalid(
                f"The header on line {line:,} has the columns in another order: the file is two lists in one; "
                "upload them one by one."
            )
        return False

    def _why_too_wide(self, cells: Sequence[str]) -> str:
        delimiter = DELIMITERS.get(self._table.delimiter, f'"{self._table.delimiter}"')
        many = f"{counted(len(cells), 'cell')} for {counted(self._width, 'column')}"
        if any(map(SPACED_QUOTE.match, cells)):
            return f"{many}: put the quotation mark directly behind the {delimiter}"
        return f"{many}: put cells with a {delimiter} in quotation marks"

    def _leave_out_words(self) -> None:
        reasons = self._words()
        if not reasons:
            return
        self._invalid += [
            Problem(row.line, shown(row.cells[self._place]), reasons[row.line])
            for row in self._rows
            if row.line in reasons
        ]
        self._invalid.sort(key=lambda problem: problem.line)
        self._rows = [row for row in self._rows if row.line not in reasons]

    def _words(self) -> dict[int, str]:
        """Return the lines of words that could be IDs and are none, with the reason.

        A sum or a placeholder is one among IDs of YouTube, and a sum also at the beginning or end of a table. The name
        of an ID column is one everywhere. A row that an export of this program gives a status is a video.
        """
        rows = self._rows if self._status is None else [row for row in self._rows if not self._has_status(row)]
        odd = [row for row in rows if len(row.video_id) != LETTERS_OF_AN_ID]
        words: dict[int, str] = {}
        if len(odd) < len(self._rows) and len(odd) <= max(MAX_NAMED, MAX_ODD_SHARE * len(self._rows)):
            words = {row.line: reason for row in odd if (reason := _reason(row.video_id))}
            if len(words) != len(odd):
                words = {}
        if self._is_word_above_addresses():
            words |= {self._rows[0].line: HEADER}
        if self._width > 1 and rows:
            words |= {row.line: SUM for row in (rows[0], rows[-1]) if is_sum(row.video_id)}
        words |= {row.line: HEADER for row in odd[:1] + odd[-1:] if is_sure_name(row.video_id)}
        sure = {self._first_lines[name] for name in SURE_NAMES if name in self._first_lines}
        words |= {row.line: HEADER for row in rows if row.line in sure} if sure else {}
        return words

    def _is_word_above_addresses(self) -> bool:
        first, others = self._rows[0] if self._rows else None, self._rows[1:]
        if first is None or len(others) < MIN_ROWS_TO_COMPARE or self._table.has_header or not first.video_id.isalpha():
            return False
        place = self._place
        return len(first.video_id) != LETTERS_OF_AN_ID and all("/" in row.cells[place] for row in others)

    def _has_status(self, row: ListRow) -> bool:
        return self._status is not None and row.cells[self._status] in STATUSES

    def _notes(self) -> list[str]:
        notes = []
        left_out = [word for reason, word in WORDS.items() for problem in self._invalid if problem.reason == reason]
        if left_out:
            notes.append(
                f"Left out: {', '.join(counted(left_out.count(word), word) for word in dict.fromkeys(left_out))}."
            )
        if self._file_names:
            notes.append(
                f"The extension of {counted(self._file_names, 'file name')} is left out: abc.mp4 is the video abc."
            )
        return [*notes, *self._unlike_the_others()]

    def _unlike_the_others(self) -> list[str]:
        odd = [row for row in self._rows if len(row.video_id) != LETTERS_OF_AN_ID]
        if not odd or len(self._rows) < MIN_ROWS_TO_COMPARE or len(odd) > max(1, MAX_ODD_SHARE * len(self._rows)):
            return []
        named = ", ".join(f"{shown(row.video_id)[:40]} (line {row.line:,})" for row in odd[:MAX_NAMED])
        return [f"Not like the other IDs: {named}{', …' if len(odd) > MAX_NAMED else ''}."]


def shown(value: str) -> str:
    """Return a value as it is safe to show: at most 200 characters, without control characters."""
    return printable(value if len(value) <= MAX_SHOWN_LENGTH else f"{value[: MAX_SHOWN_LENGTH - 1]}…").strip()


def _problem(line: int, value: str, cells: Sequence[str], error: InvalidVideoId) -> Problem:
    """Return the problem of a row without an ID; a comment, or a sum whose word is in another column, is named."""
    text = trimmed(value)
    if text.startswith("#") and "spreadsheet" not in error.sentence:
        return Problem(line, shown(value), COMMENT)
    sums = [] if text else [cell for cell in cells if is_sum(cell)]
    return Problem(line, shown(sums[0]), SUM) if sums else Problem(line, shown(value), printable(error.sentence))


def _reason(word: str) -> str | None:
    if is_sum(word):
        return SUM
    if is_sure_name(word):
        return HEADER
    return PLACEHOLDER if is_placeholder(word) else None


def _spellings() -> frozenset[str]:
    """Return the usual spellings of the names of ID columns that are two words."""
    subjects = [form for word in ("video", "youtube") for form in (word, word.capitalize(), word.upper())]
    subjects.append("YouTube")
    kinds = [form for word in ("id", "url", "link") for form in (word, word.capitalize(), word.upper())]
    plurals = ("", "s", "S")
    return frozenset(
        f"{subject}{between}{kind}{plural}"
        for subject in subjects
        for between in ("_", "-", "", ".")
        for kind in kinds
        for plural in plurals
    )


SURE_NAMES = _spellings()
