"""Users and what they may see: pure values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

ACCESS, METRICS = "access", "metrics"  # what a token is for: everything its user may do, or reading the metrics
USER_NAME = re.compile(r"[a-z0-9._@-]{1,64}")


@dataclass(frozen=True, slots=True)
class User:
    """An account as it was when it was read; `name` is lower-case."""

    id: str
    name: str
    is_admin: bool
    disabled: bool = False
    has_password: bool = False
    created_at: datetime | None = None

    @property
    def sees_jobs_of(self) -> str | None:
        """ID of the user whose jobs this one may see: their own, or None for everybody's."""
        return None if self.is_admin else self.id

    def may_see(self, owner_id: str) -> bool:
        """Return True if the jobs of this owner are visible to the user."""
        return self.sees_jobs_of in (None, owner_id)


@dataclass(frozen=True, slots=True)
class Authority:
    """The session or token that a request or a socket acts with; `key` is the hash that it is stored under."""

    user: User
    kind: Literal["session", "token"]
    key: str
    expires_at: datetime


def user_name(text: str) -> str | None:
    """Return the name in its one spelling, lower-case; None for a name that no user can have.

    >>> user_name("Ana@example.org")
    'ana@example.org'
    >>> user_name("ana <b>") is None
    True
    """
    name = text.lower() if text.isascii() else ""
    return name if USER_NAME.fullmatch(name) else None
