"""The one reader of a cell: an ID, an address or a file's name, also as spreadsheets and downloaders write them."""

from __future__ import annotations

import re

from backend.domain.addresses import COMMON_ADDRESS, youtube_id
from backend.domain.texts import trimmed
from backend.domain.video_ids import VIDEO_ID, parse_video_id
from backend.errors import InvalidVideoId
from backend.lists.file_names import id_in_file_name

PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
LETTERS_OF_AN_ID = 11  # on YouTube
WORD = re.compile(r"[A-Z]?[a-z]+\Z|[A-Z]+\Z|\d+\Z|[a-z]+([_-][a-z]+)+\Z")
SPREADSHEET_TEXT = re.compile(r"""=\s*(?:T\(\s*)?"(.*)"\s*\)?\Z""", re.DOTALL)
HYPERLINK = re.compile(r"""=\s*HYPERLINK\(\s*"([^"]*)".*\)\Z""", re.DOTALL | re.IGNORECASE)
CHANGED = re.compile(r"[+-]?\d+(?:[.,]\d+)?E[+-]?\d+\Z|#(?:[A-ZÀ-Þ][A-ZÀ-Þ0-9/_]*[?!]|N/A|NV|#{2,})\Z")
ARCHIVED = re.compile(r"(?:youtube|Youtube|YouTube)\s+([A-Za-z0-9_-]{11})\Z")  # a line of yt-dlp's archive
QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“", "‘": "’", "«": "»", "<": ">", "(": ")"}
FOREIGN_ADDRESS = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+://", re.IGNORECASE)
BETWEEN_IDS = re.compile(r"[\s,;|]+")
MAX_WRAPPINGS = 6


def read_id(cell: str) -> str:
    """Return the video ID in a cell. Raises `InvalidVideoId` with the reason.

    >>> read_id('="00123"'), read_id("'-wNyEUrxzFU"), read_id("Cats [abc].mkv"), read_id("youtube dQw4w9WgXcQ")
    ('00123', '-wNyEUrxzFU', 'abc', 'dQw4w9WgXcQ')
    """
    if PLAIN_ID.match(cell):
        return cell
    if common := COMMON_ADDRESS.match(cell):
        return common[1] or common[2]
    text = unwrapped(cell)
    if found := ARCHIVED.match(text):
        return found[1]
    if found_id := youtube_id(text):
        return found_id
    if not FOREIGN_ADDRESS.match(text) and (found_id := id_in_file_name(text)):
        return found_id
    if CHANGED.match(text) and not VIDEO_ID.match(text):
        raise InvalidVideoId("not an ID: changed by the spreadsheet: format the column as text and enter the ID again")
    if is_several(text):
        raise InvalidVideoId("not an ID: several IDs; write one ID a line")
    return parse_video_id(text)


def unwrapped(cell: str) -> str:
    """Return the text in a cell, without what spreadsheets and people put around it to keep it as it is."""
    text = trimmed(cell)
    for _ in range(MAX_WRAPPINGS):
        inner = _without_wrapping(text)
        if inner == text:
            break
        text = trimmed(inner)
    return text


def is_several(text: str) -> bool:
    """Return True for several IDs or addresses in one text, each of which is certainly one."""
    pieces = BETWEEN_IDS.split(text)
    return len(pieces) > 1 and all(is_certain(piece) for piece in pieces if piece)


def is_certain(cell: str) -> bool:
    """Return True for what is hardly anything else: an address of a video, a file of one, what looks like an ID.

    >>> is_certain("dQw4w9WgXcQ"), is_certain("description"), is_certain("abc.mp4"), is_certain("abc")
    (True, False, True, False)
    """
    if PLAIN_ID.match(cell):
        return looks_like_an_id(cell)
    text = unwrapped(cell)
    try:
        video_id = read_id(text)
    except InvalidVideoId:
        return False
    return looks_like_an_id(text) if video_id == text else True


def looks_like_an_id(text: str) -> bool:
    """Return True for 11 letters of YouTube's alphabet that are no word and no number."""
    return len(text) == LETTERS_OF_AN_ID and bool(PLAIN_ID.match(text)) and not WORD.match(text)


def is_id(cell: str) -> bool:
    """Return True if there is a video ID in the cell."""
    try:
        read_id(cell)
    except InvalidVideoId:
        return False
    return True


def _without_wrapping(text: str) -> str:
    if VIDEO_ID.match(text):
        return text
    if text.startswith("="):
        wrapped = SPREADSHEET_TEXT.match(text) or HYPERLINK.match(text)
        return wrapped[1] if wrapped else text
    if len(text) > 1 and QUOTES.get(text[0]) == text[-1]:
        return text[1:-1]
    return text[1:] if text.startswith("'") else text
