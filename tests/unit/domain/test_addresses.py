"""Which addresses are of one video, and what is said of the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.addresses import YOUTUBE_ID, youtube_id
from backend.errors import InvalidVideoId

ID = "dQw4w9WgXcQ"


@pytest.mark.parametrize(
    "address",
    [
        "https://youtu.be/ID.",
        "https://youtu.be/ID)",
        "https://youtu.be/ID/",
        "https://youtu.be/ID&t=3",
        "https://youtu.be/watch?v=ID",
        "https://y2u.be/ID",
        "youtu.be/ID",
        "//youtu.be/ID",
        "HTTPS://WWW.YOUTUBE.COM/WATCH?V=ID",
        "http://youtube.com:443/watch?v=ID",
        "https://www.youtube.com/watch?v=ID?t=3",
        "https://www.youtube.com/watch?list=PLx&v=ID#t=3",
        "https://www.youtube.com/watch?feature=share&amp;v=ID",
        "https://www.youtube.com/watch/ID",
        "https://www.youtube.com/e/ID",
        "https://www.youtube.com/v/ID&hl=en",
        "https://www.youtube.com/live/ID?feature=shared",
        "https://www.youtube.com/shorts/ID/",
        "https://www.youtube-nocookie.com/embed/ID",
        "https://studio.youtube.com/video/ID/edit",
        "https://music.youtube.com/watch?v=ID&si=x",
        "https://m.youtube.com/#/watch?v=ID",
        "https://i.ytimg.com/vi/ID/hqdefault.jpg",
        "https%3A%2F%2Fyoutu.be%2FID",
        "https://www.youtube.com/attribution_link?a=x&u=%2Fwatch%3Fv%3DID%26feature%3Dshare",
        "https://www.youtube.com/oembed?url=https://www.youtube.com/watch?v=ID&format=json",
        "https://www.google.com/url?sa=t&url=https%3A%2F%2Fwww.youtube.com%2Fwatch%3Fv%3DID&usg=x",
        "vnd.youtube:ID",
    ],
)
def test_the_id_is_found_wherever_youtube_puts_it(address: str) -> None:
    assert youtube_id(address.replace("ID", ID)) == ID


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("https://www.youtube.com/embed/videoseries?list=PLx", "a playlist"),
        ("https://www.youtube.com/playlist?list=PLx", "a playlist"),
        ("https://youtu.be/playlist?list=PLx", "a playlist"),
        ("https://www.youtube.com/watch?list=PLx", "a playlist"),
        ("https://www.youtube.com/watch_videos?video_ids=ID,ID", "a playlist"),
        ("https://www.youtube.com/@handle", "a channel"),
        ("https://youtu.be/@handle", "a channel"),
        ("https://www.youtube.com/channel/UCx/videos", "a channel"),
        ("https://www.youtube.com/c/videoseries", "a channel"),
        ("https://www.youtube.com/embed/live_stream?channel=UCx", "a channel"),
        ("https://www.youtube.com/clip/UgkxABCDEFG", "a clip"),
        ("https://www.youtube.com/results?search_query=cats", "a search"),
        ("https://www.youtube.com/watch", "YouTube"),
        ("youtube.com", "YouTube"),
        ("https://www.youtube.com/feed/history", "YouTube"),
    ],
)
def test_an_address_of_something_else_is_named(address: str, kind: str) -> None:
    with pytest.raises(InvalidVideoId) as refused:
        youtube_id(address.replace("ID", ID))
    assert str(refused.value) == f"not an ID: an address of {kind}, not of one video"


@pytest.mark.parametrize("letters", ["abc", f"{ID}x", "dQw4w9WgXc", f"{ID}é"])
def test_only_eleven_letters_are_an_id_of_youtube(letters: str) -> None:
    for address in (f"https://youtu.be/{letters}", f"https://www.youtube.com/watch?v={letters}"):
        with pytest.raises(InvalidVideoId, match="those have 11 letters"):
            youtube_id(address)


@pytest.mark.parametrize(
    "address",
    [
        f"https://youtube.com.evil.example/watch?v={ID}",
        f"https://evil.example/youtube.com/watch?v={ID}",
        f"https://youtube.com@evil.example/watch?v={ID}",
        f"https://evilyoutube.com/watch?v={ID}",
        f"https://vimeo.com/{ID}",
        "my youtube list",
    ],
)
def test_another_site_is_no_address_of_youtube(address: str) -> None:
    assert youtube_id(address) is None


def test_two_addresses_in_one_text_are_not_one_video() -> None:
    with pytest.raises(InvalidVideoId, match="write one a line"):
        youtube_id(f"https://youtu.be/{ID}, https://youtu.be/{ID}")


@given(
    st.sampled_from(["youtu.be/", "youtube.com/watch?v=", "https://www.youtube.com/", "m.youtube.com/e/"]), st.text()
)
def test_whatever_an_address_has_only_eleven_letters_become_a_video(start: str, rest: str) -> None:
    try:
        found = youtube_id(start + rest)
    except InvalidVideoId:
        found = None
    assert found is None or YOUTUBE_ID.match(found)
