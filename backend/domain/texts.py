"""Texts from strangers and numbers with their nouns."""

from __future__ import annotations

import re

from backend.errors import Invalid
from progress_dashboard.protocol import MAX_TEXT_LENGTH

ESCAPED_IN_NAMES = {"%22": '"', "%0D": " ", "%0A": " "}  # in multipart forms; no list is named with a line end
BLANKS = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"
INVISIBLE_RANGES = (  # format characters, fillers, variation selectors and tags
    *((0x7F, 0x9F), (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x2000, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x2800, 0x2800), (0x3164, 0x3164), (0xFE00, 0xFE0F)),
    *((0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF9, 0xFFFB), (0x1D173, 0x1D17A), (0xE0000, 0xE007F), (0xE0100, 0xE01EF)),
)
INVISIBLE = BLANKS + "".join(chr(code) for first, last in INVISIBLE_RANGES for code in range(first, last + 1))


def trimmed(text: str) -> str:
    """Return the text without blanks and invisible characters at its edges.

    >>> trimmed("\\ufeff\\u200b abc\\u00ad ")
    'abc'
    """
    return text.strip(INVISIBLE)


def printable(text: str) -> str:
    """Return the text with blanks in place of invisible characters, control characters and surrogates."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " for letter in text)


def counted(number: int, noun: str) -> str:
    """Return the number with its noun.

    >>> counted(1, "video"), counted(1200, "video")
    ('1 video', '1,200 videos')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def checked_text(text: str, what: str, max_length: int = MAX_TEXT_LENGTH) -> str:
    """Return `text` without surrounding blanks.

    Raises `Invalid` for more than `max_length` characters and for characters that a database refuses.
    """
    if "\x00" in text or len(text) > max_length or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Invalid(f"{what} must be readable text of at most {max_length:,} characters.")
    return text.strip()


def storable(text: str | None, *, max_length: int | None = None) -> str | None:
    """Return `text` as every database and JSON take it: file names and plug-ins may bring anything, of any length."""
    return None if text is None else text[:max_length].replace("\x00", "").encode("utf-8", "replace").decode()


def uploaded_name(name: str) -> str:
    r"""Return the name that an uploaded file has on the disk. Browsers escape three characters in it, and only these.

    >>> uploaded_name("my %22best%22 list.csv"), uploaded_name("100%.csv"), uploaded_name("lists/nightly.csv")
    ('my "best" list.csv', '100%.csv', 'nightly.csv')
    """
    for escaped, meant in ESCAPED_IN_NAMES.items():
        name = name.replace(escaped, meant).replace(escaped.lower(), meant)
    return re.sub(r"^[A-Za-z]:\\.*\\", "", name.rpartition("/")[2] or name)
