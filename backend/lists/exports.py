"""Writes CSV files: exports that spreadsheets show as text, and that this program reads again."""

from __future__ import annotations

import codecs
import csv
import io
import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backend.domain.job import ExportedJob
from backend.domain.texts import INVISIBLE
from backend.domain.video import ExportedVideo, Video
from backend.domain.video_ids import VIDEO_ID
from backend.errors import Invalid
from backend.lists.cells import read_id
from backend.lists.columns import id_column
from backend.lists.names import OWN_ID_COLUMN, RESULT_COLUMNS, RESULT_PREFIX
from backend.lists.table import MAX_SAMPLE_ROWS

HISTORY_COLUMNS = ExportedJob._fields
FILE_WORD = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
PLAIN = frozenset(string.ascii_letters + string.digits)  # most cells begin so, and are no formula
CONTROLS = "".join(map(chr, range(32)))


@dataclass(frozen=True, slots=True)
class Export:
    """The columns of a job's export: `width` own ones, with `has_id` the IDs, and the results."""

    columns: tuple[str, ...]
    width: int
    has_id: bool

    def row(self, video: Video | ExportedVideo) -> Sequence[object]:
        """Return a video's cells."""
        cells = result_row(video, self.width)
        return [*cells[: self.width], video.video_id, *cells[self.width :]] if self.has_id else cells


def csv_start(header: Sequence[str]) -> bytes:
    """Return the start of a CSV file, to be followed by `csv_rows`.

    The file is UTF-8 with commas and CRLF. Its byte order mark is for Excel, which otherwise misreads all but ASCII.
    """
    return codecs.BOM_UTF8 + csv_rows([header])


def csv_rows(rows: Iterable[Sequence[object]]) -> bytes:
    """Return some rows of a CSV file, safe for a spreadsheet: texts are made `neutral`, and None is an empty cell."""
    return _encoded([cell if cell.__class__ is int else _written(cell) for cell in row] for row in rows)


def csv_of_jobs(jobs: Iterable[ExportedJob]) -> bytes:
    """Return the rows of these jobs under `HISTORY_COLUMNS`; what the program itself writes there is no formula."""
    return _encoded(
        (job_id, neutral(name), neutral(owner), status, total, failed, error and neutral(error), attempt, *rest)
        for job_id, name, owner, status, total, failed, error, attempt, *rest in jobs
    )


def result_columns(own: Sequence[str]) -> tuple[str, ...]:
    """Return a list's `own` columns and those of its results, renamed if the list has one of that name.

    >>> result_columns(["video_id", "status"])
    ('video_id', 'status', 'result_status', 'error', 'attempts', 'duration_seconds', 'machine')
    """
    columns = [*own]
    for name in RESULT_COLUMNS:
        columns.append(_unused(name, columns))
    return tuple(columns)


def export_columns(own: Sequence[str], videos: Sequence[Video]) -> Export:
    """Return how a job's list is exported: its `own` columns and the results, so that it can be read again.

    `videos` are the first ones. A column with the IDs is added where this program would not find them in the own ones.
    """
    header = result_columns(own)
    rows = [[str(_written(value)) for value in result_row(video, len(own))] for video in videos]
    try:
        place = id_column(list(header), rows[:MAX_SAMPLE_ROWS])
        is_found = all(read_id(row[place]) == video.video_id for row, video in zip(rows, videos, strict=True))
    except Invalid:
        is_found = False
    if is_found:
        return Export(header, len(own), has_id=False)
    return Export(result_columns((*own, _unused(OWN_ID_COLUMN, own))), len(own), has_id=True)


def _unused(name: str, columns: Sequence[str]) -> str:
    while name in columns:
        name = f"{RESULT_PREFIX}{name}"
    return name


def unnamed_columns(videos: Sequence[Video]) -> tuple[str, ...]:
    """Return names for the columns of a list without a header, as many as these rows have cells."""
    width = max((len(video.cells) for video in videos), default=1)
    return ("video_id", *(f"column_{number}" for number in range(2, width + 1)))


def result_row(video: Video | ExportedVideo, width: int) -> Sequence[object]:
    """Return a video's own cells, filled up to `width`, and its result."""
    missing = [""] * (width - len(video.cells))
    results = (video.status.value, video.error, video.attempts, video.duration_seconds, video.machine)
    return [*video.cells, *missing, *results]


def neutral(cell: str) -> str:
    """Return the cell in a form that spreadsheets read as text: with a leading `'` if it could be a formula.

    A formula begins with `= + - @`, also after blanks or as a full-width character, or with a tab or a line end. Valid
    video IDs are not changed: their alphabet is too small for a harmful formula.

    >>> neutral("=1+1"), neutral("-wNyEUrxzFU"), neutral("Cats")
    ("'=1+1", '-wNyEUrxzFU', 'Cats')
    """
    if not cell or cell[0] in PLAIN or VIDEO_ID.match(cell):
        return cell
    first = cell.lstrip(INVISIBLE + CONTROLS)[:1]
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


def _encoded(rows: Iterable[Sequence[object]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode("utf-8", errors="replace")


def _written(value: object) -> object:
    if value is None:
        return ""
    return value if isinstance(value, int | float) else neutral(str(value))
