"""What one cell says: an ID, an address, a file, or why it is none of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import InvalidVideoId
from backend.lists.cells import is_certain, read_id

ID = "dQw4w9WgXcQ"
SPREADSHEET = "changed by the spreadsheet: format the column as text"


@pytest.mark.parametrize(
    ("cell", "video_id"),
    [
        ('="00123"', "00123"),
        ('=T("00123")', "00123"),
        ("'-wNyEUrxzFU", "-wNyEUrxzFU"),
        ('\'="00123"', "00123"),
        (f'=HYPERLINK("https://youtu.be/{ID}";"Cats")', ID),
        (f"\u200b{ID}\ufeff", ID),
        (f"\u2060\u00ad{ID}\u3164", ID),
        ("\u00a0abc\u202c", "abc"),
        (f"“{ID}”", ID),
        (f'"{ID}"', ID),
        (f"<https://youtu.be/{ID}>", ID),
        (f"youtube {ID}", ID),
        ("abc.mp4", "abc"),
        ("/srv/films/abc.MKV", "abc"),
        ("C:\\films\\abc.webm", "abc"),
        ("file:///srv/abc.mov", "abc"),
        ("Film [abc].mkv", "abc"),
        (f"Film [{ID}] [1080p].mkv", ID),
        ("Film [2019] [abc] [x265].mp4", "abc"),
        ("v1.2", "v1.2"),
        ("12E3", "12E3"),
    ],
)
def test_an_id_is_read_as_it_was_meant(cell: str, video_id: str) -> None:
    assert read_id(cell) == video_id


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("1.23E+11", SPREADSHEET),
        ("1,23457E+17", SPREADSHEET),
        ("#NAME?", SPREADSHEET),
        ("#DIV/0!", SPREADSHEET),
        ("#N/A", SPREADSHEET),
        ("########", SPREADSHEET),
        ("a\u200bb", "an invisible character (U+200B)"),
        ("abc\u00addef", "an invisible character (U+00AD)"),
        ("\u0430bc", '"\u0430" (U+0430) is not allowed'),
        (f"{ID}, {ID}", "several IDs; write one ID a line"),
        ("vimeo 12345", "it contains a blank"),
        ("Film.jpg", "the name of a .jpg file, not of a video"),
        ("abc.info.json", "the name of a .json file, not of a video"),
        ("My film.mp4", "the name of a file with no ID"),
        ("Film [abc] [def].mp4", "several that could be its ID"),
        ("https://cdn.example/abc.mp4", '":" is not allowed'),
        ("\u3164", "it is empty"),
    ],
)
def test_what_is_no_id_is_refused_with_the_reason(cell: str, reason: str) -> None:
    with pytest.raises(InvalidVideoId) as refused:
        read_id(cell)
    assert reason in str(refused.value)


@pytest.mark.parametrize("word", ["description", "Information", "INFORMATION", "12345678901", "abc", "Total", "v1.2"])
def test_words_and_numbers_do_not_look_like_ids(word: str) -> None:
    assert not is_certain(word)


@given(st.text(alphabet="abcXYZ019_-", min_size=1, max_size=128))
def test_a_plain_id_is_never_changed(video_id: str) -> None:
    assert read_id(video_id) == video_id


@given(st.text(max_size=60))
def test_any_cell_is_an_id_or_refused_with_a_sentence(cell: str) -> None:
    try:
        said = read_id(cell)
    except InvalidVideoId as error:
        said = error.sentence.removeprefix("not an ID: ")
    assert 1 <= len(said) <= 128
