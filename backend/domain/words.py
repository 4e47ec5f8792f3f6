"""How texts are searched and sorted: one rule for the database and, in `words.js`, for the browser.

Both sides normalize (NFKC) and map to lower, upper and lower case again, so that "ÜBUNG", "Übung" (also decomposed) and
"STRASSE", "Straße" are the same. Python's `casefold` has no twin in JavaScript.
"""

from __future__ import annotations

import re
import unicodedata

NUMBER = re.compile(r"[0-9]+")
NUMBER_WIDTH = 12
MAX_KEY_BYTES = 2_400  # PostgreSQL takes 2,700 in an index, with the columns beside it
BETWEEN = "\x1f"  # sorts in front of everything that a name has


def folded(text: str) -> str:
    """Return the text for searching in it, and for searching it: case and spelling in Unicode make no difference.

    >>> folded("ÜBUNG") == folded("U\\u0308bung") == "übung", folded("STRASSE") == folded("Straße")
    (True, True)
    """
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKC", text).lower().upper().lower().replace("ς", "σ")
    return unicodedata.normalize("NFKC", plain)


def folded_unless_ascii(text: str | None) -> str | None:
    """Return the folded text; None for ASCII, in which every database ignores case by itself."""
    return None if text is None or text.isascii() else folded(text)


def sort_key(text: str) -> str:
    """Return a key whose order by code points is that of the names: without accents, numbers by their value.

    >>> sorted(["Zoo", "Übung 10", "uebung", "ubung 9"], key=sort_key)
    ['ubung 9', 'Übung 10', 'uebung', 'Zoo']
    """
    whole = folded(text)
    base = whole if whole.isascii() else _without_marks(whole)
    key = f"{NUMBER.sub(_padded, base)}{BETWEEN}{whole}"
    return key if len(key) * 4 <= MAX_KEY_BYTES else key.encode()[:MAX_KEY_BYTES].decode(errors="ignore")


def _without_marks(text: str) -> str:
    return "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.category(one).startswith("M"))


def _padded(number: re.Match[str]) -> str:
    return number[0].lstrip("0").rjust(NUMBER_WIDTH, "0")
