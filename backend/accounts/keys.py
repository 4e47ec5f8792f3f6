"""JSON Web Tokens: the claims, and the keys that sign and verify them."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import jwt
import msgspec

from backend.accounts.secrets import SECRET_BYTES
from backend.clock import Clock
from backend.errors import CannotStart, NotSignedIn
from backend.settings import Settings

MAX_TOKEN_LENGTH = 2048  # characters
MAX_CLOCK_SKEW_SECONDS = 60  # by which a token may be issued in the future: clocks are set back
ISSUER = AUDIENCE = "progress-dashboard"
ALGORITHM = "HS256"


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a token, all of it required; times in whole seconds since 1970. The role is not in it."""

    sub: str
    jti: str
    purpose: str
    iat: int
    exp: int
    iss: str = ISSUER
    aud: str = AUDIENCE


CLAIMS = Claims.__struct_fields__


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signing key: base64 of 32 bytes or more. `until` is when its last token ends, None for the one that signs."""

    kid: str
    key: str
    until: datetime | None = None

    @property
    def secret(self) -> bytes:
        """The decoded key. Raises `ValueError` if it is not base64 or too short."""
        secret = base64.b64decode(self.key, validate=True)
        if len(secret) < SECRET_BYTES:
            raise ValueError("the key is too short")
        return secret


class Keys:
    """The signing keys: the last, newest one signs; older ones verify until their time ends."""

    def __init__(self, keys: Sequence[Key], clock: Clock) -> None:
        self._signing = keys[-1]
        self._secrets = {key.kid: key.secret for key in keys}
        self._until = {key.kid: key.until for key in keys}
        self._clock = clock

    @classmethod
    def load(cls, settings: Settings, clock: Clock) -> Keys:
        """Return the key of `DASHBOARD_JWT_SECRET`, or those in `secret.json` in the data directory, made if missing.

        Raises `CannotStart` if the file is damaged, cannot be written, or can be read by other users of the machine.
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
        """Return the signed token."""
        payload = msgspec.to_builtins(claims)
        kid = self._signing.kid
        return jwt.encode(payload, self._secrets[kid], algorithm=ALGORITHM, headers={"kid": kid})

    def verify(self, token: str) -> Claims:
        """Return the claims of the token. Raises `NotSignedIn` for every defect. Only the store knows revoked ones."""
        try:
            claims = self._decode(token)
        except (jwt.PyJWTError, LookupError, ValueError):
            raise NotSignedIn from None
        now = self._clock.now().timestamp()
        if claims.exp <= now or claims.iat > now + MAX_CLOCK_SKEW_SECONDS:
            raise NotSignedIn
        return claims

    def _decode(self, token: str) -> Claims:
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
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
        )  # the caller checks the times, on the clock of the program
        return msgspec.convert(payload, Claims)


def _given_key(secret: str) -> Key:
    raw = secret.encode()
    return Key(kid=f"env-{hashlib.sha256(raw).hexdigest()[:16]}", key=base64.b64encode(raw).decode())


def _read_keys(path: Path) -> list[Key]:
    if not path.exists():
        _make_keys(path)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise CannotStart(f"The signing keys in {path} can be read by others; run: chmod 600 {path}")
    keys = msgspec.json.decode(path.read_bytes(), type=list[Key])
    if not keys or keys[-1].until is not None:
        raise ValueError("the last key must have no end")
    return keys


def _make_keys(path: Path) -> None:
    """Write the first key, unless another process has: the file appears whole, and never changes afterwards."""
    from filelock import FileLock  # only the first start needs it

    with FileLock(path.with_suffix(".lock"), mode=0o600):
        if not path.exists():
            _write_keys(path, [_new_key()])


def _new_key() -> Key:
    secret = secrets.token_bytes(SECRET_BYTES)
    return Key(kid=secrets.token_hex(8), key=base64.b64encode(secret).decode())


def _write_keys(path: Path, keys: Sequence[Key]) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(keys))
    unfinished.replace(path)
