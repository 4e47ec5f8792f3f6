"""Who somebody is and how they prove it: users, password hashes, tokens, the brake on guessing. No HTTP, no SQL."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import math
import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

import jwt
import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from filelock import FileLock

from backend.clock import Clock
from backend.errors import CannotStart, Invalid, NotSignedIn, TooManyAttempts
from backend.settings import LONGEST_PASSWORD, SHORTEST_PASSWORD, Settings

K = TypeVar("K")
V = TypeVar("V")
USER_NAME = re.compile(r"[a-z0-9._@-]{1,64}")
LONGEST_TOKEN = 2048
ISSUER = AUDIENCE = "progress-dashboard"
ALGORITHM = "HS256"
SECRET_BYTES = 32
HASHES_AT_ONCE = 2
HASHES_WAITING = 16
IPV4_BITS = 24  # of an address that guesses
NOBODYS_HASH = (  # of a password that nobody knows, with the parameters of `Passwords`
    "$argon2id$v=19$m=19456,t=2,p=1$/bxLOwtoe3XI+QAm3Cv1CQ$F6HdaEJcwMwLFCOj+GlV9rw1o2zt0Q1uFGWnvAJLfIg"
)


@dataclass(frozen=True, slots=True)
class User:
    """An account, as it was when it was read; `name` is lower-case."""

    id: str
    name: str
    is_admin: bool
    disabled: bool = False
    has_password: bool = False
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Authority:
    """What a request or a socket acts on. `key`: the hash that a session or a token is stored under."""

    user: User
    kind: Literal["session", "token"]
    key: str
    expires_at: datetime


def user_name(text: str) -> str | None:
    """The name in its one spelling, lower-case; None when no user can be called so.

    >>> user_name("Ana@example.org")
    'ana@example.org'
    >>> user_name("ana <b>") is None
    True
    """
    name = text.lower() if text.isascii() else ""
    return name if USER_NAME.fullmatch(name) else None


def new_secret() -> str:
    """A value that nobody can guess, safe in cookies and addresses."""
    return secrets.token_urlsafe(SECRET_BYTES)


def fingerprint(secret: str) -> str:
    """SHA-256 in hex: what is stored of a secret that is random by itself."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class Passwords:
    """argon2id (19 MiB, 2 passes, 1 lane: OWASP), two at once in threads; a short queue, then `TooManyAttempts`."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._threads = ThreadPoolExecutor(HASHES_AT_ONCE, "password")  # ends with its owner
        self._under_way = 0

    async def hash(self, password: str) -> str:
        """What is stored of a password. Raises `Invalid` when it is too short or too long."""
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD or not _is_text(password):
            raise Invalid(f"A password must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.")
        return await self._in_turn(password, None)

    async def match(self, password_hash: str | None, password: str) -> bool:
        """Whether the password belongs to the hash; takes the same time for an account that has none."""
        usable = len(password) <= LONGEST_PASSWORD and _is_text(password)
        answer = await self._in_turn(password if usable else "", password_hash or NOBODYS_HASH)
        return bool(answer) and usable and password_hash is not None

    async def _in_turn(self, password: str, password_hash: str | None) -> str:
        if self._under_way >= HASHES_AT_ONCE + HASHES_WAITING:
            raise TooManyAttempts("Too many people are signing in right now; try again in a moment.")
        self._under_way += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._work, password, password_hash)
        finally:
            self._under_way -= 1

    def _work(self, password: str, password_hash: str | None) -> str:
        """The new hash, or the old one when it matches, or nothing."""
        if password_hash is None:
            return self._hasher.hash(password)
        try:
            self._hasher.verify(password_hash, password)
        except VerifyMismatchError:
            return ""
        return password_hash


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says, all of it required; times in whole seconds since 1970. The role is not in it."""

    sub: str
    jti: str
    purpose: str
    iat: int
    exp: int
    iss: str = ISSUER
    aud: str = AUDIENCE


CLAIMS = Claims.__struct_fields__


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signing key: base64 of 32 bytes or more; `until`: when its last token ends, None for the one that signs."""

    kid: str
    key: str
    until: datetime | None = None

    @property
    def secret(self) -> bytes:
        """The key itself. Raises `ValueError` when it is not base64 or too short."""
        secret = base64.b64decode(self.key, validate=True)
        if len(secret) < SECRET_BYTES:
            raise ValueError("the key is too short")
        return secret


class Keys:
    """The signing keys: the newest, last one signs; older ones verify until their time ends."""

    def __init__(self, keys: Sequence[Key], clock: Clock) -> None:
        self._signing = keys[-1]
        self._secrets = {key.kid: key.secret for key in keys}
        self._until = {key.kid: key.until for key in keys}
        self._clock = clock

    @classmethod
    def load(cls, settings: Settings, clock: Clock) -> Keys:
        """The key of `DASHBOARD_JWT_SECRET`, or those in `secret.json` in the data directory, made when missing.

        Raises `CannotStart` when the file is damaged, cannot be written, or can be read by other users of the machine.
        """
        if settings.jwt_secret is not None:
            return cls([_given_key(settings.jwt_secret.get_secret_value())], clock)
        path = settings.data_dir / "secret.json"
        try:
            return cls(_read_keys(path), clock)
        except OSError as error:
            raise CannotStart(
                f"The signing keys in {path} cannot be read or written ({error.strerror}); check the directory."
            ) from error
        except ValueError as error:
            raise CannotStart(
                f"The signing keys in {path} are damaged ({error}); restore the file, or remove it to end all tokens."
            ) from error

    def sign(self, claims: Claims) -> str:
        """The token."""
        payload = msgspec.to_builtins(claims)
        kid = self._signing.kid
        return jwt.encode(payload, self._secrets[kid], algorithm=ALGORITHM, headers={"kid": kid})

    def verify(self, token: str) -> Claims:
        """What the token says; raises `NotSignedIn` for every defect. Whether it was revoked only the store knows."""
        try:
            claims = self._decode(token)
        except (jwt.PyJWTError, LookupError, ValueError):
            raise NotSignedIn from None
        if claims.exp <= self._clock.now().timestamp():
            raise NotSignedIn
        return claims

    def _decode(self, token: str) -> Claims:
        if len(token) > LONGEST_TOKEN or not token.isascii():
            raise ValueError
        kid = jwt.get_unverified_header(token)["kid"]
        until = self._until[kid]
        if until is not None and until <= self._clock.now():
            raise LookupError
        payload = jwt.decode(
            token,
            self._secrets[kid],
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            audience=AUDIENCE,
            options={"require": list(CLAIMS), "verify_exp": False, "verify_iat": False},
        )  # expiry is checked by the caller, on the clock of the program
        return msgspec.convert(payload, Claims)


def _given_key(secret: str) -> Key:
    raw = secret.encode()
    return Key(kid=f"env-{hashlib.sha256(raw).hexdigest()[:16]}", key=base64.b64encode(raw).decode())


def _read_keys(path: Path) -> list[Key]:
    with FileLock(path.with_suffix(".lock"), mode=0o600):
        if not path.exists():
            _write_keys(path, [_new_key()])
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise CannotStart(f"The signing keys in {path} can be read by others; run: chmod 600 {path}")
    keys = msgspec.json.decode(path.read_bytes(), type=list[Key])
    if not keys or keys[-1].until is not None:
        raise ValueError("the last key must have no end")
    return keys


def _new_key() -> Key:
    secret = secrets.token_bytes(SECRET_BYTES)
    return Key(kid=secrets.token_hex(8), key=base64.b64encode(secret).decode())


def _write_keys(path: Path, keys: Sequence[Key]) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(keys))
    unfinished.replace(path)


@dataclass(frozen=True, slots=True)
class Tries:
    """Failures in a row of one account from one address; `last`: when, in seconds of `Clock.monotonic`."""

    failures: int = 0
    last: float = -math.inf
    known: bool = False


class Throttle:
    """A brake on guessing passwords.

    An account from one address (IPv4 /24, IPv6 /64) may fail five times; then it waits 1, 2, 4 … 60 s. An address may
    fail 30 times over all accounts, and once more every 10 s; an account that has signed in from there before is not
    held up by that. An attempt counts from its start, so that parallel ones count too. Remembers the newest 10,000.
    """

    FREE = 5
    LONGEST_WAIT = 60.0
    FORGOTTEN_AFTER = 3600.0
    BURST = 30
    EVERY = 10.0

    def __init__(self, clock: Clock, *, remembered: int = 10_000) -> None:
        self._clock = clock
        self._remembered = remembered
        self._tries: OrderedDict[tuple[str, str], Tries] = OrderedDict()
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    def admit(self, name: str, address: str) -> None:
        """Count an attempt as failed until `succeeded` says otherwise. Raises `TooManyAttempts` while it must wait."""
        now, network = self._clock.monotonic(), network_of(address, ipv4_bits=IPV4_BITS)
        tries = self._recall(name, network, now)
        wait = tries.last + self._delay(tries.failures) - now
        if not tries.known:
            wait = max(wait, self._debt(network, now) - (self.BURST - 1) * self.EVERY)
        if wait > 0:
            seconds = math.ceil(wait)
            raise TooManyAttempts(
                f"Too many attempts to sign in; wait {seconds} s and try again.", retry_after=float(seconds)
            )
        self._remember(self._tries, (name, network), Tries(tries.failures + 1, now, tries.known))
        self._remember(self._paid_until, network, now + self._debt(network, now) + self.EVERY)

    def succeeded(self, name: str, address: str) -> None:
        """The attempt that was admitted was the right one: forget the failures before it."""
        now, network = self._clock.monotonic(), network_of(address, ipv4_bits=IPV4_BITS)
        self._remember(self._tries, (name, network), Tries(known=True))
        self._remember(self._paid_until, network, now + self._debt(network, now) - self.EVERY)

    def _recall(self, name: str, network: str, now: float) -> Tries:
        tries = self._tries.get((name, network), Tries())
        return Tries(known=tries.known) if now - tries.last > self.FORGOTTEN_AFTER else tries

    def _delay(self, failures: int) -> float:
        return 0.0 if failures < self.FREE else min(self.LONGEST_WAIT, 2.0 ** min(failures - self.FREE, 10))

    def _debt(self, network: str, now: float) -> float:
        return max(0.0, self._paid_until.get(network, now) - now)

    def _remember(self, memory: OrderedDict[K, V], key: K, value: V) -> None:
        memory[key] = value
        memory.move_to_end(key)
        if len(memory) > self._remembered:
            memory.popitem(last=False)


def network_of(address: str, *, ipv4_bits: int) -> str:
    """The network that a stranger can change addresses in: so many bits of IPv4, IPv6 /64; anything else as it is.

    >>> network_of("192.0.2.77", ipv4_bits=24), network_of("::ffff:192.0.2.1", ipv4_bits=32)
    ('192.0.2.0/24', '192.0.2.1/32')
    >>> network_of("2001:db8:1:2:3::4", ipv4_bits=24)
    '2001:db8:1:2::/64'
    """
    found = ip_of(address)
    if found is None:
        return address
    return str(ipaddress.ip_network((found, ipv4_bits if found.version == 4 else 64), strict=False))


def ip_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address without its zone, an IPv4 one out of its IPv6 clothes; None when it is none."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
