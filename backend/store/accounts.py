"""Users, sessions, tokens and sign-in links in the database. Each function is one step of its caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from backend.auth import Authority, User
from backend.errors import NotAllowed, UserNotFound
from backend.store.tables import METADATA

USER = METADATA.tables["user"]
SESSION = METADATA.tables["session"]
TOKEN = METADATA.tables["token"]
LINK = METADATA.tables["login_link"]
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
    """The account of that (lower-case) name."""
    row = connection.execute(select(USER).where(USER.c.name == name)).one_or_none()
    return None if row is None else Account(_user(row), row.password_hash)


def find_user(connection: Connection, user_id: str) -> User | None:
    """The user with that id."""
    row = connection.execute(select(USER).where(USER.c.id == user_id)).one_or_none()
    return None if row is None else _user(row)


def all_users(connection: Connection) -> list[User]:
    """Everybody, by name."""
    return [_user(row) for row in connection.execute(select(USER).order_by(USER.c.name))]


def add_user(connection: Connection, user: User, password_hash: str | None) -> bool:
    """A new account; False when the name is taken."""
    if find_account(connection, user.name) is not None:
        return False
    connection.execute(
        insert(USER).values(
            id=user.id,
            name=user.name,
            password_hash=password_hash,
            is_admin=user.is_admin,
            disabled=user.disabled,
            created_at=user.created_at,
        )
    )
    return True


def change_password(connection: Connection, user_id: str, password_hash: str) -> None:
    """The new password; everything that was signed in with the old one ends."""
    connection.execute(update(USER).where(USER.c.id == user_id).values(password_hash=password_hash))
    _sign_out(connection, user_id)


def disable(connection: Connection, user_id: str) -> None:
    """The account cannot be used any more, and whatever was signed in ends."""
    connection.execute(update(USER).where(USER.c.id == user_id).values(disabled=True))
    _sign_out(connection, user_id)


def _sign_out(connection: Connection, user_id: str) -> None:
    for table in (SESSION, TOKEN, LINK):
        connection.execute(delete(table).where(table.c.user_id == user_id))


def add_session(connection: Connection, token_hash: str, user_id: str, at: datetime) -> None:
    """A session that begins. Raises `NotAllowed` when the account is disabled."""
    _require_enabled(connection, user_id)
    connection.execute(insert(SESSION).values(token_hash=token_hash, user_id=user_id, created_at=at, last_seen_at=at))


def find_session(connection: Connection, token_hash: str) -> Session | None:
    """The session, however old."""
    statement = select(USER, SESSION.c.created_at.label("since"), SESSION.c.last_seen_at)
    row = connection.execute(
        statement.join(SESSION, SESSION.c.user_id == USER.c.id).where(SESSION.c.token_hash == token_hash)
    ).one_or_none()
    return None if row is None else Session(_user(row), row.since, row.last_seen_at)


def touch_session(connection: Connection, token_hash: str, at: datetime) -> None:
    """The session was used."""
    connection.execute(update(SESSION).where(SESSION.c.token_hash == token_hash).values(last_seen_at=at))


def remove_session(connection: Connection, token_hash: str) -> None:
    """The session ends."""
    connection.execute(delete(SESSION).where(SESSION.c.token_hash == token_hash))


def add_token(
    connection: Connection, jti_hash: str, user_id: str, purpose: str, at: datetime, expires_at: datetime
) -> None:
    """A token that was handed out. Raises `NotAllowed` when the account is disabled."""
    _require_enabled(connection, user_id)
    connection.execute(
        insert(TOKEN).values(jti_hash=jti_hash, user_id=user_id, purpose=purpose, created_at=at, expires_at=expires_at)
    )


def find_token(connection: Connection, jti_hash: str) -> Token | None:
    """The token, however old."""
    statement = select(USER, TOKEN.c.purpose, TOKEN.c.expires_at)
    row = connection.execute(
        statement.join(TOKEN, TOKEN.c.user_id == USER.c.id).where(TOKEN.c.jti_hash == jti_hash)
    ).one_or_none()
    return None if row is None else Token(_user(row), row.purpose, row.expires_at)


def add_link(connection: Connection, link_hash: str, user_id: str, expires_at: datetime) -> None:
    """A sign-in link that was handed out. Raises `NotAllowed` when the account is disabled."""
    _require_enabled(connection, user_id)
    connection.execute(insert(LINK).values(link_hash=link_hash, user_id=user_id, expires_at=expires_at))


def take_link(connection: Connection, link_hash: str, at: datetime) -> User | None:
    """The link's user, once: the link is gone after this. None when it was used or has ended."""
    taken = connection.execute(
        delete(LINK).where(LINK.c.link_hash == link_hash).returning(LINK.c.user_id, LINK.c.expires_at)
    ).one_or_none()
    return find_user(connection, taken.user_id) if taken and taken.expires_at > at else None


def live(
    connection: Connection, authorities: Collection[Authority], *, at: datetime, seen_after: datetime, since: datetime
) -> set[str]:
    """The keys that are still good: a session begun after `since`, used after `seen_after`; a token ending after `at`.

    None of a user who was disabled or whose role is another one now.
    """
    sessions = select(SESSION.c.token_hash.label("key"), USER.c.is_admin).join(USER, SESSION.c.user_id == USER.c.id)
    sessions = sessions.where(
        SESSION.c.last_seen_at > seen_after, SESSION.c.created_at > since, USER.c.disabled.is_(False)
    )
    tokens = select(TOKEN.c.jti_hash.label("key"), USER.c.is_admin).join(USER, TOKEN.c.user_id == USER.c.id)
    tokens = tokens.where(TOKEN.c.expires_at > at, USER.c.disabled.is_(False))
    roles = {authority.key: authority.user.is_admin for authority in authorities}
    found = [
        *_among(connection, sessions, SESSION.c.token_hash, [one.key for one in authorities if one.kind == "session"]),
        *_among(connection, tokens, TOKEN.c.jti_hash, [one.key for one in authorities if one.kind == "token"]),
    ]
    return {row.key for row in found if row.is_admin == roles[row.key]}


def _among(connection: Connection, statement: Select[Any], column: Any, keys: list[str]) -> Iterator[Row[Any]]:
    for start in range(0, len(keys), KEYS_AT_ONCE):
        yield from connection.execute(statement.where(column.in_(keys[start : start + KEYS_AT_ONCE])))


def prune(connection: Connection, *, at: datetime, seen_after: datetime, since: datetime) -> None:
    """Forget the sessions, tokens and links that have ended."""
    connection.execute(delete(SESSION).where((SESSION.c.last_seen_at <= seen_after) | (SESSION.c.created_at <= since)))
    connection.execute(delete(TOKEN).where(TOKEN.c.expires_at <= at))
    connection.execute(delete(LINK).where(LINK.c.expires_at <= at))


def _require_enabled(connection: Connection, user_id: str) -> None:
    user = find_user(connection, user_id)
    if user is None:
        raise UserNotFound
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
