"""Reading uploaded lists of video IDs, and writing exports for spreadsheets."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Sequence
from typing import BinaryIO, Literal, cast

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backend.errors import DashboardError, Invalid, TooLarge, WrongType
from backend.lists.csv_files import (
    DELIMITERS,
    ID_NAMES,
    MAX_COLUMNS,
    MAX_RECORD_LENGTH,
    MAX_ROWS,
    MAX_SHOWN_LENGTH,
    ListRow,
    VideoList,
    list_of_ids,
    read_video_list,
)
from backend.lists.names import is_placeholder, is_sum


def read(content: str | bytes, **limits: int) -> VideoList:
    return read_video_list(io.BytesIO(content.encode() if isinstance(content, str) else content), **limits)


def ids(videos: VideoList) -> list[str]:
    return [row.video_id for row in videos.rows]


def test_a_list_with_a_header_has_ids_and_other_cells() -> None:
    videos = read("title,video_id\nCats,abc\nDogs,def\n")
    assert videos.columns == ("title", "video_id")
    assert videos.id_column == 1
    assert videos.rows == (ListRow(2, "abc", ("Cats", "abc")), ListRow(3, "def", ("Dogs", "def")))


def test_one_column_without_a_header_is_a_list_of_ids() -> None:
    videos = read("abc\ndef\n")
    assert videos.columns == ()
    assert videos.rows == (ListRow(1, "abc", ("abc",)), ListRow(2, "def", ("def",)))
    assert videos.delimiter == ""


def test_a_comma_after_each_id_is_not_a_second_column() -> None:
    videos = read("abc,\ndef,\nghi\n")
    assert [row.cells for row in videos.rows] == [("abc",), ("def",), ("ghi",)]


@pytest.mark.parametrize("name", [*ID_NAMES, "Video ID", "VIDEO-ID", " videoId ", "Url"])
def test_the_id_column_is_found_by_its_name(name: str) -> None:
    assert ids(read(f"title;{name}\nCats;abc\n")) == ["abc"]


def test_a_more_exact_column_name_is_preferred() -> None:
    assert ids(read("url,id,Video ID\nhttps://a.example,7,abc\n")) == ["abc"]


def test_a_youtube_address_is_reduced_to_its_id() -> None:
    address = "https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=3"
    assert read(f"url\n{address}\n").rows == (ListRow(2, "dQw4w9WgXcQ", (address,)),)


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_delimiters_line_ends_and_encodings_are_recognised(delimiter: str, ending: str, encoding: str) -> None:
    text = ending.join([f"id{delimiter}Straße", f"abc{delimiter}Zürich – 5 €", ""])
    videos = read(text.encode(encoding))
    assert videos.columns == ("id", "Straße")
    assert videos.rows == (ListRow(2, "abc", ("abc", "Zürich – 5 €")),)
    assert (videos.encoding, videos.delimiter) == (encoding, delimiter)


def test_other_delimiters_inside_cells_are_text() -> None:
    videos = read("video_id;title\nabc;Cats, dogs, and | more\ndef;a, b, c\n")
    assert [row.cells[1] for row in videos.rows] == ["Cats, dogs, and | more", "a, b, c"]


def test_line_numbers_include_blank_and_quoted_lines() -> None:
    videos = read('\n \nvideo_id,text\n\nabc,"two\nlines ""quoted"""\n,\n\ndef,x\nbad id,y\n')
    assert [(row.line, row.video_id) for row in videos.rows] == [(5, "abc"), (9, "def")]
    assert videos.rows[0].cells[1] == 'two\nlines "quoted"'
    assert [problem.line for problem in videos.invalid] == [10]


def test_a_duplicate_is_reported_with_the_line_of_the_first() -> None:
    videos = read("dQw4w9WgXcQ\ndef\nhttps://youtu.be/dQw4w9WgXcQ\n")
    assert ids(videos) == ["dQw4w9WgXcQ", "def"]
    [duplicate] = videos.duplicates
    assert (duplicate.line, duplicate.value, duplicate.first_line) == (3, "https://youtu.be/dQw4w9WgXcQ", 1)
    assert videos.total_rows == 3


def test_an_invalid_id_is_reported_with_line_and_reason() -> None:
    [problem] = read("video_id\nabc\nno good\n").invalid
    assert (problem.line, problem.value) == (3, "no good")
    assert problem.reason == "not an ID: it contains a blank"


def test_a_row_with_too_few_cells_is_filled_up() -> None:
    videos = read("video_id,title,year\nabc\n")
    assert videos.rows[0].cells == ("abc", "", "")


def test_a_row_without_an_id_cell_is_reported() -> None:
    [problem] = read("title,video_id\nCats,abc\nDogs\n").invalid
    assert (problem.line, problem.reason) == (3, "not an ID: it is empty")


def test_a_row_with_too_many_cells_is_reported() -> None:
    videos = read("title,video_id\nCats,abc\nDogs, too,def\nBirds,ghi,,\n")
    assert ids(videos) == ["abc", "ghi"]
    assert videos.rows[1].cells == ("Birds", "ghi")
    [problem] = videos.invalid
    assert problem.reason == "3 cells for 2 columns: put cells with a comma in quotation marks"


def test_a_badly_quoted_row_does_not_affect_later_rows() -> None:
    videos = read('title,video_id\n"Best of" 2020,abc\nDogs,def\n')
    assert ids(videos) == ["def"]
    [problem] = videos.invalid
    assert (problem.line, problem.value) == (2, '"Best of" 2020,abc')
    assert "quotation mark" in problem.reason


def test_a_cell_that_is_too_long_does_not_affect_later_rows() -> None:
    videos = read(f"title,video_id\n{'x' * 200_000},abc\nDogs,def\n")
    assert ids(videos) == ["def"]
    [problem] = videos.invalid
    assert problem.reason == "a cell is longer than 131,072 characters"
    assert len(problem.value) == MAX_SHOWN_LENGTH


@pytest.mark.parametrize(
    "content",
    [
        'video_id,title\nabc,"never closed\ndef,x\nghi,y\n',
        'video_id,title\nabc,"never closed\ndef,"x"\n',
        'video_id,title\nabc,"never closed',
        'video_id,title\nabc,"' + "long\n" * 50_000,
    ],
)
def test_an_unclosed_quotation_is_refused_with_its_line(content: str) -> None:
    with pytest.raises(Invalid, match=r"cannot be read from line 2 on: .* correct it there"):
        read(content)


def test_shown_values_are_short_and_printable() -> None:
    videos = read(f'video_id,t\nabc,x\n"a\nb\u202e\u0085{"c" * 300}",x\n')
    [problem] = videos.invalid
    assert problem.value.isprintable()
    assert len(problem.value) == MAX_SHOWN_LENGTH


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "The file is empty: write one video ID a row."),
        (b"\xef\xbb\xbf", "The file is empty: write one video ID a row."),
        (b"\r\n \n\t\n", "The file is empty: write one video ID a row."),
        (b"video_id,title\n", "The file has a header and no rows: write one video ID a row below it."),
        (b"a,b,c\nx,y,z\n", "No ID column: name one of the columns video_id (found: a, b, c)."),
        (
            b'video_id\n"a b"\n.x\n',
            "No valid video ID in 2 rows; the first, on line 2: not an ID: it contains a blank.",
        ),
        (
            b'"video"_id,t\n',
            "The first row, line 1, cannot be read: a quotation mark is not closed, or one inside a quoted cell is not "
            "doubled; correct it.",
        ),
    ],
)
def test_a_file_without_a_list_is_refused_with_a_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(Invalid) as raised:
        read(content)
    assert raised.value.sentence == sentence


@pytest.mark.parametrize(
    "content",
    [
        b"video_id\nabc\x00\n",
        b"PK\x03\x04\x14\x00\x06\x00",
        b"\x89PNG\r\n\x1a\n",
        "video_id\nabc\n".encode("utf-16-le"),
        b"\xff\xfea",
        b"\xef\xbb\xbfvideo_id\n\xff\n",
        b"video_id\n\x81\n",
        b"video_id\nabc\x1fdef\n",
    ],
)
def test_a_binary_file_is_refused_as_the_wrong_type(content: bytes) -> None:
    with pytest.raises(WrongType, match="The file is not text: save the list as CSV"):
        read(content)


def test_a_long_file_with_a_binary_end_is_refused() -> None:
    with pytest.raises(WrongType):
        read(b"video_id\n" + b"abc\n" * 50_000 + b"\x00")


def test_the_end_of_a_long_file_can_decide_its_encoding() -> None:
    text = "video_id,title\n" + "".join(f"v{n},Cats\n" for n in range(20_000)) + "last,Café\n"
    videos = read(text.encode("cp1252"))
    assert videos.encoding == "cp1252"
    assert videos.rows[-1].cells == ("last", "Café")


def test_the_limits_are_exact_and_named() -> None:
    assert read("id\na\nb\nc\n", max_rows=3, max_bytes=9).total_rows == 3
    with pytest.raises(TooLarge, match="more than 2 rows"):
        read("id\na\nb\nc\n", max_rows=2)
    with pytest.raises(TooLarge, match="more than 2 rows"):
        read("a\nb\nc\n", max_rows=2)
    with pytest.raises(TooLarge, match="larger than 1 MiB"):
        read(b"id\n" + b"a" * 2**20, max_bytes=2**20)


def test_duplicates_and_invalid_rows_count_against_the_limit() -> None:
    with pytest.raises(TooLarge):
        read("id\na\na\n!\n", max_rows=2)


def test_files_that_would_fill_the_memory_are_refused() -> None:
    with pytest.raises(Invalid, match="201 columns, the limit is 200"):
        read("id" + "," * MAX_COLUMNS + "\nabc\n")
    with pytest.raises(Invalid, match="line 2 is longer than"):
        read("id,t\n" + "a," * (MAX_RECORD_LENGTH // 2 + 1))
    with pytest.raises(Invalid, match="line 2 is longer than"):
        read('id,t\n"' + '\n","' * (MAX_RECORD_LENGTH // 4 + 1))
    with pytest.raises(TooLarge, match="more than 1,000,000 lines"):
        read("\n" * 1_000_001)


def test_an_error_names_few_columns_in_printable_text() -> None:
    header = ",".join(f"a\u202e{number}{'x' * 100}" for number in range(50))
    with pytest.raises(Invalid) as raised:
        read(f"{header}\n{header}\n")
    assert raised.value.sentence.isprintable()
    assert len(raised.value.sentence) < 600


def test_an_upload_is_read_from_its_start_and_stays_open() -> None:
    with tempfile.SpooledTemporaryFile(max_size=10) as file:
        file.write(b"video_id\n" + b"abc\n" * 100)
        assert ids(read_video_list(cast(BinaryIO, file))) == ["abc"]
        file.seek(0)
        assert file.readline() == b"video_id\n"


def test_a_refused_file_stays_open() -> None:
    file = io.BytesIO(b"a,b\nc,d\n")
    with pytest.raises(Invalid):
        read_video_list(file)
    assert not file.closed


def test_ids_without_a_file_are_sorted_like_rows() -> None:
    videos = list_of_ids(["dQw4w9WgXcQ", "https://youtu.be/dQw4w9WgXcQ", "a b", "def"])
    assert videos.columns == ("video_id",)
    assert videos.rows == (ListRow(1, "dQw4w9WgXcQ", ("dQw4w9WgXcQ",)), ListRow(4, "def", ("def",)))
    assert [(row.line, row.first_line) for row in videos.duplicates] == [(2, 1)]
    assert [row.line for row in videos.invalid] == [3]


def test_no_ids_and_too_many_ids_are_refused() -> None:
    with pytest.raises(Invalid, match="The list is empty"):
        list_of_ids([])
    with pytest.raises(TooLarge, match="100,001 IDs, the limit is 100,000"):
        list_of_ids(["a"] * (MAX_ROWS + 1))


def test_surrogates_and_nul_are_removed() -> None:
    videos = list_of_ids(["https://youtu.be/dQw4w9WgXcQ?x=\ud800\x00", "\ud800", "\x00"])
    assert videos.rows[0].cells[0].isprintable()
    assert all((problem.value + problem.reason).isprintable() for problem in videos.invalid)


# Characters that confuse CSV readers, whose cp1252 bytes are never valid UTF-8 by chance (those of "ß€" are).
CELL = st.text(alphabet="abcXYZ019 ,;\t|\"'\n\r-éß", max_size=12)
VIDEO = st.text(alphabet="abcXYZ019._-", min_size=1, max_size=12).filter(lambda text: text[0] != ".")
TITLES = st.lists(st.sampled_from(["title", "Größe", "note 2", "", "title"]), max_size=3)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """Draw a header with one known name, and rows with valid and different IDs."""
    titles = draw(TITLES)
    index = draw(st.integers(0, len(titles)))
    header = [*titles[:index], draw(st.sampled_from(ID_NAMES)), *titles[index:]]
    rows = []
    for video_id in draw(st.lists(VIDEO, min_size=1, max_size=6, unique=True)):
        others = draw(st.lists(CELL, min_size=len(titles), max_size=len(titles)))
        rows.append([*others[:index], video_id, *others[index:]])
    return header, rows


def lines_before(text: str) -> int:
    return len(text.replace("\r\n", "\n").replace("\r", "\n").split("\n")) - 1


@given(
    tables(),
    st.sampled_from([*DELIMITERS]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_a_table_of_a_csv_writer_is_read_unchanged(
    table: tuple[list[str], list[list[str]]], delimiter: str, encoding: str, ending: str, quoted: bool
) -> None:
    header, rows = table
    cells = [cell for row in rows for cell in row]
    assume(not any(is_placeholder(cell) or is_sum(cell) for cell in cells))  # left out beside YouTube IDs, and said so
    # The writer does not quote a line end other than its own: such a table is not CSV.
    has_line_ends = any("\n" in cell or "\r" in cell for row in rows for cell in row)
    quoting: Literal[0, 1] = csv.QUOTE_ALL if quoted or has_line_ends else csv.QUOTE_MINIMAL
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=ending, quoting=quoting)
    writer.writerow(header)
    expected = []
    for row in rows:
        index = next(index for index, name in enumerate(header) if name in ID_NAMES)
        expected.append(ListRow(1 + lines_before(buffer.getvalue()), row[index], tuple(row)))
        writer.writerow(row)

    videos = read(buffer.getvalue().encode(encoding))

    assert videos.columns == tuple(header)
    assert videos.rows == tuple(expected)
    assert not videos.duplicates
    assert not videos.invalid


@given(st.lists(VIDEO, min_size=1, max_size=8, unique=True), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_list_of_ids_without_a_header_is_read_unchanged(videos: list[str], ending: str, ended: bool) -> None:
    content = ending.join(videos) + ending * ended
    assert [(row.line, row.video_id) for row in read(content).rows] == list(enumerate(videos, 1))


def list_or_error(content: bytes) -> VideoList | DashboardError:
    try:
        return read(content)
    except DashboardError as error:
        return error


def expect_list_or_error(content: bytes) -> None:
    """Check that the content is read as a consistent list, or is refused with a sentence."""
    videos = list_or_error(content)
    if isinstance(videos, DashboardError):
        assert videos.status in (413, 415, 422)
        assert videos.sentence.isprintable()
        return
    assert videos.rows
    assert all(len(row.cells) == (len(videos.columns) or 1) for row in videos.rows)
    values = [row.value for row in videos.duplicates] + [row.value for row in videos.invalid]
    assert all(len(value) <= MAX_SHOWN_LENGTH and value.isprintable() for value in values)
    assert all(problem.reason.isprintable() for problem in videos.invalid)
    lines = {row.line for rows in (videos.rows, videos.duplicates, videos.invalid) for row in rows}
    assert len(lines) == videos.total_rows


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_list_or_an_error(content: bytes) -> None:
    expect_list_or_error(content)


PIECES = [
    *("video_id", "id", "abc", "é", "\u0085", "\u2028", "\ufeff", " ", "x" * 130),
    *(",", ";", "\t", "|", '"', '""', "\n", "\r", "\r\n"),
    *("/", "[", ".", "youtu.be/", "https://www.youtube.com/watch?v="),
]


@given(st.lists(st.sampled_from(PIECES), max_size=40), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
@settings(max_examples=300, deadline=None)
def test_any_text_like_csv_is_a_list_or_an_error(pieces: Sequence[str], encoding: str) -> None:
    expect_list_or_error("".join(pieces).encode(encoding))
