"""Texts from strangers and numbers with their nouns."""

from __future__ import annotations

import re

from backend.errors import Invalid
from progress_dashboard.protocol import MAX_TEXT_LENGTH

ESCAPED_IN_NAMES = {"%22": '"', "%0D": " ", "%0A": " "}  # in multipart forms; no list is named with a line end


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
