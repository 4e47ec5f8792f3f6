"""Names of files where an ID is expected: `abc.mp4`, a path, `Film [abc].mkv`."""

from __future__ import annotations

import re

from backend.domain.film_files import FILMS, SOUNDS
from backend.domain.video_ids import VIDEO_ID
from backend.errors import InvalidVideoId

OTHER_FILES = frozenset(
    (
        *("jpg", "jpeg", "png", "webp", "gif", "part", "ytdl", "tmp", "crdownload"),
        *("json", "txt", "nfo", "csv", "tsv", "xlsx", "xml", "html", "url", "description"),
        *("vtt", "srt", "ass", "ssa", "lrc", "ttml", "zip"),
    )
)
KNOWN = FILMS | SOUNDS | OTHER_FILES
DIRECTORY = re.compile(r"[/\\]")
BRACKETED = re.compile(r"\[([^][]*)\]")
TAG = re.compile(  # what people and programs write in brackets beside an ID
    r"\d{3,4}[pi]\d*|\d{1,2}k|uhd|fhd|hd|sd|hdr\w*|sdr|[xh][.-]?26[45]|hevc|avc|av1|vp[89]|\d{1,3}fps|\d{1,2}bit|aac|ac3"
    r"|opus|flac|dts\S*|web(?:-?dl|rip)?|bluray|blu-ray|dvd\w*|remux|\d{4}|[0-9a-f]{8}|multi|dub|sub|proper",
    re.IGNORECASE,
)


def id_in_file_name(text: str) -> str | None:
    """Return the ID in a file's name, with or without its directories; None if the text does not end like a file.

    Raises `InvalidVideoId` for a file that is no video, and for a name without one ID.

    >>> id_in_file_name("C:\\\\films\\\\Cats [abc] [1080p].mkv"), id_in_file_name("v1.2")
    ('abc', None)
    """
    path, _, written = text.rpartition(".")
    stem, extension = DIRECTORY.split(path)[-1].strip(), written.lower()
    if not stem or extension not in KNOWN:
        return None
    if extension in OTHER_FILES:
        raise InvalidVideoId(f"not an ID: the name of a .{extension} file, not of a video")
    if VIDEO_ID.match(stem):
        return stem
    found = _bracketed(stem)
    if len(found) == 1:
        return found[0]
    reason = "several that could be its ID" if found else "no ID"
    raise InvalidVideoId(f"not an ID: the name of a file with {reason}; write the ID alone")


def _bracketed(stem: str) -> list[str]:
    """Return the texts in brackets that can be the ID: without tags, or one of YouTube's length if there is one."""
    found = [text for text in BRACKETED.findall(stem) if VIDEO_ID.match(text)]
    likely = [text for text in found if len(text) == 11] or [text for text in found if not TAG.fullmatch(text)]
    return likely or found
