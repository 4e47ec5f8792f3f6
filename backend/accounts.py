"""The one door to users, sessions, tokens and sign-in links, for pages, routes, sockets and commands."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import uuid4

from backend.auth import (
    Authority,
    Claims,
    Keys,
    Passwords,
    Throttle,
    User,
    fingerprint,
    new_secret,
    user_name,
)
from backend.clock import Clock
from backend.errors import Conflict, Invalid, NotSignedIn, UserNotFound, WrongPassword
from backend.settings import ADMIN, Settings
from backend.store import accounts as store
from backend.store.database import Database

T = TypeVar("T")
SESSION_IDLE = timedelta(hours=12)
SESSION_LONGEST = timedelta(days=7)
SEEN_EVERY = timedelta(minutes=1)
TOKEN_LONGEST = timedelta(days=365)


class Accounts:
    """Accounts over one database. Roles and validity come from the store at each call; nothing is cached."""

    def __init__(self, database: Database, keys: Keys, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._passwords = Passwords()
        self._throttle = Throttle(clock)

    async def sign_in(self, name: str, password: str, *, address: str) -> User:
        """The user, if the password is theirs.

        Raises `WrongPassword` with the same words after the same time whether the user exists or not, and
        `TooManyAttempts` when this address has to wait.
        """
        known_as = user_name(name) or ""
        self._throttle.admit(known_as, address)
        account = await self._read(store.find_account, known_as)
        usable = account is not None and not account.user.disabled
        matches = await self._passwords.match(account.password_hash if account and usable else None, password)
        if account is None or not matches:
            raise WrongPassword
        self._throttle.succeeded(known_as, address)
        return account.user

    async def open_session(self, user: User) -> str:
        """A new session; the value of its cookie. It ends after 12 h without use and after 7 days."""
        cookie = new_secret()
        await self._write(store.add_session, fingerprint(cookie), user.id, self._clock.now())
        return cookie

    async def session(self, cookie: str) -> Authority | None:
        """Whom the cookie signs in now; None when it has ended or never was."""
        key, now = fingerprint(cookie), self._clock.now()
        session = await self._read(store.find_session, key)
        if session is None or session.user.disabled:
            return None
        if min(session.last_seen_at + SESSION_IDLE, session.created_at + SESSION_LONGEST) <= now:
            return None
        if now - session.last_seen_at >= SEEN_EVERY:
            await self._write(store.touch_session, key, now)
        return Authority(session.user, "session", key, min(now + SESSION_IDLE, session.created_at + SESSION_LONGEST))

    async def end_session(self, cookie: str) -> None:
        """Sign out; ending a session twice is not an error."""
        await self._write(store.remove_session, fingerprint(cookie))

    async def issue_token(self, user: User, *, lifetime_seconds: float, purpose: str = "access") -> str:
        """A JWT for `user`, valid for that long, at most 365 days."""
        now = self._clock.now()
        if not 0 < lifetime_seconds <= TOKEN_LONGEST.total_seconds():
            raise Invalid("A token must end within 365 days.")
        expires_at = (now + timedelta(seconds=lifetime_seconds)).replace(microsecond=0)
        jti = new_secret()
        claims = Claims(
            sub=user.id, jti=jti, purpose=purpose, iat=int(now.timestamp()), exp=int(expires_at.timestamp())
        )
        await self._write(store.add_token, fingerprint(jti), user.id, purpose, now, expires_at)
        return self._keys.sign(claims)

    async def token(self, jwt: str, *, purpose: str = "access") -> Authority:
        """Whom the token stands for now. Raises `NotSignedIn`, with the same words for every defect."""
        claims = self._keys.verify(jwt)
        key = fingerprint(claims.jti)
        token = await self._read(store.find_token, key)
        if token is None or token.user.disabled or token.expires_at <= self._clock.now():
            raise NotSignedIn
        if (claims.sub, claims.purpose, token.purpose) != (token.user.id, purpose, purpose):
            raise NotSignedIn
        return Authority(token.user, "token", key, token.expires_at)

    async def make_link(self, user: User, *, lifetime_seconds: float) -> str:
        """The secret part of a sign-in link that works once."""
        link = new_secret()
        expires_at = self._clock.now() + timedelta(seconds=lifetime_seconds)
        await self._write(store.add_link, fingerprint(link), user.id, expires_at)
        return link

    async def use_link(self, link: str) -> User:
        """Whom the link signs in; it does not work again. Raises `NotSignedIn` when it was used or has ended."""
        user = await self._write(store.take_link, fingerprint(link), self._clock.now())
        if user is None or user.disabled:
            raise NotSignedIn(
                "This sign-in link was already used or has ended; make a new one with: python main.py login-link"
            )
        return user

    async def still_valid(self, authorities: Collection[Authority]) -> set[str]:
        """The keys of those that may go on: not ended or revoked, user not disabled and still in the same role."""
        return await self._database.read(
            lambda connection: store.live(connection, authorities, **_limits(self._clock.now()))
        )

    async def add_user(self, name: str, password: str | None, is_admin: bool = False) -> User:
        """A new account; its name is kept in lower case, so `Ana` and `ana` are one. Raises `Invalid`, `Conflict`."""
        known_as = user_name(name)
        if known_as is None:
            raise Invalid("A user name must be 1 to 64 letters a to z, digits, or any of . _ - @")
        password_hash = None if password is None else await self._passwords.hash(password)
        user = User(str(uuid4()), known_as, is_admin, False, password is not None, self._clock.now())
        if not await self._write(store.add_user, user, password_hash):
            raise Conflict(f"There is already a user {known_as}.")
        return user

    async def users(self) -> list[User]:
        """Everybody, by name."""
        return await self._read(store.all_users)

    async def user(self, name: str) -> User:
        """The user of that name, however its letters are cased. Raises `UserNotFound`."""
        account = await self._read(store.find_account, user_name(name) or "")
        if account is None:
            raise UserNotFound(f"There is no user {name!r}; see: python main.py users list")
        return account.user

    async def set_password(self, name: str, password: str) -> None:
        """A new password; all sessions, tokens and links of the user end. Raises `UserNotFound`, `Invalid`."""
        user = await self.user(name)
        await self._write(store.change_password, user.id, await self._passwords.hash(password))

    async def disable(self, name: str) -> None:
        """Nobody signs in with this account any more; its sessions, tokens and links end. Raises `UserNotFound`."""
        user = await self.user(name)
        await self._write(store.disable, user.id)

    async def add_admin(self) -> User:
        """The account `admin`, made without a password when it is missing."""
        user = User(str(uuid4()), ADMIN, is_admin=True, created_at=self._clock.now())
        await self._write(store.add_user, user, None)
        return await self.user(ADMIN)

    async def ensure_admin(self) -> User:
        """The account `admin`, with the settings' password if they have one; when that is new, all its sessions end."""
        await self.add_admin()
        if self._settings.admin_password is not None:
            await self._agree_on_password(self._settings.admin_password.get_secret_value())
        return await self.user(ADMIN)

    async def prune(self) -> None:
        """Forget the sessions, tokens and links that have ended."""
        await self._database.write(lambda connection: store.prune(connection, **_limits(self._clock.now())))

    async def _agree_on_password(self, password: str) -> None:
        account = await self._read(store.find_account, ADMIN)
        if account and not await self._passwords.match(account.password_hash, password):
            await self.set_password(ADMIN, password)

    async def _read(self, step: Callable[..., T], *given: object) -> T:
        return await self._database.read(lambda connection: step(connection, *given))

    async def _write(self, step: Callable[..., T], *given: object) -> T:
        return await self._database.write(lambda connection: step(connection, *given))


def _limits(now: datetime) -> dict[str, datetime]:
    return {"at": now, "seen_after": now - SESSION_IDLE, "since": now - SESSION_LONGEST}
