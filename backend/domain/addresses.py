"""The one reader of addresses: finds the video ID in an address of YouTube.

An ID is taken only from a place where YouTube puts one, and only if it has the 11 letters of its alphabet. What follows
it is ignored, because addresses are copied with full stops, brackets and foreign parameters.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from backend.errors import InvalidVideoId

COMMON_ADDRESS = re.compile(  # matched first: it saves most of the time that a long list of addresses takes
    r"https?://(?:www\.|m\.|music\.)?(?:youtube\.com/(?:watch\?(?:(?!v=)\w+=[\w.-]*&)*v=|shorts/|embed/|live/|v/)"
    r"(?!videoseries|live_stream)([\w-]{11})(?=[&#?]|\Z)|youtu\.be/(?!watch_popup)([\w-]{11})(?=[?#]|\Z))",
    re.ASCII,
)
YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}\Z")
HINTS = ("youtu", "ytimg", "y2u.be")  # each address that is read here contains one of them
ADDRESS = re.compile(
    r"(?:[a-z][a-z0-9+.-]*:)?/{0,3}(?:[^/?#@\s]*@)?([a-z0-9-]+(?:\.[a-z0-9-]+)+)\.?(?::\d*)?(?=[/?#&]|\Z)(.*)",
    re.IGNORECASE | re.DOTALL,
)
YOUTUBE_HOST = re.compile(
    r"(?:.+\.)?(?:youtube(?:-nocookie|kids|education)?\.com|youtube\.googleapis\.com|ytimg\.com|youtu\.be|y2u\.be)"
)
SHORT_HOST = re.compile(r"(?:www\.)?(?:youtu|y2u)\.be")
GOOGLE_HOST = re.compile(r"(?:www\.)?google(?:\.[a-z]{2,3}){1,2}")
BARE = re.compile(r"(?:vnd\.)?youtube:(?://)?([\w-]{11})\Z", re.IGNORECASE | re.ASCII)
PATH = re.compile(r"[^?#&]*")
PARAMETER = re.compile(r"[?&#!;/](?:v|vi|video_id)=([\w-]*)", re.IGNORECASE)
NESTED = re.compile(r"[?&](?:u|q|url|next|continue)=([^&]+)", re.IGNORECASE)
LETTERS = re.compile(r"[\w-]*")
ANOTHER = re.compile(r"(?:/|%2f).*[\s,;|](?:https?:|www\.|youtu(?:be\.com|\.be)/)", re.IGNORECASE | re.DOTALL)
BEFORE_AN_ID = frozenset(
    ("v", "vi", "vi_webp", "an_webp", "e", "w", "embed", "shorts", "short", "live", "watch", "video", "videos")
)
WITH_PARAMETER = frozenset(("", "watch", "watch_popup", "watch.php", "movie", "details", "embed", "get_video_info"))
REDIRECTS = frozenset(("attribution_link", "redirect", "oembed", "signin", "m", "url", "servicelogin"))
PLAYLISTS = frozenset(("playlist", "videoseries", "watch_videos", "show", "course"))
CHANNELS = frozenset(("channel", "c", "user", "u", "live_stream"))
OTHERS = {"clip": "a clip", "post": "a post", "results": "a search", "hashtag": "a search"}
YOUTUBES_WORDS = BEFORE_AN_ID | WITH_PARAMETER | REDIRECTS | PLAYLISTS | CHANNELS | OTHERS.keys() | {"feed"}


def youtube_id(text: str) -> str | None:
    """Return the ID in an address of YouTube; None if the text is no such address.

    Raises `InvalidVideoId` for an address of YouTube that is not of one video.

    >>> youtube_id("https://youtu.be/watch?v=dQw4w9WgXcQ&t=3"), youtube_id("https://vimeo.com/1")
    ('dQw4w9WgXcQ', None)
    """
    if common := COMMON_ADDRESS.match(text):
        return common[1] or common[2]
    lower = text.lower()
    if not any(hint in lower for hint in HINTS):
        return None
    if bare := BARE.match(text):
        return bare[1]
    if ANOTHER.search(text):
        raise InvalidVideoId("not an ID: several addresses; write one a line")
    parts = ADDRESS.match(unquote(text) if "%2f" in lower and "/" not in text else text)
    if parts is None:
        return None
    host, rest = parts[1].lower(), parts[2].replace("&amp;", "&")
    if GOOGLE_HOST.fullmatch(host):
        return _id_behind(rest)
    return _id_at(host, rest) if YOUTUBE_HOST.fullmatch(host) else None


def _id_at(host: str, rest: str) -> str:
    rest = re.sub(r"\A/*#!?", "", rest)  # the addresses of old mobile pages
    path = [unquote(piece) for piece in PATH.match(rest)[0].split("/") if piece]  # type: ignore[index]  # always matches
    first = path[0].lower() if path else ""
    if SHORT_HOST.fullmatch(host) and first and first not in YOUTUBES_WORDS and not first.startswith("@"):
        return _checked(path[0])
    if first in REDIRECTS and (found := _id_behind(rest)):
        return found
    if first in BEFORE_AN_ID and len(path) > 1 and path[1].lower() not in PLAYLISTS | CHANNELS:
        return _checked(path[1])
    parameter = PARAMETER.search(unquote(rest)) if first in WITH_PARAMETER else None
    if parameter and parameter[1]:
        return _checked(parameter[1])
    raise InvalidVideoId(f"not an ID: an address of {_kind(path, rest)}, not of one video")


def _id_behind(rest: str) -> str | None:
    """Return the ID in the address that another one leads to."""
    nested = NESTED.search(rest)
    if nested is None:
        return None
    target = unquote(nested[1])
    return youtube_id(f"https://www.youtube.com{target}" if target.startswith("/") else target)


def _checked(piece: str) -> str:
    found = LETTERS.match(piece)
    letters = found[0] if found else ""
    if YOUTUBE_ID.match(letters):
        return letters
    shown = "no ID" if not letters else f'"{letters[:40]}", which is no ID of YouTube: those have 11 letters'
    raise InvalidVideoId(f"not an ID: the address has {shown}")


def _kind(path: list[str], rest: str) -> str:
    words = [piece.lower() for piece in path[:2]]
    if any(word in CHANNELS or word.startswith("@") for word in words):
        return "a channel"
    if any(word in PLAYLISTS for word in words) or "list=" in rest:
        return "a playlist"
    return OTHERS.get(words[0] if words else "", "YouTube")
