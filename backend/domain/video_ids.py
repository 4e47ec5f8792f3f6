"""Video IDs, and the addresses that hold one."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus, urlsplit

from backend.errors import InvalidVideoId

VIDEO_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}\Z")
COMMON_ADDRESS = re.compile(  # matched first: it saves most of the time that a long list of addresses takes
    r"https://(?:www\.)?(?:youtube\.com/watch\?v=([\w-]+)(?=[&#]|\Z)|youtu\.be/([\w-]+)(?=[?#]|\Z))", re.ASCII
)
INVALID_CHARACTER = re.compile(r"[^A-Za-z0-9._-]")
WATCH_PARAMETER = re.compile(r"(?:\A|&)v=([^&]+)")
YOUTUBE_HOSTS = frozenset(
    {"youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com", "youtube-nocookie.com"}
)


def parse_video_id(text: str) -> str:
    """Return the video ID in `text`, without surrounding blanks, a YouTube address reduced to its ID.

    Raises `InvalidVideoId` with the reason.

    >>> parse_video_id(" https://youtu.be/dQw4w9WgXcQ?t=3 ")
    'dQw4w9WgXcQ'
    """
    candidate = text.strip()
    if "/" in candidate:
        candidate = _from_youtube(candidate) or candidate
    if VIDEO_ID.match(candidate):
        return candidate
    raise InvalidVideoId(f"not an ID: {_why_not(candidate)}")


def _from_youtube(address: str) -> str | None:
    if common := COMMON_ADDRESS.match(address):
        return common[1] or common[2]
    if "youtu" not in address.lower():
        return None
    try:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        host = parts.hostname or ""
    except ValueError:
        return None
    path = [piece for piece in parts.path.split("/") if piece]
    if host in ("youtu.be", "www.youtu.be"):
        return path[0] if path else None
    if host not in YOUTUBE_HOSTS:
        return None
    if path[:1] == ["watch"]:
        parameter = WATCH_PARAMETER.search(parts.query)
        return unquote_plus(parameter[1]) if parameter else None
    return path[1] if len(path) >= 2 and path[0] in ("shorts", "embed", "live", "v") else None


def _why_not(candidate: str) -> str:
    if not candidate:
        return "it is empty"
    if len(candidate) > 128:
        return "it is longer than 128 characters"
    if candidate.startswith("."):
        return "it starts with a dot"
    found = INVALID_CHARACTER.search(candidate)
    character = found[0] if found else ""
    return "it contains a blank" if character.isspace() else f'"{character}" is not allowed'
