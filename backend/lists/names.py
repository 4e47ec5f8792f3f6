"""Words in a list that are no IDs: the names of columns, sums and placeholders."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from backend.domain.texts import trimmed

ID_NAMES = (
    "video_id",
    "videoid",
    "youtube_id",
    "youtubeid",
    "id",
    "ids",
    "video",
    "videos",
    "video_url",
    "youtube_url",
    "url",
    "urls",
    "video_link",
    "link",
    "content",  # YouTube Studio's own export
)
"""Names of ID columns, the most certain first. Others that say the same are known too, such as `Video-IDs`."""
RESULT_COLUMNS = ("status", "error", "attempts", "duration_seconds", "machine")
EARLIER_RESULT_COLUMNS = RESULT_COLUMNS[:-1]  # of exports by versions before the column `machine`
RESULT_PREFIX = "result_"
RESULT_PREFIXES = re.compile(rf"\A(?:{RESULT_PREFIX})+")
OWN_ID_COLUMN = "video_id"  # added to an export whose ID column would not be found again
SURE, ID, VIDEO, ADDRESS, FILE, CONTENT = range(6)
"""How certain a name is, the most certain first."""
ABOUT = r"(?:youtube|yt|video|vid|film|movie|clip|short|media)"
SUBJECT = re.compile(ABOUT)
KINDS = {
    SURE: re.compile(rf"{ABOUT}+(?:ids?|code)"),
    ID: re.compile(r"ids?"),
    VIDEO: re.compile(r"videos?|vids?|youtube"),
    ADDRESS: re.compile(
        rf"(?:{ABOUT}|watch|web|page|site|share|public|original|full|the)*"
        r"(?:urls?|links?|uris?|href|address(?:es)?|adressen?|enlaces?|liens?)"
    ),
    FILE: re.compile(rf"{ABOUT}?(?:files?|filenames?|filepaths?|paths?|datei(?:en|name|namen)?|location)"),
    CONTENT: re.compile(r"content"),
}
HEADERS_OF_ONE_COLUMN = frozenset(re.sub("_", "", name) for name in ID_NAMES)
SUMS = frozenset(
    (
        *("total", "totals", "sum", "sums", "grandtotal", "subtotal", "overall", "average"),
        *("gesamt", "gesamtsumme", "gesamtergebnis", "summe", "zwischensumme", "insgesamt", "durchschnitt"),
        *(
            "totale",
            "totaal",
            "suma",
            "somme",
            "totalgeneral",
            "totalgeral",
            "totalgénéral",
            "soma",
            "totalt",
            "celkem",
        ),
        *("итого", "всего", "разом", "合計", "总计", "總計", "합계", "összesen", "łącznie", "razem", "toplam"),
    )
)
PLACEHOLDERS = frozenset(
    ("na", "none", "null", "nil", "nan", "undefined", "unknown", "empty", "true", "false", "deleted", "private", "tbd")
)


def words_of(cell: str) -> str:
    """Return the letters and digits of a cell, in lower case, for comparing words.

    >>> words_of("\\ufeff Video-ID: "), words_of("'=Größe")
    ('videoid', 'grösse')
    """
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", trimmed(cell)[:80]).casefold()))


def id_name(cell: str) -> int | None:
    """Return how certainly a column of this name has the IDs: `SURE` … `CONTENT`; None if the name says nothing.

    >>> id_name("Video-IDs") == SURE, id_name("Watch URL") == ADDRESS, id_name("title")
    (True, True, None)
    """
    words = words_of(cell)
    if not words or len(words) > 40:
        return None
    return next((kind for kind, pattern in KINDS.items() if pattern.fullmatch(words)), None)


def is_header_of_one_column(cell: str) -> bool:
    """Return True for a name above a list of IDs that could as well be the first of them."""
    return words_of(cell) in HEADERS_OF_ONE_COLUMN or id_name(cell) == SURE


def is_sure_name(cell: str) -> bool:
    """Return True for a name that is hardly an ID, wherever it is in a list.

    >>> is_sure_name("video_ids"), is_sure_name("youtube_url"), is_sure_name("video")
    (True, True, False)
    """
    kind = id_name(cell)
    return kind == SURE or (kind == ADDRESS and bool(SUBJECT.match(words_of(cell))))


def is_sum(cell: str) -> bool:
    """Return True for the word in front of a sum.

    >>> is_sum("Total:"), is_sum("Grand total"), is_sum("Totally")
    (True, True, False)
    """
    return words_of(cell) in SUMS


def is_placeholder(cell: str) -> bool:
    """Return True for what stands in a cell without a value.

    >>> is_placeholder("N/A"), is_placeholder("--"), is_placeholder("nana")
    (True, True, False)
    """
    return words_of(cell) in PLACEHOLDERS or not words_of(cell)


def first_result_column(header: Sequence[str]) -> int | None:
    """Return the place of the first column of results in an export of this program, of any depth; None in others.

    >>> first_result_column(["id", "status", "error", "attempts", "duration_seconds"])
    1
    """
    for columns in (RESULT_COLUMNS, EARLIER_RESULT_COLUMNS):
        if tuple(map(_own_name, header[-len(columns) :])) == columns:
            return len(header) - len(columns)
    return None


def own_id_column(header: Sequence[str]) -> int | None:
    """Return the place of the ID column that an export added in front of its results; None without one."""
    results = first_result_column(header)
    return results - 1 if results and _own_name(header[results - 1]) == OWN_ID_COLUMN else None


def _own_name(name: str) -> str:
    return RESULT_PREFIXES.sub("", name)
