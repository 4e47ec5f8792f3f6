"""The entry point to users, sessions, tokens and sign-in links, for pages, routes, sockets and commands."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from backend.accounts.issuing import new_claims, no_such_user
from backend.accounts.keys import Keys
from backend.accounts.passwords import Passwords
from backend.accounts.recent import RecentAuthorities
from backend.accounts.secrets import hash_secret, new_secret
from backend.accounts.throttle import Throttle
from backend.clock import Clock
from backend.command import command
from backend.domain.auth import ACCESS, Authority, User, user_name
from backend.errors import Conflict, Invalid, NotSignedIn, WrongPassword
from backend.settings import ADMIN, Settings
from backend.store import accounts as store
from backend.store.database import Database

MAX_SESSION_IDLE = timedelta(hours=12)
MAX_SESSION_AGE = timedelta(days=7)
TOUCH_INTERVAL = timedelta(minutes=1)
AT_ONCE = "at-once."  # no other secret has a dot


class Accounts:
    """Accounts over one database. Roles and validity are those of the store, for requests within a second or two."""

    def __init__(self, database: Database, keys: Keys, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._passwords = Passwords()
        self._throttle = Throttle(clock)
        self._recent = RecentAuthorities(self.still_valid, clock)

    async def sign_in(self, name: str, password: str, *, address: str) -> User:
        """Return the user if the password is theirs.

        Raises `WrongPassword` with the same words after the same time whether the user exists or not, and
        `TooManyAttempts` while this address has to wait.
        """
        known_as = user_name(name) or ""
        self._throttle.admit(known_as, address)
        account = await self._database.read(store.find_account, known_as)
        usable = account is not None and not account.user.disabled
        matches = await self._passwords.match(account.password_hash if account and usable else None, password)
        if account is None or not matches:
            raise WrongPassword
        self._throttle.succeeded(known_as, address)
        return account.user

    async def open_session(self, user: User) -> str:
        """Start a session and return the value of its cookie. It ends after 12 h without use and after 7 days."""
        cookie = new_secret()
        await self._database.write(store.add_session, hash_secret(cookie), user.id, self._clock.now())
        return cookie

    async def session(self, cookie: str, *, from_memory: bool = True) -> Authority | None:
        """Return whom the cookie signs in now; None if its session has ended or never existed.

        From memory, what a command changes counts within 2 s; otherwise at once.
        """
        key = hash_secret(cookie)
        if not from_memory:
            found = await self._read_session(key)
            return found[0] if found else None
        return await self._recent.get(key, lambda: self._read_session(key))

    async def end_session(self, cookie: str) -> None:
        """Sign out. Ending a session twice is not an error."""
        await self._database.write(store.remove_session, hash_secret(cookie))
        self._recent.forget()

    async def issue_token(self, user: User, *, lifetime_seconds: float, purpose: str = ACCESS) -> str:
        """Return a JWT for `user`, valid for that long, at most 365 days."""
        now = self._clock.now()
        claims, expires_at = new_claims(user.id, purpose, now=now, lifetime_seconds=lifetime_seconds)
        key = hash_secret(claims.jti)
        await self._database.write(store.add_token, key, user.id, purpose, at=now, expires_at=expires_at)
        return self._keys.sign(claims)

    async def token(self, jwt: str, *, purpose: str = ACCESS) -> Authority:
        """Return whom the token stands for now. Raises `NotSignedIn`, with the same words for every defect."""
        shown = f"{purpose} {hash_secret(jwt)}"
        authority = await self._recent.get(shown, lambda: self._read_token(jwt, purpose))
        if authority is None:
            raise NotSignedIn
        return authority

    async def make_link(self, user: User, *, lifetime_seconds: float, at_once: bool = False) -> str:
        """Return the secret part of a sign-in link that works once.

        `at_once` is for a link that only this machine's browser ever sees: it signs in without a question.
        """
        link = f"{AT_ONCE if at_once else ''}{new_secret()}"
        expires_at = self._clock.now() + timedelta(seconds=lifetime_seconds)
        await self._database.write(store.add_link, hash_secret(link), user.id, expires_at)
        return link

    async def find_link(self, link: str) -> User:
        """Return whom the link would sign in; it still works. Raises `NotSignedIn` if it was used or has ended."""
        return _usable(await self._database.read(store.find_link, hash_secret(link), self._clock.now()))

    async def use_link(self, link: str) -> User:
        """Return whom the link signs in; it does not work again. Raises `NotSignedIn` if it was used or has ended."""
        return _usable(await self._database.write(store.take_link, hash_secret(link), self._clock.now()))

    async def still_valid(self, authorities: Collection[Authority]) -> set[str]:
        """Return the keys of those that are still good: not ended or revoked, the user enabled and in the same role."""
        return await self._database.read(store.valid_keys, authorities, **_limits(self._clock.now()))

    async def add_user(self, name: str, password: str | None, is_admin: bool = False) -> User:
        """Add an account; its name is stored in lower case. Raises `Invalid`, or `Conflict` if the name is taken."""
        known_as = user_name(name)
        if known_as is None:
            raise Invalid("A user name must be 1 to 64 letters a to z, digits, or any of . _ - @")
        password_hash = None if password is None else await self._passwords.hash(password)
        user = User(str(uuid4()), known_as, is_admin, False, password is not None, self._clock.now())
        if not await self._database.write(store.add_user, user, password_hash):
            raise Conflict(f"There is already a user {known_as}.")
        return user

    async def users(self) -> list[User]:
        """Return all users, by name."""
        return await self._database.read(store.all_users)

    async def exists(self, name: str) -> bool:
        """Return True if there is a user of that name."""
        return await self._database.read(store.find_account, user_name(name) or "") is not None

    async def user(self, name: str) -> User:
        """Return the user of that name in any case of its letters. Raises `UserNotFound`."""
        account = await self._database.read(store.find_account, user_name(name) or "")
        if account is None:
            raise no_such_user(name)
        return account.user

    async def set_password(self, name: str, password: str) -> None:
        """Set a new password; all sessions, tokens and links of the user end. Raises `UserNotFound`, `Invalid`."""
        user = await self.user(name)
        await self._database.write(store.change_password, user.id, await self._passwords.hash(password))
        self._recent.forget()

    async def disable(self, name: str) -> None:
        """Disable the account; its sessions, tokens and links end. Raises `UserNotFound`."""
        user = await self.user(name)
        await self._database.write(store.disable, user.id)
        self._recent.forget()

    async def add_admin(self) -> User:
        """Return the account `admin`, created without a password if it is missing."""
        user = User(str(uuid4()), ADMIN, is_admin=True, created_at=self._clock.now())
        await self._database.write(store.add_user, user, None)
        return await self.user(ADMIN)

    async def ensure_admin(self) -> User:
        """Return the account `admin`, with the password of the settings if they have one.

        A new password ends its sessions.
        """
        await self.add_admin()
        if self._settings.admin_password is not None:
            await self._agree_on_password(self._settings.admin_password.get_secret_value())
        return await self.user(ADMIN)

    async def prune(self) -> None:
        """Delete the sessions, tokens and links that have ended."""
        await self._database.write(lambda connection: store.prune(connection, **_limits(self._clock.now())))

    async def _read_session(self, key: str) -> tuple[Authority, datetime] | None:
        now = self._clock.now()
        session = await self._database.read(store.find_session, key)
        if session is None or session.user.disabled:
            return None
        if min(session.last_seen_at + MAX_SESSION_IDLE, session.created_at + MAX_SESSION_AGE) <= now:
            return None
        seen_at = session.last_seen_at
        if now - seen_at >= TOUCH_INTERVAL:
            seen_at = now
            await self._database.write(store.touch_session, key, now)
        ends_at = min(now + MAX_SESSION_IDLE, session.created_at + MAX_SESSION_AGE)
        return Authority(session.user, "session", key, ends_at), min(seen_at + TOUCH_INTERVAL, ends_at)

    async def _read_token(self, jwt: str, purpose: str) -> tuple[Authority, datetime] | None:
        """Return None for a token that was revoked. Raises `NotSignedIn` for one that this server did not sign."""
        claims = self._keys.verify(jwt)
        key = hash_secret(claims.jti)
        token = await self._database.read(store.find_token, key)
        if token is None or token.user.disabled or token.expires_at <= self._clock.now():
            return None
        if (claims.sub, claims.purpose, token.purpose) != (token.user.id, purpose, purpose):
            return None
        ends_at = datetime.fromtimestamp(min(claims.exp, token.expires_at.timestamp()), UTC)  # the row may live longer
        return Authority(token.user, "token", key, ends_at), ends_at

    async def _agree_on_password(self, password: str) -> None:
        account = await self._database.read(store.find_account, ADMIN)
        if account and not await self._passwords.match(account.password_hash, password):
            await self.set_password(ADMIN, password)


def signs_in_at_once(link: str) -> bool:
    """Return True for a link that was made to sign in without a question."""
    return link.startswith(AT_ONCE)


def _usable(user: User | None) -> User:
    if user is None or user.disabled:
        raise NotSignedIn(
            f"This sign-in link was already used or has ended; make a new one with: {command('login-link')}"
        )
    return user


def _limits(now: datetime) -> dict[str, datetime]:
    return {"at": now, "seen_after": now - MAX_SESSION_IDLE, "since": now - MAX_SESSION_AGE}
