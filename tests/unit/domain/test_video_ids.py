"""Which texts are video IDs, and what is said of the others."""

from __future__ import annotations

import pytest

from backend.domain.video_ids import parse_video_id
from backend.errors import InvalidVideoId


@pytest.mark.parametrize(
    "text",
    [
        "dQw4w9WgXcQ",
        " dQw4w9WgXcQ\t",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=3s",
        "youtube.com/watch?v=dQw4w9WgXcQ",
        "https://youtu.be/dQw4w9WgXcQ?si=x",
        "https://www.youtube.com/shorts/dQw4w9WgXcQ",
        "https://m.youtube.com/embed/dQw4w9WgXcQ",
    ],
)
def test_an_id_or_a_youtube_address_is_taken(text: str) -> None:
    assert parse_video_id(text) == "dQw4w9WgXcQ"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        (".hidden", "it starts with a dot"),
        ("a b", "it contains a blank"),
        ("../etc/passwd", "it starts with a dot"),
        ("n/a", '"/" is not allowed'),
        ("https://evil.example/watch?v=dQw4w9WgXcQ", '":" is not allowed'),
        ("x" * 129, "it is longer than 128 characters"),
        ("ok\x00", '"\x00" is not allowed'),
        ("http://[", '":" is not allowed'),
    ],
)
def test_the_reason_is_given_for_a_text_that_is_no_id(text: str, reason: str) -> None:
    with pytest.raises(InvalidVideoId) as refused:
        parse_video_id(text)
    assert str(refused.value) == f"not an ID: {reason}"
