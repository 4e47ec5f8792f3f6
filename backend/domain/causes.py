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
DIGITS, LETTERS = "0123456789-", "abcdefghij-"
HIDDEN_DIGITS = "".join(chr(0xE000 + place) for place in range(10)) + "-"  # characters that no error has
SHOWN_AGAIN = str.maketrans(HIDDEN_DIGITS, DIGITS)
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


def general_words(error: str, video_id: str) -> str:
    """Return the error in words that hold for every video with its fingerprint: names and quantities are `…`.

    >>> general_words('"a.mp4" is gone (HTTP 404).', "a")
    '… is gone (HTTP 404).'
    """
    return _general(error[:MAX_COMPARED_LENGTH], video_id, HIDDEN_DIGITS).translate(SHOWN_AGAIN)


def _shape(error: str, video_id: str) -> str:
    return _general(error, video_id, LETTERS).casefold()


def _general(error: str, video_id: str, digits: str) -> str:
    """Return the sentence with `…` in place of names and numbers, and codes written with these digits."""
    text = QUOTED.sub(PLACEHOLDER, error)
    if not NUMBER.fullmatch(video_id) and not WORD.fullmatch(video_id):
        text = re.sub(rf"(?<![\w-]){re.escape(video_id)}(?![\w-])", PLACEHOLDER, text)
    words = " ".join(_without_name(word) for word in text.split())
    with_codes = CODE.sub(lambda found: f"{found[1]} {_spelled(found[2], digits)}", words)
    return LIST.sub(PLACEHOLDER, NUMBER.sub(PLACEHOLDER, with_codes))


def _without_name(word: str) -> str:
    """Return the word, with `…` in place of a path, an address, a file name or an identifier."""
    core = word.lstrip(LEADING).rstrip(TRAILING)
    if not core or QUANTITY.fullmatch(core):
        return word
    is_name = (
        "/" in core or "\\" in core or PLACEHOLDER in core or FILE_NAME.fullmatch(core) or IDENTIFIER.fullmatch(core)
    )
    return word.replace(core, PLACEHOLDER, 1) if is_name else word


def _spelled(code: str, digits: str) -> str:
    """Return the code in other digits, so that it is not replaced as a number."""
    return "".join(digits[DIGITS.index(digit)] for digit in code)
