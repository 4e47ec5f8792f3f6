"""Video IDs: which texts are one, and why others are not."""

from __future__ import annotations

import re

from backend.domain.addresses import youtube_id
from backend.domain.texts import trimmed
from backend.errors import InvalidVideoId

VIDEO_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}\Z")
FORBIDDEN = re.compile(r"[^A-Za-z0-9._-]")


def parse_video_id(text: str) -> str:
    """Return the video ID in `text`, without surrounding blanks, a YouTube address reduced to its ID.

    Raises `InvalidVideoId` with the reason.

    >>> parse_video_id(" https://youtu.be/dQw4w9WgXcQ?t=3 ")
    'dQw4w9WgXcQ'
    """
    candidate = trimmed(text)
    if found := youtube_id(candidate):
        return found
    if VIDEO_ID.match(candidate):
        return candidate
    raise InvalidVideoId(f"not an ID: {_why_not(candidate)}")


def _why_not(candidate: str) -> str:
    if not candidate:
        return "it is empty"
    if len(candidate) > 128:
        return "it is longer than 128 characters"
    if candidate.startswith("."):
        return "it starts with a dot"
    found = FORBIDDEN.search(candidate)
    character = found[0] if found else ""
    if character.isspace():
        return "it contains a blank"
    if character.isascii():
        return f'"{character}" is not allowed'
    code = f"(U+{ord(character):04X})"
    if trimmed(character):
        return f'"{character}" {code} is not allowed'
    return f"it contains an invisible character {code}"
