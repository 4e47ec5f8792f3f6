"""Texts from strangers and numbers with their nouns."""

from __future__ import annotations

from backend.errors import Invalid
from progress_dashboard.protocol import MAX_TEXT_LENGTH


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
