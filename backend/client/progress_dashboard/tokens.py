"""The check of a token before it is sent. What it refuses is never repeated: logs and terminals keep what they show."""

from __future__ import annotations

import re

from .errors import InvalidArgument

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # what may follow "Bearer" in a header: RFC 6750, section 2.1
INVISIBLE = "\ufeff\u200b\u200e\u200f\u2060"  # what a copied text may carry at its ends, beside blanks and line ends


def checked_token(text: str, name: str = "That") -> str:
    """Return the token without blanks, line ends and invisible characters around it; "" for none.

    Raises `InvalidArgument` for a text that cannot be a token. `name` is where the text comes from.
    """
    token = text.strip().strip(INVISIBLE).strip()
    if token and not TOKEN.fullmatch(token):
        raise InvalidArgument(f"{name} is not a token; use one that the dashboard's `token` command prints.")
    return token
