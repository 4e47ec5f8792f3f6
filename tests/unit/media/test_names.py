"""What names of files say, whatever bytes they are made of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backend.domain.video_ids import VIDEO_ID
from backend.media.names import Kind, ids_of, kind_of

stems = st.text(st.sampled_from("ab1[]() ._-é"), max_size=30)


@given(stem=stems)
def test_only_words_that_are_ids_are_taken_from_a_name(stem: str) -> None:
    assert all(VIDEO_ID.match(word) and word in stem for word in ids_of(stem))


@given(stem=stems, video_id=st.from_regex(r"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}\Z"))
def test_the_last_word_in_brackets_is_always_an_id(stem: str, video_id: str) -> None:
    assert ids_of(f"{stem}[{video_id}]")[0] == video_id


@given(extension=st.text(max_size=8))
def test_every_extension_has_a_kind(extension: str) -> None:
    assert kind_of(extension) in Kind
