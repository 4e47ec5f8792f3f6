"""The accounts for commands that only read them or hand something out, through SQLite's driver alone.

SQLAlchemy and Alembic take several times as long to load as such a command to run. Only a database at the newest
revision is opened like this; `open_database` handles every other, and every error.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from backend.clock import from_millis, to_millis
from backend.domain.auth import User
from backend.errors import NotAllowed
from backend.store.revisions import newest_revision

BUSY_SECONDS = 5.0
FIELDS = "id, name, is_admin, disabled, password_hash IS NOT NULL, created_at"


class DirectAccounts:
    """The users of one open database, and what is handed out to them. Each addition is a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find_user(self, name: str) -> User | None:
        """Return the user of that lower-case name."""
        return next(self._users("WHERE name = ?", name), None)

    def all_users(self) -> list[User]:
        """Return all users, by name."""
        return list(self._users("ORDER BY name"))

    def add_token(self, jti_hash: str, user: User, purpose: str, *, at: datetime, expires_at: datetime) -> None:
        """Add a token that was handed out. Raises `NotAllowed` if the account is disabled."""
        _require_enabled(user)
        statement = "INSERT INTO token (jti_hash, user_id, purpose, created_at, expires_at) VALUES (?, ?, ?, ?, ?)"
        self._connection.execute(statement, (jti_hash, user.id, purpose, to_millis(at), to_millis(expires_at)))

    def add_link(self, link_hash: str, user: User, expires_at: datetime) -> None:
        """Add a sign-in link that was handed out. Raises `NotAllowed` if the account is disabled."""
        _require_enabled(user)
        statement = "INSERT INTO login_link (link_hash, user_id, expires_at) VALUES (?, ?, ?)"
        self._connection.execute(statement, (link_hash, user.id, to_millis(expires_at)))

    def _users(self, which: str, *values: str) -> Iterator[User]:
        for row in self._connection.execute(f"SELECT {FIELDS} FROM user {which}", values):  # noqa: S608  our own words
            user_id, name, is_admin, disabled, has_password, created_at = row
            yield User(user_id, name, bool(is_admin), bool(disabled), bool(has_password), from_millis(created_at))


@contextmanager
def open_directly(path: Path) -> Iterator[DirectAccounts | None]:
    """Open the accounts of an existing database at the newest revision; None for any other.

    Raises the driver's `sqlite3.Error` later on; nothing was written then.
    """
    if not path.is_file():
        yield None
        return
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)) as connection:
        connection.isolation_level = None  # each statement is a transaction
        yield DirectAccounts(connection) if _is_current(connection) else None


def _is_current(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(newest_revision(),)]
    except sqlite3.Error:
        return False


def _require_enabled(user: User) -> None:
    if user.disabled:
        raise NotAllowed(f"The account {user.name} is disabled.")
