"""Which failures have the same cause: sentences that differ only in what they name are one cause."""

from __future__ import annotations

import re
from hashlib import sha256

FINGERPRINT_LENGTH = 12  # hexadecimal digits of a fingerprint
LOOKED_AT = 300  # characters of an error; what differs only behind them is one cause
NAME = "…"
QUOTED = re.compile(r'"[^"]*"|“[^“”]*”|«[^«»]*»|`[^`]*`|(?<!\w)\'[^\']*\'(?!\w)')
FILE_NAME = re.compile(r".+\.(?=[0-9]*[a-z])[a-z0-9]{1,5}", re.IGNORECASE)
IDENTIFIER = re.compile(r"(?=[a-z-]*[0-9])(?=[0-9-]*[a-z])(?:0x)?[0-9a-f]{8,}(?:-[0-9a-f]{4,12}){0,4}", re.IGNORECASE)
# a number that follows one of these words is a name: HTTP 404 is another cause than HTTP 500
CODE = re.compile(r"\b(http|status|code|errno|error)[\s:=(]{0,2}(-?\d{1,5})(?!\d|\.\d)", re.IGNORECASE)
QUANTITY = re.compile(r"[-+]?\d+(?:[.,:]\d+)*(?:[mun]?s|m|h|x|fps|[kmg]i?b)?", re.IGNORECASE)
NUMBER = re.compile(r"(?<![^\W_])[-+]?\d+(?:[.,:]\d+)*")
LIST = re.compile(rf"{NAME}(?:(?:,| and|, and| or) {NAME}(?: more)?)+")
LEADING, TRAILING = "([{<=", ")]}>.,;:!?"
WORD = re.compile(r"[A-Za-z]?[a-z-]*|[A-Z_-]+")


def fingerprint(error: str, video_id: str) -> str:
    """12 hexadecimal digits, the same for every video that failed for this cause.

    What names the video, files, paths, addresses, quantities and quoted things does not count; codes such as
    `HTTP 404` or `exit status 3` do. The video's bare name does not count either, unless it reads like a `WORD`: then
    it is rather the sentence's own.

    >>> fingerprint('"a.mp4" is not a regular file.', "a") == fingerprint('"b/c [x].mkv" is not a regular file.', "x")
    True
    """
    return sha256(_shape(error[:LOOKED_AT], video_id).encode("utf-8", "replace")).hexdigest()[:FINGERPRINT_LENGTH]


def _shape(error: str, video_id: str) -> str:
    """The sentence with `…` for what it names."""
    text = QUOTED.sub(NAME, error)
    if not NUMBER.fullmatch(video_id) and not WORD.fullmatch(video_id):
        text = re.sub(rf"(?<![\w-]){re.escape(video_id)}(?![\w-])", NAME, text)
    words = " ".join(_without_name(word) for word in text.split())
    codes_kept = CODE.sub(lambda found: f"{found[1]} {_spelled(found[2])}", words)
    return LIST.sub(NAME, NUMBER.sub(NAME, codes_kept)).casefold()


def _without_name(word: str) -> str:
    """The word, or `…` in its punctuation when it is a path, an address, a file's name or an identifier."""
    core = word.lstrip(LEADING).rstrip(TRAILING)
    if not core or QUANTITY.fullmatch(core):
        return word
    is_name = "/" in core or "\\" in core or NAME in core or FILE_NAME.fullmatch(core) or IDENTIFIER.fullmatch(core)
    return word.replace(core, NAME, 1) if is_name else word


def _spelled(code: str) -> str:
    """The code in letters, which are not taken for a number."""
    return "".join("abcdefghij-"["0123456789-".index(digit)] for digit in code)
