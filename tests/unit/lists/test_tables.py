"""What the table in a file is: its delimiter, the lines above the header, the column with the IDs, its words."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import DashboardError, Invalid
from backend.lists.csv_files import ColumnUndecided, Problem, VideoList, list_of_ids, read_video_list

A, B, C = "dQw4w9WgXcQ", "jNQXAC9IVRw", "9bZkp7q19f0"


def read(content: str, encoding: str = "utf-8", column: str | int | None = None) -> VideoList:
    return read_video_list(io.BytesIO(content.encode(encoding)), column=column)


def ids(videos: VideoList) -> list[str]:
    return [row.video_id for row in videos.rows]


@pytest.mark.parametrize(
    ("content", "column", "found"),
    [
        (f"id,title,url\n1,Cats,https://youtu.be/{A}\n", "url", [A]),
        (f"id,title,url\n1,Cats,https://youtu.be/{A}\n2,Dogs,https://youtu.be/{B}\n", "url", [A, B]),
        (f"video,url\nCats,https://youtu.be/{A}\nDogs,https://youtu.be/{B}\n", "url", [A, B]),
        (f"id;Titel;Wo\n1;Katzen;https://youtu.be/{A}\n", "Wo", [A]),
        (f"id,video\n1,{A}\n2,{B}\n", "video", [A, B]),
        ("id,file\n1,abc.mp4\n2,def.mkv\n", "file", ["abc", "def"]),
        ("id,video_id\n1,abc\n2,def\n", "video_id", ["abc", "def"]),
        (f"id,url\n{A},https://youtu.be/{A}\n{B},https://youtu.be/{B}\n", "id", [A, B]),
        (f"video_id,related\n{A},{B}\n{C},{A}\n", "video_id", [A, C]),
        (f"title,Watch link:\nCats,{A}\n", "Watch link:", [A]),
        ("url,id\n,abc\n,def\n", "id", ["abc", "def"]),
        (f"Cats,{A}\nDogs,{B}\n", "video_id", [A, B]),
        (f"{A};Cats\n{B};Dogs\n", "video_id", [A, B]),
    ],
)
def test_the_column_with_the_ids_is_found_by_its_cells(content: str, column: str, found: list[str]) -> None:
    videos = read(content)
    assert (videos.column, ids(videos)) == (column, found)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("id,title,url\n1,Cats,https://www.youtube.com/playlist?list=PLx\n", "(id, url)"),
        ("id,video\n1,Cats\n2,Dogs\n", "(id, video)"),
        ("id,video\nab,Cats\ncd,Dogs\n", "(id, video)"),
        (f"video_id,url\n{A},https://youtu.be/{B}\n", "(video_id, url)"),
    ],
)
def test_columns_that_compete_are_refused_by_name(content: str, named: str) -> None:
    with pytest.raises(ColumnUndecided) as refused:
        read(content)
    assert refused.value.sentence.startswith(f"Several columns could hold the video IDs {named}: choose one of them")
    assert refused.value.columns == tuple(content.splitlines()[0].split(","))


def test_a_column_can_be_chosen_by_name_or_place() -> None:
    content = f"id,title,url\n1,Cats,https://youtu.be/{A}\n"
    assert ids(read(content, column="id")) == ["1"]
    assert ids(read(content, column="URL")) == [A]
    assert ids(read(content, column=1)) == ["Cats"]
    assert ids(read("a;b\nx;y\n", column="b")) == ["y"]
    assert ids(read(f"{A},{B}\n{B},{C}\n", column="column_2")) == [B, C]
    with pytest.raises(ColumnUndecided, match=r'no column "where" \(found: id, title, url\)'):
        read(content, column="where")


def test_what_was_decided_is_said() -> None:
    assert read(f"id,url\n1,https://youtu.be/{A}\n").notes == ("The IDs come from url, not from id.",)
    assert "1, 2, 3" in read("id,title\n1,Cats\n2,Dogs\n").notes[0]
    assert read(f"url\nhttps://youtu.be/{A}\n").notes == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        ("sep=;\r\nvideo_id;title\r\nabc;Cats, dogs\r\n", ";"),
        ("sep=,\nvideo_id,title\nabc,Cats; dogs\n", ","),
        ("SEP=^\nvideo_id^title\nabc^Cats\n", "^"),
        ("sep=\t\nvideo_id\ttitle\nabc\tCats\n", "\t"),
        ('"sep=;"\nvideo_id;title\nabc;Cats\n', ";"),
        ("sep=;;\n\nvideo_id;title\nabc;Cats\n", ";"),
    ],
)
def test_a_first_line_that_names_the_separator_is_obeyed(content: str, delimiter: str, encoding: str) -> None:
    videos = read(content, encoding)
    assert (ids(videos), videos.columns, videos.delimiter) == (["abc"], ("video_id", "title"), delimiter)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "above",
    [
        "Export of Monday",
        "# a comment, with a comma",
        "Export",
        "Channel: Cats\n\nFrom 1 to 3 May,,",
        "Made 9:00, by me",
    ],
)
def test_lines_above_the_header_are_passed_over_and_named(above: str, encoding: str) -> None:
    videos = read(f"{above}\nvideo_id,title,year\nabc,Cats,1\ndef,Dogs,2\n", encoding)
    assert ids(videos) == ["abc", "def"]
    assert videos.rows[0].line == above.count("\n") + 3
    assert "above it" in videos.notes[0]


def test_rows_above_a_header_are_not_lost_in_silence() -> None:
    with pytest.raises(Invalid, match="Line 2 is a header with other rows above it"):
        read("abc,Cats\nvideo_id,title\ndef,Dogs\n")


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_two_exports_in_one_file_have_one_header(bom: str, ending: str) -> None:
    content = ending.join(["video_id,title", "abc,Cats", f"{bom}video_id,title", "def,Dogs", ""])
    videos = read(content)
    assert ids(videos) == ["abc", "def"]
    assert videos.invalid == (Problem(3, "video_id", "the header, once more"),)
    assert videos.notes == ("Left out: 1 repeated header.",)


def test_a_repeated_header_may_have_fewer_cells() -> None:
    videos = read(",video_id\n,abc\nvideo_id\n")
    assert (ids(videos), videos.invalid) == (["abc"], (Problem(3, "video_id", "the header, once more"),))


@pytest.mark.parametrize("name", ["video_id", "video_ids", "Video-ID", "youtube_url", "YouTube ID", "videoId"])
def test_the_name_of_a_column_is_no_video_wherever_it_is(name: str) -> None:
    assert ids(read(f"{name}\nabc\n")) == ["abc"]
    for values in (["abc", name, "def"], [name, "abc", "def"]):
        assert ids(list_of_ids(values)) == ["abc", "def"]
    assert ids(read(f"abc\n{name}\ndef\n")) == ["abc", "def"]


def test_a_second_list_with_other_columns_is_refused_by_its_line() -> None:
    with pytest.raises(Invalid, match="The header on line 3 has the columns in another order"):
        read("video_id,title\nabc,Cats\ntitle,video_id\nDogs,def\n")


@pytest.mark.parametrize("word", ["Total", "TOTAL:", "Gesamt", "Grand total", "Итого", "合計"])
def test_a_sum_is_left_out_and_named(word: str) -> None:
    for content in (f"Content,Views\n{word},9\n{A},1\n{B},8\n", f"Content,Views\n{A},1\n{word},9\n"):
        videos = read(content)
        assert A in ids(videos)
        assert word not in ids(videos)
        assert [problem.value for problem in videos.invalid] == [word]


def test_a_sum_whose_word_is_in_another_column_is_named_too() -> None:
    videos = read(f"id,title,url\n1,Cats,https://youtu.be/{A}\nTotal,,\n")
    assert videos.invalid == (Problem(3, "Total", "a sum, not a video"),)


@pytest.mark.parametrize("word", ["NA", "null", "None", "nan", "--", "deleted"])
def test_a_placeholder_among_ids_of_youtube_is_no_video(word: str) -> None:
    videos = read(f"video_id\n{A}\n{word}\n{B}\n{C}\n")
    assert ids(videos) == [A, B, C]
    assert videos.invalid == (Problem(3, word, "a placeholder, not a video"),)


def test_words_among_other_words_are_ids() -> None:
    assert ids(read("intro\nTotal\nNA\n")) == ["intro", "Total", "NA"]


def test_an_id_unlike_the_others_is_named() -> None:
    assert read(f"{A}\n{B}\n{C}\nCats\n").notes == ("Not like the other IDs: Cats (line 4).",)


def test_a_word_above_addresses_is_their_header() -> None:
    videos = read(f"list\nhttps://youtu.be/{A}\nhttps://youtu.be/{B}\nhttps://youtu.be/{C}\n")
    assert (ids(videos), [problem.value for problem in videos.invalid]) == ([A, B, C], ["list"])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_blank_before_a_quotation_mark_is_read_as_meant(delimiter: str) -> None:
    videos = read(f'video_id{delimiter} title\nabc{delimiter} "One{delimiter} two"\ndef{delimiter}  "x"\n')
    assert [row.cells for row in videos.rows] == [("abc", f"One{delimiter} two"), ("def", "x")]
    assert not videos.invalid


def test_a_blank_behind_a_quotation_mark_is_read_as_meant() -> None:
    videos = read('video_id,title\n"abc" ,"x, y" \ndef,z\n')
    assert [row.cells for row in videos.rows] == [("abc", "x, y"), ("def", "z")]


@pytest.mark.parametrize("mark", ["\u200b", "\ufeff", "\u2060", "\u00ad", "\u200e", "\u3164", "\u00a0", "\ufe0f"])
def test_invisible_characters_around_ids_and_names_are_taken_off(mark: str) -> None:
    assert ids(read(f"title,{mark}video_id{mark}\nCats,{mark}abc{mark}\n")) == ["abc"]
    assert ids(read(f"{mark}id{mark}\n{mark}abc\n")) == ["abc"]
    assert ids(read(f"{mark}abc\ndef{mark}\n")) == ["abc", "def"]


@pytest.mark.parametrize(
    "line", [f"{A}, {B}, {C}", f"{A} {B} {C}", f"{A};{B};{C}\n", f"https://youtu.be/{A}, {B}, {C}.mp4"]
)
def test_several_certain_ids_on_one_line_are_understood(line: str) -> None:
    assert ids(read(line)) == [A, B, C]


@pytest.mark.parametrize("content", ["abc, def, ghi", f"{A}, {B}\n{C}, {A}\n"])
def test_several_words_on_a_line_are_refused_with_what_to_do(content: str) -> None:
    with pytest.raises(Invalid, match="write one video ID a line"):
        read(content)


def test_the_archive_of_a_downloader_is_a_list() -> None:
    videos = read(f"youtube {A}\nyoutube {B}\nvimeo 123\n")
    assert (ids(videos), [problem.value for problem in videos.invalid]) == ([A, B], ["vimeo 123"])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (f'["{A}", "{B}"]', "JSON"),
        (f'{{"video_ids": ["{A}"]}}', "JSON"),
        (f'\n[\n  "{A}"\n]', "JSON"),
        (f"<!DOCTYPE html><html>{A}</html>", "web page"),
        ('<?xml version="1.0"?><rss></rss>', "web page"),
    ],
)
def test_another_format_is_named_with_what_to_do(content: str, what: str) -> None:
    with pytest.raises(Invalid, match=rf"This is (a )?{what}.*write one video ID a line"):
        read(content)


def test_comments_in_a_list_are_left_out() -> None:
    videos = read(f"#EXTM3U\n#EXTINF:9,Cats\nhttps://youtu.be/{A}\n# the end\n{B}\n")
    assert ids(videos) == [A, B]
    assert videos.notes == ("Left out: 3 comments.",)


def test_file_names_are_taken_as_their_ids_and_said_so() -> None:
    videos = read("abc.mp4\nFilm, part 2 [def].mkv\n")
    assert ids(videos) == ["abc", "def"]
    assert videos.notes == ("The extension of 1 file name is left out: abc.mp4 is the video abc.",)


VALID = st.text(alphabet="abcdefXYZ0123456789_-", min_size=1, max_size=14).filter(lambda text: text.strip("-_"))


@given(st.lists(VALID, min_size=1, max_size=8, unique=True))
@settings(max_examples=200, deadline=None)
def test_a_list_of_valid_ids_is_never_changed(values: list[str]) -> None:
    assert ids(list_of_ids(values)) == values
    assert ids(read("".join(f"{value}\n" for value in values))) == values
    assert ids(read("video_id,title\n" + "".join(f"{value},A title\n" for value in values))) == values


PIECES = [
    "sep=;",
    "video_id",
    "id",
    "url",
    A,
    f"https://youtu.be/{B}",
    "Total",
    "NA",
    "abc.mp4",
    "1",
    "Cats",
    "# x",
    '"',
    "\ufeff",
    " ",
]


@given(
    st.lists(st.sampled_from([*PIECES, ",", ";", "\n", "\n", "|"]), max_size=30), st.sampled_from([None, "url", 0, 1])
)
@settings(max_examples=300, deadline=None)
def test_any_mixture_is_a_list_or_an_error(pieces: list[str], column: str | int | None) -> None:
    videos: VideoList | None = None
    try:
        videos = read("".join(pieces), column=column)
        said = " ".join(videos.notes)
    except DashboardError as error:
        said = error.sentence
    assert said.isprintable()
    if videos is not None:
        assert videos.rows
        assert all(len(row.cells) == (len(videos.columns) or 1) for row in videos.rows)
        assert not {"video_id", "sep="} & set(ids(videos))
