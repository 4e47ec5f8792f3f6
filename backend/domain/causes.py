"""Groups failures by cause: error sentences that differ only in names and numbers have the same cause."""

from __future__ import annotations

import re
from hashlib import sha256

FINGERPRINT_LENGTH = 12  # hexadecimal digits of a fingerprint
MAX_COMPARED_LENGTH = 300  # characters of an error; differences after them do not count
PLACEHOLDER = "…"
QUOTED = re.compile(r'"[^"]*"|“[^“”]*”|«[^«»]*»|`[^`]*`|(?<!\w)\'[^\']*\'(?!\w)')
FILE_NAME = re.compile(r".+\.(?=[0-9]*[a-z])[a-z0-9]{1,5}", re.IGNORECASE)
IDENTIFIER = re.compile(r"(?=[a-z-]*[0-9])(?=[0-9-]*[a-z])(?:0x)?[0-9a-f]{8,}(?:-[0-9a-f]{4,12}){0,4}", re.IGNORECASE)
# a number after one of these words is a code: HTTP 404 is another cause than HTTP 500
CODE = re.compile(r"\b(http|status|code|errno|error)[\s:=(]{0,2}(-?\d{1,5})(?!\d|\.\d)", re.IGNORECASE)
QUANTITY = re.compile(r"[-+]?\d+(?:[.,:]\d+)*(?:[mun]?s|m|h|x|fps|[kmg]i?b)?", re.IGNORECASE)
NUMBER = re.compile(r"(?<![^\W_])[-+]?\d+(?:[.,:]\d+)*")
LIST = re.compile(rf"{PLACEHOLDER}(?:(?:,| and|, and| or) {PLACEHOLDER}(?: more)?)+")
LEADING, TRAILING = "([{<=", ")]}>.,;:!?"
WORD = re.compile(r"[A-Za-z]?[a-z-]*|[A-Z_-]+")


def fingerprint(error: str, video_id: str) -> str:
    """Return 12 hexadecimal digits that are the same for all videos that failed for this cause.

    Names of the video, files, paths, addresses, quantities and quoted texts do not count. Codes such as `HTTP 404` or
    `exit status 3` count. The bare video ID does not count either, unless it looks like a `WORD`: then it is probably a
    word of the sentence.

    >>> fingerprint('"a.mp4" is not a regular file.', "a") == fingerprint('"b/c [x].mkv" is not a regular file.', "x")
    True
    """
    return sha256(_shape(error[:MAX_COMPARED_LENGTH], video_id).encode("utf-8", "replace")).hexdigest()[
        :FINGERPRINT_LENGTH
    ]


def _shape(error: str, video_id: str) -> str:
    """Return the sentence with `…` in place of names and numbers."""
    text = QUOTED.sub(PLACEHOLDER, error)
    if not NUMBER.fullmatch(video_id) and not WORD.fullmatch(video_id):
        text = re.sub(rf"(?<![\w-]){re.escape(video_id)}(?![\w-])", PLACEHOLDER, text)
    words = " ".join(_without_name(word) for word in text.split())
    with_codes = CODE.sub(lambda found: f"{found[1]} {_spelled(found[2])}", words)
    return LIST.sub(PLACEHOLDER, NUMBER.sub(PLACEHOLDER, with_codes)).casefold()


def _without_name(word: str) -> str:
    """Return the word, with `…` in place of a path, an address, a file name or an identifier."""
    core = word.lstrip(LEADING).rstrip(TRAILING)
    if not core or QUANTITY.fullmatch(core):
        return word
    is_name = (
        "/" in core or "\\" in core or PLACEHOLDER in core or FILE_NAME.fullmatch(core) or IDENTIFIER.fullmatch(core)
    )
    return word.replace(core, PLACEHOLDER, 1) if is_name else word


def _spelled(code: str) -> str:
    """Return the code in letters, so that it is not replaced as a number."""
    return "".join("abcdefghij-"["0123456789-".index(digit)] for digit in code)
