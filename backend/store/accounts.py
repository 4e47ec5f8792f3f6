"""Users, sessions, tokens and sign-in links in the database. Each function is one step of its caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from backend.domain.auth import Authority, User
from backend.errors import NotAllowed, UserNotFound
from backend.store.bulk import insert_absent
from backend.store.tables import LINKS, SESSIONS, TOKENS, USERS

KEYS_AT_ONCE = 1000  # databases limit the parameters of a statement


@dataclass(frozen=True, slots=True)
class Account:
    """A user with what only the sign-in may see."""

    user: User
    password_hash: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Session:
    """A stored session and its user, as both are now."""

    user: User
    created_at: datetime
    last_seen_at: datetime


@dataclass(frozen=True, slots=True)
class Token:
    """A stored token and its user, as both are now."""

    user: User
    purpose: str
    expires_at: datetime


def find_account(connection: Connection, name: str) -> Account | None:
    """Return the account of that lower-case name."""
    row = connection.execute(select(USERS).where(USERS.c.name == name)).one_or_none()
    return None if row is None else Account(_user(row), row.password_hash)


def find_user(connection: Connection, user_id: str) -> User | None:
    """Return the user with that ID."""
    row = connection.execute(select(USERS).where(USERS.c.id == user_id)).one_or_none()
    return None if row is None else _user(row)


def all_users(connection: Connection) -> list[User]:
    """Return all users, by name."""
    return [_user(row) for row in connection.execute(select(USERS).order_by(USERS.c.name))]


def add_user(connection: Connection, user: User, password_hash: str | None) -> bool:
    """Add an account; False if the name is taken."""
    row = {
        "id": user.id,
        "name": user.name,
        "password_hash": password_hash,
        "is_admin": user.is_admin,
        "disabled": user.disabled,
        "created_at": user.created_at,
    }
    return insert_absent(connection, USERS, [row]) == 1


def change_password(connection: Connection, user_id: str, password_hash: str) -> None:
    """Set the new password; everything that was signed in with the old one ends."""
    connection.execute(update(USERS).where(USERS.c.id == user_id).values(password_hash=password_hash))
    _sign_out(connection, user_id)


def disable(connection: Connection, user_id: str) -> None:
    """Disable the account; everything that was signed in ends."""
    connection.execute(update(USERS).where(USERS.c.id == user_id).values(disabled=True))
    _sign_out(connection, user_id)


def _sign_out(connection: Connection, user_id: str) -> None:
    for table in (SESSIONS, TOKENS, LINKS):
        connection.execute(delete(table).where(table.c.user_id == user_id))


def add_session(connection: Connection, token_hash: str, user_id: str, at: datetime) -> None:
    """Add a session. Raises `NotAllowed` if the account is disabled."""
    _require_enabled(connection, user_id)
    connection.execute(insert(SESSIONS).values(token_hash=token_hash, user_id=user_id, created_at=at, last_seen_at=at))


def find_session(connection: Connection, token_hash: str) -> Session | None:
    """Return the session, however old."""
    statement = select(USERS, SESSIONS.c.created_at.label("since"), SESSIONS.c.last_seen_at)
    row = connection.execute(
        statement.join(SESSIONS, SESSIONS.c.user_id == USERS.c.id).where(SESSIONS.c.token_hash == token_hash)
    ).one_or_none()
    return None if row is None else Session(_user(row), row.since, row.last_seen_at)


def touch_session(connection: Connection, token_hash: str, at: datetime) -> None:
    """Record that the session was used."""
    connection.execute(update(SESSIONS).where(SESSIONS.c.token_hash == token_hash).values(last_seen_at=at))


def remove_session(connection: Connection, token_hash: str) -> None:
    """End the session."""
    connection.execute(delete(SESSIONS).where(SESSIONS.c.token_hash == token_hash))


def add_token(
    connection: Connection, jti_hash: str, user_id: str, purpose: str, *, at: datetime, expires_at: datetime
) -> None:
    """Add a token that was handed out. Raises `NotAllowed` if the account is disabled."""
    _require_enabled(connection, user_id)
    connection.execute(
        insert(TOKENS).values(jti_hash=jti_hash, user_id=user_id, purpose=purpose, created_at=at, expires_at=expires_at)
    )


def find_token(connection: Connection, jti_hash: str) -> Token | None:
    """Return the token, however old."""
    statement = select(USERS, TOKENS.c.purpose, TOKENS.c.expires_at)
    row = connection.execute(
        statement.join(TOKENS, TOKENS.c.user_id == USERS.c.id).where(TOKENS.c.jti_hash == jti_hash)
    ).one_or_none()
    return None if row is None else Token(_user(row), row.purpose, row.expires_at)


def add_link(connection: Connection, link_hash: str, user_id: str, expires_at: datetime) -> None:
    """Add a sign-in link that was handed out. Raises `NotAllowed` if the account is disabled."""
    _require_enabled(connection, user_id)
    connection.execute(insert(LINKS).values(link_hash=link_hash, user_id=user_id, expires_at=expires_at))


def find_link(connection: Connection, link_hash: str, at: datetime) -> User | None:
    """Return the link's user; None if it was used or has ended."""
    query = select(LINKS.c.user_id).where(LINKS.c.link_hash == link_hash, LINKS.c.expires_at > at)
    user_id = connection.execute(query).scalar_one_or_none()
    return None if user_id is None else find_user(connection, user_id)


def take_link(connection: Connection, link_hash: str, at: datetime) -> User | None:
    """Return the link's user and delete the link; None if it was used or has ended."""
    taken = connection.execute(
        delete(LINKS).where(LINKS.c.link_hash == link_hash).returning(LINKS.c.user_id, LINKS.c.expires_at)
    ).one_or_none()
    return find_user(connection, taken.user_id) if taken and taken.expires_at > at else None


def valid_keys(
    connection: Connection, authorities: Collection[Authority], *, at: datetime, seen_after: datetime, since: datetime
) -> set[str]:
    """Return the keys that are still good: sessions begun after `since` and used after `seen_after`, tokens past `at`.

    Leaves out those of users who were disabled or whose role has changed.
    """
    sessions = select(SESSIONS.c.token_hash.label("key"), USERS.c.is_admin).join(
        USERS, SESSIONS.c.user_id == USERS.c.id
    )
    sessions = sessions.where(
        SESSIONS.c.last_seen_at > seen_after, SESSIONS.c.created_at > since, USERS.c.disabled.is_(False)
    )
    tokens = select(TOKENS.c.jti_hash.label("key"), USERS.c.is_admin).join(USERS, TOKENS.c.user_id == USERS.c.id)
    tokens = tokens.where(TOKENS.c.expires_at > at, USERS.c.disabled.is_(False))
    roles = {authority.key: authority.user.is_admin for authority in authorities}
    found = [
        *_among(connection, sessions, SESSIONS.c.token_hash, [one.key for one in authorities if one.kind == "session"]),
        *_among(connection, tokens, TOKENS.c.jti_hash, [one.key for one in authorities if one.kind == "token"]),
    ]
    return {row.key for row in found if row.is_admin == roles[row.key]}


def _among(connection: Connection, statement: Select[Any], column: Any, keys: list[str]) -> Iterator[Row[Any]]:
    for start in range(0, len(keys), KEYS_AT_ONCE):
        yield from connection.execute(statement.where(column.in_(keys[start : start + KEYS_AT_ONCE])))


def prune(connection: Connection, *, at: datetime, seen_after: datetime, since: datetime) -> None:
    """Delete the sessions, tokens and links that have ended."""
    connection.execute(
        delete(SESSIONS).where((SESSIONS.c.last_seen_at <= seen_after) | (SESSIONS.c.created_at <= since))
    )
    connection.execute(delete(TOKENS).where(TOKENS.c.expires_at <= at))
    connection.execute(delete(LINKS).where(LINKS.c.expires_at <= at))


def _require_enabled(connection: Connection, user_id: str) -> None:
    # Locked where rows can be, so that no command disables the account in between.
    row = connection.execute(select(USERS).where(USERS.c.id == user_id).with_for_update(read=True)).one_or_none()
    if row is None:
        raise UserNotFound
    user = _user(row)
    if user.disabled:
        raise NotAllowed(f"The account {user.name} is disabled.")


def _user(row: Row[Any]) -> User:
    return User(
        id=row.id,
        name=row.name,
        is_admin=row.is_admin,
        disabled=row.disabled,
        has_password=row.password_hash is not None,
        created_at=row.created_at,
    )
