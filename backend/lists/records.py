"""The text of a file, and its records."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO

from backend.errors import Invalid, TooLarge, WrongType
from backend.lists.table import Table, has_text
from backend.lists.video_list import Problem, shown

MAX_RECORD_LENGTH = 2**20  # characters; limits the time of one call of the parser, which holds the interpreter lock
MAX_LINES = 1_000_000  # with blank lines and those within quoted cells: limits the time that a short file can take
CHUNK_BYTES = 2**16
BINARY = re.compile(r"[\x00-\x08\x0e-\x1f]")
UNCLOSED = "a quotation mark is not closed, or one inside a quoted cell is not doubled"


def encoding_of(file: BinaryIO, max_bytes: int) -> str:
    """Return Python's name of the encoding: that of a byte order mark, else UTF-8, else Windows-1252.

    Reads the whole file. Raises `TooLarge`, or `WrongType` if it is not text.
    """
    file.seek(0)
    for encoding in _possible_encodings(file.read(4)):
        try:
            _check_text(file, encoding, max_bytes)
        except UnicodeDecodeError:
            continue
        return encoding
    raise _not_text()


@contextmanager
def text_of(file: BinaryIO, encoding: str) -> Iterator[io.TextIOWrapper]:
    """Open the file as text, from its start. The file itself stays open."""
    file.seek(0)
    text = io.TextIOWrapper(file, encoding, newline="")
    try:
        yield text
    finally:
        text.detach()  # the caller closes the file


class Records:
    """The records of a table that have any text, each with the line where it starts, or as a `Problem`."""

    def __init__(self, text: io.TextIOWrapper, table: Table) -> None:
        self.delimiter = table.delimiter
        self._text = text
        self._line_before = table.first_line
        for _ in range(table.first_line):
            text.readline()
        self._dialect: dict[str, Any] = {"delimiter": table.delimiter, "skipinitialspace": table.is_spaced}
        self._reader = csv.reader(iter(self._next_line, ""), strict=True, **self._dialect)
        self._newest_line = ""
        self._start = 1
        self._characters_left = MAX_RECORD_LENGTH

    def __iter__(self) -> Iterator[tuple[int, list[str]] | Problem]:
        while True:
            self._start = self._line_before + self._reader.line_num + 1
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
                if has_text(cells):
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

    def _unreadable(self, error: csv.Error) -> tuple[int, list[str]] | Problem:
        """Return the row without blanks behind its quotation marks, or its problem if no later line depends on it.

        Raises `Invalid` if the rest is affected.
        """
        line = self._newest_line
        is_alone = self._line_before + self._reader.line_num == self._start and line and line.count('"') % 2 == 0
        is_long = "field larger" in str(error)
        reason = f"a cell is longer than {csv.field_size_limit():,} characters" if is_long else UNCLOSED
        if not is_alone:
            raise Invalid(f"The file cannot be read from line {self._start} on: {reason}; correct it there.")
        cells = None if is_long else self._without_blanks_behind_quotes(line)
        return Problem(self._start, shown(line), reason) if cells is None else (self._start, cells)

    def _without_blanks_behind_quotes(self, line: str) -> list[str] | None:
        mended = re.sub(rf'"[ \t]{{1,20}}(?={re.escape(self.delimiter)}|[\r\n]|\Z)', '"', line)
        try:
            return next(csv.reader([mended], strict=True, **self._dialect))
        except csv.Error:
            return None


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
