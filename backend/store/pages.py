"""Parts of lists, and the cursors between them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, bindparam, tuple_

from backend.errors import Invalid

T = TypeVar("T")
BAD_CURSOR = "The cursor is not one that this list gave; start again without it."


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list, and the cursor of the next part; None for the last one."""

    items: list[T]
    next_cursor: str | None


def cursor_of(value: Any, job_id: str) -> str:
    """Return the cursor behind a job in a list that is sorted by `value`, then ID."""
    plain = value.isoformat() if isinstance(value, datetime) else value
    return json.dumps([plain, job_id]).encode().hex()


def position_in(key: Any, cursor: str) -> tuple[Any, str]:
    """Return (value, job ID) of the cursor in a list that is sorted by the column `key`.

    Raises `Invalid` for a cursor of another origin.
    """
    try:
        value, last_id = json.loads(bytes.fromhex(cursor))
        value, last_id = datetime.fromisoformat(value) if key.name != "name_key" else str(value), str(last_id)
        last_id.encode(), str(value).encode()
    except (ValueError, TypeError, RecursionError):
        raise Invalid(BAD_CURSOR) from None
    return value, last_id


def after_position(key: Any, job_id: Any, descending: bool, position: tuple[Any, str]) -> ColumnElement[bool]:
    """Return the condition of the rows behind this position, sorted by the column `key`, then `job_id`."""
    value, last_id = position
    last: Any = tuple_(bindparam(None, value, type_=key.type), bindparam(None, last_id))
    here: Any = tuple_(key, job_id)
    condition: ColumnElement[bool] = here < last if descending else here > last
    return condition


def position_of(cursor: str | None) -> int:
    """Return the position that a cursor of a job's videos stands for, -1 without one. Raises `Invalid`."""
    if cursor is None:
        return -1
    if cursor.isascii() and cursor.isdigit() and len(cursor) < 10:
        return int(cursor)
    raise Invalid(BAD_CURSOR)
