"""Reads uploaded lists of video IDs from CSV, and writes exports as CSV.

How a file is read:

- Encoding: a byte order mark (UTF-8, UTF-16) decides, then strict UTF-8, then Windows-1252.
- Delimiter: the one with which the first record names an ID column; without a known name, the one with which most
  records are as wide as the first; otherwise the file has one column. (`csv.Sniffer` reads valid files wrongly, and its
  patterns take seconds in one call on a hostile sample.)
- ID column: the first of `ID_NAMES` in the header, ignoring case, with blanks and hyphens counted as underscores;
  without one, the only column, whose first row is then data.
- Cells: a row has exactly one cell per column (one, if there is no header). Missing cells become empty, and surplus
  empty cells are removed. A row with surplus text is reported as invalid, because its ID may be in the wrong column.
- Records without any text are skipped. Line numbers are those of the file, where the record starts.

All errors are `DashboardError`s, for any bytes.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import BinaryIO

from backend.clock import iso
from backend.domain.job import Job
from backend.domain.texts import counted
from backend.domain.video import Video
from backend.domain.video_ids import VIDEO_ID, parse_video_id
from backend.errors import Invalid, InvalidVideoId, TooLarge, WrongType

MAX_ROWS = 100_000
MAX_BYTES = 20 * 2**20
MAX_COLUMNS = 200  # rows are filled up to the header's width: this limits the memory that a short file can take
MAX_RECORD_LENGTH = 2**20  # characters; limits the time of one call of the parser, which holds the interpreter lock
MAX_LINES = 1_000_000  # with blank lines and those within quoted cells: limits the time that a short file can take
CHUNK_BYTES = 2**16
MAX_SHOWN_LENGTH = 200  # characters

ID_NAMES = (
    "video_id",
    "videoid",
    "youtube_id",
    "youtubeid",
    "id",
    "ids",
    "video",
    "videos",
    "video_url",
    "youtube_url",
    "url",
    "urls",
    "video_link",
    "link",
    "content",  # YouTube Studio's own export
)
HISTORY_COLUMNS = (
    *("job_id", "name", "owner", "status", "total_videos", "failed", "error", "attempt", "processor"),
    *("created_at", "started_at", "finished_at"),
)
RESULT_COLUMNS = ("status", "error", "attempts", "duration_seconds")
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
ONE_COLUMN = "\x1f"  # the parser needs a delimiter; this one is in no text, because `BINARY` matches it
BINARY = re.compile(r"[\x00-\x08\x0e-\x1f]")
INVISIBLE = re.compile(r"[\s\x00-\x20\x7f-\xa0\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]*")
FILE_WORD = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")


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

    `columns` are the names as in the header; () without one. Each row has as many cells (one without a header), and its
    ID is in `id_column`. `encoding` is Python's name. `delimiter` is empty if one column was read without any.
    """

    columns: tuple[str, ...]
    id_column: int
    rows: tuple[ListRow, ...]
    duplicates: tuple[Duplicate, ...]
    invalid: tuple[Problem, ...]
    encoding: str
    delimiter: str

    @property
    def total_rows(self) -> int:
        return len(self.rows) + len(self.duplicates) + len(self.invalid)


def read_video_list(file: BinaryIO, *, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> VideoList:
    """Read the list in a CSV file, from its start and as a stream. The file stays open. Blocking: call it in a thread.

    Raises `TooLarge`, `WrongType` (not text) or `Invalid` (empty, no ID column, no valid ID, invalid quotation marks).
    """
    encoding = _encoding(file, max_bytes)
    with _text(file, encoding) as text:
        delimiter = _delimiter(text.read(CHUNK_BYTES))
    with _text(file, encoding) as text:
        return _read(_Records(text, delimiter), encoding, max_rows)


def list_of_ids(values: Sequence[str]) -> VideoList:
    """Return the list of IDs that came without a file. `line` counts them from 1; the column is `video_id`.

    Raises `TooLarge` or `Invalid`.
    """
    if not values:
        raise Invalid("The list is empty: send one video ID or more.")
    if len(values) > MAX_ROWS:
        raise TooLarge(f"The list has {len(values):,} IDs, the limit is {MAX_ROWS:,}: send it in several jobs.")
    found = _Found()
    for line, value in enumerate(values, 1):
        found.add(line, value, (_printable(value),))
    return found.video_list(columns=("video_id",), id_column=0, encoding="utf-8", delimiter="")


def csv_start(header: Sequence[str]) -> bytes:
    """Return the start of a CSV file, to be followed by `csv_rows`.

    The file is UTF-8 with commas and CRLF. Its byte order mark is for Excel, which otherwise misreads all but ASCII.
    """
    return codecs.BOM_UTF8 + csv_rows([header])


def csv_rows(rows: Iterable[Sequence[object]]) -> bytes:
    """Return some rows of a CSV file, safe for a spreadsheet: texts are made `neutral`, and None is an empty cell."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(map(_written, row) for row in rows)
    return buffer.getvalue().encode("utf-8", errors="replace")


def history_row(job: Job) -> Sequence[object]:
    """Return a job's cells for `HISTORY_COLUMNS`."""
    facts = [job.id, job.name, job.owner, job.status.value, job.total_videos, job.failed, job.error, job.attempt]
    moments = (job.created_at, job.started_at, job.finished_at)
    return [*facts, job.processor, *(moment and iso(moment) for moment in moments)]


def result_columns(own: Sequence[str]) -> tuple[str, ...]:
    """Return a list's `own` columns and those of its results, renamed if the list has one of that name.

    >>> result_columns(["video_id", "status"])
    ('video_id', 'status', 'result_status', 'error', 'attempts', 'duration_seconds')
    """
    return (*own, *(f"result_{name}" if name in own else name for name in RESULT_COLUMNS))


def unnamed_columns(videos: Sequence[Video]) -> tuple[str, ...]:
    """Return names for the columns of a list without a header, as many as these rows have cells."""
    width = max((len(video.cells) for video in videos), default=1)
    return ("video_id", *(f"column_{number}" for number in range(2, width + 1)))


def result_row(video: Video, width: int) -> Sequence[object]:
    """Return a video's own cells, filled up to `width`, and its result."""
    missing = [""] * (width - len(video.cells))
    return [*video.cells, *missing, video.status.value, video.error, video.attempts, video.duration_seconds]


def neutral(cell: str) -> str:
    """Return the cell in a form that spreadsheets read as text: with a leading `'` if it could be a formula.

    A formula begins with `= + - @`, also after blanks or as a full-width character, or with a tab or a line end. Valid
    video IDs are not changed: their alphabet is too small for a harmful formula.

    >>> neutral("=1+1"), neutral("-wNyEUrxzFU"), neutral("Cats")
    ("'=1+1", '-wNyEUrxzFU', 'Cats')
    """
    if not cell or VIDEO_ID.match(cell):
        return cell
    start = INVISIBLE.match(cell)
    first = cell[start.end() if start else 0 :][:1]
    is_formula = unicodedata.normalize("NFKC", first) in ("=", "+", "-", "@")
    return f"'{cell}" if is_formula or cell[0] in "\t\r\n" else cell


def export_file_name(name: str) -> str:
    """Return a file name for the export: only ASCII letters, digits and `. _ -`, ending in .csv.

    >>> export_file_name("../Nächtlicher Lauf.csv")
    'Nachtlicher_Lauf.csv'
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem = "_".join(FILE_WORD.findall(plain))
    stem = re.sub(r"\.csv\Z", "", stem, flags=re.IGNORECASE).lstrip("-")[:100]
    return f"{stem or 'export'}.csv"


def _encoding(file: BinaryIO, max_bytes: int) -> str:
    file.seek(0)
    for encoding in _possible_encodings(file.read(4)):
        try:
            _check_text(file, encoding, max_bytes)
        except UnicodeDecodeError:
            continue
        return encoding
    raise _not_text()


def _possible_encodings(start: bytes) -> tuple[str, ...]:
    if start.startswith(codecs.BOM_UTF8):
        return ("utf-8-sig",)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ("utf-16",)
    return ("utf-8", "cp1252")


def _check_text(file: BinaryIO, encoding: str, max_bytes: int) -> None:
    """Read the whole file. Raises `TooLarge`, `WrongType`, or `UnicodeDecodeError` if it has another encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    size = 0
    file.seek(0)
    for chunk in iter(partial(file.read, CHUNK_BYTES), b""):
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge(f"The file is larger than {max_bytes / 2**20:.3g} MiB: split it into several files.")
        if BINARY.search(decoder.decode(chunk)):
            raise _not_text()
    decoder.decode(b"", final=True)


def _not_text() -> WrongType:
    return WrongType("The file is not text: save the list as CSV (UTF-8) with one video ID a row, and upload that.")


@contextmanager
def _text(file: BinaryIO, encoding: str) -> Iterator[io.TextIOWrapper]:
    file.seek(0)
    text = io.TextIOWrapper(file, encoding, newline="")
    try:
        yield text
    finally:
        text.detach()  # the caller closes the file


def _delimiter(sample: str) -> str:
    evidence = {delimiter: _evidence(sample, delimiter) for delimiter in DELIMITERS}
    best = max(DELIMITERS, key=lambda delimiter: evidence[delimiter])
    return best if evidence[best] else ONE_COLUMN


def _evidence(sample: str, delimiter: str) -> tuple[float, ...]:
    """Return a sort key for the likelihood of a delimiter; () if it is not in the first record.

    A header with a known name counts most, then the share of records that are as wide as the first one.
    """
    records = list(filter(_has_text, csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)))
    if not records or len(records[0]) == 1:
        return ()
    complete = records[:-1] or records  # the sample may end within the last one
    width = len(records[0])
    alike = sum(len(cells) == width for cells in complete) / len(complete)
    names = _names(records[0])
    rank = next((rank for rank, name in enumerate(ID_NAMES) if name in names), None)
    if rank is None:
        return (0, alike, 0, width) if alike > 0.5 else ()
    return (1, alike, -rank, width)


def _has_text(cells: Sequence[str]) -> bool:
    return bool("".join(cells).strip())


def _names(header: Sequence[str]) -> list[str]:
    return [re.sub(r"[\s-]+", "_", cell.strip().lower()) for cell in header]


class _Records:
    """The records of a CSV text that have any text, each with the line where it starts, or as a `Problem`."""

    def __init__(self, text: io.TextIOWrapper, delimiter: str) -> None:
        self.delimiter = delimiter
        self._text = text
        self._reader = csv.reader(iter(self._next_line, ""), delimiter=delimiter, strict=True)
        self._newest_line = ""
        self._start = 1
        self._characters_left = MAX_RECORD_LENGTH

    def __iter__(self) -> Iterator[tuple[int, list[str]] | Problem]:
        while True:
            self._start = self._reader.line_num + 1
            self._characters_left = MAX_RECORD_LENGTH
            if self._start > MAX_LINES:
                raise TooLarge(f"The file has more than {MAX_LINES:,} lines: leave out blank ones, or split it.")
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield self._unreadable(error)
            else:
                if _has_text(cells):
                    yield self._start, cells

    def _next_line(self) -> str:
        line = self._newest_line = self._text.readline(self._characters_left + 1)
        self._characters_left -= len(line)
        if self._characters_left < 0:
            raise Invalid(
                f"The row on line {self._start} is longer than {MAX_RECORD_LENGTH:,} characters: shorten it, "
                "or close its quotation marks."
            )
        return line

    def _unreadable(self, error: csv.Error) -> Problem:
        """Return the problem of a row on which no later line depends. Raises `Invalid` if the rest is affected."""
        if "field larger" in str(error):
            reason = f"a cell is longer than {csv.field_size_limit():,} characters"
        else:
            reason = "a quotation mark is not closed, or one inside a quoted cell is not doubled"
        line = self._newest_line
        is_alone = self._reader.line_num == self._start and line and line.count('"') % 2 == 0
        if not is_alone:
            raise Invalid(f"The file cannot be read from line {self._start} on: {reason}; correct it there.")
        return Problem(self._start, _shown(line), reason)


def _read(records: _Records, encoding: str, max_rows: int) -> VideoList:
    stream = iter(records)
    first = next(stream, None)
    if first is None:
        raise Invalid("The file is empty: write one video ID a row.")
    if isinstance(first, Problem):
        raise Invalid(f"The first row, line {first.line}, cannot be read: {first.reason}; correct it.")
    columns, id_column = _header(first[1])
    found = _Found()
    for number, record in enumerate(stream if columns else chain([first], stream), 1):
        found.add_record(record, id_column, width=len(columns) or 1, delimiter=records.delimiter)
        if number > max_rows:
            raise TooLarge(f"The file has more than {max_rows:,} rows: split it into several files.")
    if not found.total:
        raise Invalid("The file has a header and no rows: write one video ID a row below it.")
    delimiter = "" if records.delimiter == ONE_COLUMN else records.delimiter
    return found.video_list(columns=columns, id_column=id_column, encoding=encoding, delimiter=delimiter)


def _header(first: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Return the columns, () if the first row is no header, and the index of the ID column."""
    names = _names(first)
    known = next((name for name in ID_NAMES if name in names), None)
    if known is not None:
        if len(first) > MAX_COLUMNS:
            raise Invalid(f"The file has {len(first):,} columns, the limit is {MAX_COLUMNS}: leave some out.")
        return tuple(first), names.index(known)
    if first[0].strip() and not any(cell.strip() for cell in first[1:]):
        return (), 0
    found = [_printable(cell.strip())[:40] for cell in first[:MAX_COLUMNS] if cell.strip()]
    shown = ", ".join(found[:10]) + (", …" if len(found) > 10 else "")
    raise Invalid(f"No ID column: name one of the columns video_id (found: {shown}).")


class _Found:
    """The rows of a list, sorted into valid ones, duplicates and invalid ones as they are added."""

    def __init__(self) -> None:
        self._rows: list[ListRow] = []
        self._duplicates: list[Duplicate] = []
        self._invalid: list[Problem] = []
        self._first_lines: dict[str, int] = {}

    @property
    def total(self) -> int:
        return len(self._rows) + len(self._duplicates) + len(self._invalid)

    def add_record(
        self, record: tuple[int, list[str]] | Problem, id_column: int, *, width: int, delimiter: str
    ) -> None:
        if isinstance(record, Problem):
            self._invalid.append(record)
            return
        line, cells = record
        if len(cells) > width and any(cell.strip() for cell in cells[width:]):
            reason = (
                f"{counted(len(cells), 'cell')} for {counted(width, 'column')}: "
                f"put cells with a {DELIMITERS[delimiter]} in quotation marks"
            )
            self._invalid.append(Problem(line, _shown(cells[id_column]), reason))
            return
        if len(cells) != width:
            cells = cells[:width] + [""] * (width - len(cells))
        self.add(line, cells[id_column], tuple(cells))

    def add(self, line: int, value: str, cells: tuple[str, ...]) -> None:
        try:
            video_id = parse_video_id(value)
        except InvalidVideoId as error:
            self._invalid.append(Problem(line, _shown(value), _printable(error.sentence)))
            return
        first_line = self._first_lines.setdefault(video_id, line)
        if first_line == line:
            self._rows.append(ListRow(line, video_id, cells))
        else:
            self._duplicates.append(Duplicate(line, _shown(value), first_line))

    def video_list(self, *, columns: tuple[str, ...], id_column: int, encoding: str, delimiter: str) -> VideoList:
        """Return the list of all added rows. Raises `Invalid` if no row is valid."""
        if not self._rows:
            first = self._invalid[0]
            raise Invalid(
                f"No valid video ID in {counted(self.total, 'row')}; the first, on line {first.line}: {first.reason}."
            )
        return VideoList(
            columns=columns,
            id_column=id_column,
            rows=tuple(self._rows),
            duplicates=tuple(self._duplicates),
            invalid=tuple(self._invalid),
            encoding=encoding,
            delimiter=delimiter,
        )


def _printable(text: str) -> str:
    """Return the text with blanks in place of invisible characters, control characters and surrogates."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _shown(value: str) -> str:
    return _printable(value if len(value) <= MAX_SHOWN_LENGTH else f"{value[: MAX_SHOWN_LENGTH - 1]}…").strip()


def _written(value: object) -> object:
    if value is None:
        return ""
    return value if isinstance(value, int | float) else neutral(str(value))
