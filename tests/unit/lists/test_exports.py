"""Exports: safe for spreadsheets, named once at any depth, and always read back."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.video import Video, VideoStatus
from backend.domain.video_ids import VIDEO_ID
from backend.errors import DashboardError
from backend.lists.csv_files import VideoList, list_of_ids, read_video_list
from backend.lists.exports import (
    csv_rows,
    csv_start,
    export_columns,
    export_file_name,
    neutral,
    result_columns,
    unnamed_columns,
)

A, B = "dQw4w9WgXcQ", "jNQXAC9IVRw"


def read(content: bytes | str, column: str | int | None = None) -> VideoList:
    return read_video_list(io.BytesIO(content.encode() if isinstance(content, str) else content), column=column)


def videos_of(listed: VideoList) -> list[Video]:
    return [
        Video(
            job_id="job",
            position=n,
            video_id=row.video_id,
            line=row.line,
            cells=row.cells,
            status=VideoStatus.COMPLETED,
        )
        for n, row in enumerate(listed.rows)
    ]


def exported(listed: VideoList) -> bytes:
    """Write the export of a job that was made from this list."""
    videos = videos_of(listed)
    export = export_columns(listed.columns or unnamed_columns(videos), videos)
    return csv_start(export.columns) + csv_rows(map(export.row, videos))


def ids(listed: VideoList) -> Sequence[str]:
    return [row.video_id for row in listed.rows]


@pytest.mark.parametrize(
    "content",
    [
        f"id,title,url\n1,Cats,https://youtu.be/{A}\n2,Dogs,https://youtu.be/{B}\n",
        "video_id,status\nabc,a\n",
        "abc\ndef\n",
        "abc,\ndef,\n",
        'video_id\n\'-wNyEUrxzFU\n"=""00123"""\n',
        "Film [abc].mkv\ndef.mp4\n",
        f"Cats;{A}\nDogs;{B}\n",
        "sep=;\nvideo_id;=note\nabc;=1+1\ndef;@x\n",
        f"\u200bvideo_id,title\n\ufeff{A},Cats\n",
        f"{A}, {B}",
        f"Content,Views\nTotal,9\n{A},1\n",
    ],
)
def test_the_program_reads_its_own_export_back_at_any_depth(content: str) -> None:
    listed = read(content)
    first = listed
    for _ in range(4):
        first = read(exported(first))
        assert ids(first) == ids(listed)
        assert not first.invalid
        assert len(set(first.columns)) == len(first.columns)


@pytest.mark.parametrize(
    ("content", "column"),
    [
        (f"id,title,url\n1,Cats,https://youtu.be/{A}\n2,Dogs,https://youtu.be/{B}\n", "id"),
        (f"video_id,other\n{A},abc\n{B},def\n", "other"),
        ("id,video\nab,Cats\ncd,Dogs\n", "video"),
        ("a,b\nx,y\nv,w\n", "b"),
    ],
)
def test_a_list_with_a_chosen_column_is_read_back_with_the_same_videos(content: str, column: str) -> None:
    listed = read(content, column)
    again = read(exported(listed))
    assert ids(again) == ids(listed)
    assert ids(read(exported(again))) == ids(listed)


def test_names_of_results_are_unique_at_any_depth() -> None:
    columns = result_columns(result_columns(result_columns(["video_id", "status", "result_status"])))
    assert len(set(columns)) == len(columns) == 18
    assert result_columns(["video_id", "status", "result_status"])[3] == "result_result_status"


def test_an_export_of_an_earlier_version_is_read_back() -> None:
    """Exports had no column `machine` before; a sum in them is a video, too."""
    listed = read(
        "title,video_id,status,error,attempts,duration_seconds\nx,abc,completed,,1,2.5\nTotal,Total,failed,,1,\n"
    )
    assert ids(listed) == ["abc", "Total"]
    assert ids(read(exported(listed))) == ["abc", "Total"]


def test_an_export_names_the_machine_that_worked_on_a_video() -> None:
    video = replace(videos_of(read("video_id,title\nabc,x\n"))[0], machine="=rack-2", attempts=1, duration_seconds=2.5)
    rows = csv_rows([export_columns(("video_id", "title"), [video]).row(video)]).decode()
    assert rows == "abc,x,completed,,1,2.5,'=rack-2\r\n"


def test_a_sum_that_is_a_video_is_read_back_as_one() -> None:
    listed = list_of_ids(["Total", "abc"])
    assert ids(read(exported(listed))) == ["Total", "abc"]


CELLS = [
    "abc",
    "def",
    A,
    B,
    "1",
    "2",
    "Total",
    f"https://youtu.be/{A}",
    "x.mp4",
    "",
    "two words",
    "=1",
    "video_id",
    "-",
]
NAMES = ["id", "video_id", "url", "title", "status", "result_status", "video", "=x", "", "duration_seconds", "note"]


@given(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
    st.lists(st.lists(st.sampled_from(CELLS), min_size=4, max_size=4), min_size=1, max_size=6),
    st.sampled_from([None, 0, 1, 2]),
)
@settings(max_examples=300, deadline=None)
def test_whatever_list_became_a_job_is_read_back(header: list[str], rows: list[list[str]], column: int | None) -> None:
    content = csv_rows([header, *(row[: len(header)] for row in rows)])
    try:
        listed = read(content, column)
    except DashboardError:
        return
    assert ids(read(exported(listed))) == ids(listed)


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "+1+1",
        "@SUM(A1)",
        "-1+1",
        "\tx",
        "\rx",
        "\nx",
        " =1",
        "\u00a0=1",
        "\ufeff=1",
        "\u200b\x01=1",
        "＝1+1",
        "﹢1",
        "－1+1",
    ],
)
def test_a_cell_that_could_be_a_formula_is_quoted(cell: str) -> None:
    assert neutral(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", " ", "abc", "-wNyEUrxzFU", "--", "1-1", "'=1", "a=b", "Zürich", "🙂"])
def test_ids_and_ordinary_cells_are_unchanged(cell: str) -> None:
    assert neutral(cell) == cell


def test_an_export_is_made_for_excel_and_can_be_read_again() -> None:
    rows: list[list[object]] = [["-abc", 'Größe; "x"\r\ny', None, 3, -1.5], ["def", "=1+1", "", 0, -2]]
    content = csv_start(["video_id", "=title", "a", "b", "c"]) + csv_rows(rows)
    assert content.startswith(b"\xef\xbb\xbfvideo_id,'=title,a,b,c\r\n")
    assert [row.cells for row in read(content).rows] == [
        ("-abc", 'Größe; "x"\r\ny', "", "3", "-1.5"),
        ("def", "'=1+1", "", "0", "-2"),
    ]


def test_text_that_cannot_be_encoded_is_replaced() -> None:
    assert csv_rows([["a\ud800"]]) == b"a?\r\n"


@pytest.mark.parametrize(
    ("name", "file_name"),
    [
        ("nightly.csv", "nightly.csv"),
        ("Nightly.CSV", "Nightly.csv"),
        ("nightly.2026.txt", "nightly.2026.txt.csv"),
        ("../../etc/passwd", "etc_passwd.csv"),
        ("C:\\temp\\a.csv", "C_temp_a.csv"),
        ('a"\r\nSet-Cookie: b', "a_Set-Cookie_b.csv"),
        ("Prüfung №1", "Prufung_No1.csv"),
        ("日本", "export.csv"),
        ("-rf", "rf.csv"),
        (".csv", "csv.csv"),
        ("", "export.csv"),
        ("x" * 500, "x" * 100 + ".csv"),
    ],
)
def test_an_export_has_a_safe_name_like_its_job(name: str, file_name: str) -> None:
    assert export_file_name(name) == file_name


@given(st.text(max_size=40))
@settings(deadline=None)
def test_no_neutral_cell_but_an_id_begins_like_a_formula(cell: str) -> None:
    written = neutral(cell)
    assert written.removeprefix("'") == cell.removeprefix("'")
    assert VIDEO_ID.match(written) or not written.lstrip().startswith(("=", "+", "-", "@"))


@given(st.text(max_size=200))
@settings(deadline=None)
def test_any_job_name_results_in_a_safe_file_name(name: str) -> None:
    file_name = export_file_name(name)
    assert file_name.isascii()
    assert file_name.endswith(".csv")
    assert not set(file_name) & set("/\\\"'\r\n;: ")
    assert not file_name.startswith((".", "-"))
