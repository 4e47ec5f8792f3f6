"""What most commands want of the accounts, without the libraries that only the server needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from backend.accounts.issuing import new_claims, no_such_user
from backend.accounts.keys import Keys
from backend.accounts.secrets import hash_secret, new_secret
from backend.clock import Clock
from backend.domain.auth import ACCESS, User, user_name
from backend.settings import ADMIN, Settings
from backend.store.direct_accounts import DirectAccounts, open_directly


class QuickAccounts:
    """Users, tokens and sign-in links as `Accounts` gives them; coroutines only for the sake of that."""

    def __init__(self, direct: DirectAccounts, keys: Keys, clock: Clock) -> None:
        self._direct = direct
        self._keys = keys
        self._clock = clock

    async def users(self) -> list[User]:
        """Return all users, by name."""
        return self._direct.all_users()

    async def user(self, name: str) -> User:
        """Return the user of that name in any case of its letters. Raises `UserNotFound`."""
        user = self._direct.find_user(user_name(name) or "")
        if user is None:
            raise no_such_user(name)
        return user

    async def issue_token(self, user: User, *, lifetime_seconds: float, purpose: str = ACCESS) -> str:
        """Return a JWT for `user`, valid for that long, at most 365 days."""
        now = self._clock.now()
        claims, expires_at = new_claims(user.id, purpose, now=now, lifetime_seconds=lifetime_seconds)
        self._direct.add_token(hash_secret(claims.jti), user, purpose, at=now, expires_at=expires_at)
        return self._keys.sign(claims)

    async def make_link(self, user: User, *, lifetime_seconds: float) -> str:
        """Return the secret part of a sign-in link that works once, after a question."""
        link = new_secret()
        self._direct.add_link(hash_secret(link), user, self._clock.now() + timedelta(seconds=lifetime_seconds))
        return link


@contextmanager
def open_quickly(settings: Settings, clock: Clock) -> Iterator[QuickAccounts | None]:
    """Open the accounts of an SQLite file that was used before by this version; None for any other database.

    Raises `CannotStart` for signing keys that cannot be used.
    """
    if not isinstance(settings.database, Path):
        yield None
        return
    keys = Keys.load(settings, clock)
    with open_directly(settings.database) as direct:
        is_usable = direct is not None and direct.find_user(ADMIN) is not None
        yield QuickAccounts(direct, keys, clock) if direct is not None and is_usable else None
