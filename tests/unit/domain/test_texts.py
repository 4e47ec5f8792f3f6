"""Which texts from strangers are taken, and what is made of the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.texts import checked_text, counted, storable, uploaded_name
from backend.errors import Invalid
from progress_dashboard.protocol import MAX_TEXT_LENGTH


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 videos"), (1, "1 video"), (2, "2 videos"), (1_234_567, "1,234,567 videos")]
)
def test_a_number_comes_with_the_right_form_of_its_noun(number: int, words: str) -> None:
    assert counted(number, "video") == words


def test_a_checked_text_has_no_blanks_around_it() -> None:
    assert checked_text("  nightly run\n", "name") == "nightly run"
    assert checked_text("żółć 🎬", "name") == "żółć 🎬"


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b", "\udfff", "x" * (MAX_TEXT_LENGTH + 1)])
def test_a_text_that_no_database_takes_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(Invalid, match=r"^The name must be readable text of at most 500 characters\.$"):
        checked_text(text, "The name")


def test_the_limit_of_a_text_is_inclusive_and_may_be_another() -> None:
    assert checked_text("x" * MAX_TEXT_LENGTH, "name") == "x" * MAX_TEXT_LENGTH
    with pytest.raises(Invalid, match="at most 3 characters"):
        checked_text("four", "name", 3)


@given(st.text(st.characters(categories=["L", "N", "Cs", "Cc", "So"])), st.none() | st.integers(0, 20))
def test_a_storable_text_is_one_that_every_database_takes(text: str, max_length: int | None) -> None:
    stored = storable(text, max_length=max_length)
    assert stored is not None
    assert stored.encode().decode() == stored
    assert "\x00" not in stored
    assert len(stored) <= (len(text) if max_length is None else max_length)


def test_a_storable_text_stays_as_it_is_and_none_stays_none() -> None:
    assert storable("żółć 🎬") == "żółć 🎬"
    assert storable("a\x00b\ud800c") == "ab?c"
    assert storable(None) is None


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("my %22best%22 list.csv", 'my "best" list.csv'),
        ("two%0D%0Alines.csv", "two  lines.csv"),
        ("two%0alines.csv", "two lines.csv"),
        ("100% & 50%25.csv", "100% & 50%25.csv"),
        ("lists/of the week/nightly.csv", "nightly.csv"),
        ("C:\\fakepath\\nightly.csv", "nightly.csv"),
        ("a\\b.csv", "a\\b.csv"),
        ("Übung 🎬.csv", "Übung 🎬.csv"),
        ("", ""),
    ],
)
def test_an_uploaded_file_is_named_as_it_is_on_the_disk(sent: str, name: str) -> None:
    assert uploaded_name(sent) == name
