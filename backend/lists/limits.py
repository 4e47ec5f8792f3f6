"""How large a list may be."""

from __future__ import annotations

MAX_ROWS = 100_000
MAX_BYTES = 20 * 2**20
