"""What the commands print, whatever the terminal can show, and without secrets."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from io import TextIOWrapper

from backend.database_url import passwords_in, shown_url
from backend.logs import HIDDEN, without_secrets
from backend.settings import DATABASE_VARIABLE, SECRET_VARIABLES

MIN_PIECE = 6  # characters of a secret that are hidden wherever they appear


def accept_all_characters() -> None:
    """Let each stream show `?` for what its encoding does not have, so that no sentence fails after the deed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def without_known_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the text without anything that looks like a secret, and without those of the environment."""
    for piece in _pieces(environment):
        text = text.replace(piece, HIDDEN)
    return without_secrets(text)


def _pieces(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the parts of each secret that a message may repeat: in it, other characters may be escaped."""
    for name, value in environment.items():
        if name.upper() == DATABASE_VARIABLE:
            whole = [] if shown_url(value) == value else [value]  # one without a secret may be read
            yield from (piece for piece in (*whole, *passwords_in(value)) if len(piece) >= MIN_PIECE)
        elif name.upper() in SECRET_VARIABLES or name == "PGPASSWORD":
            yield from (piece for piece in re.split(r"[^!-~]+", value) if len(piece) >= MIN_PIECE)
