"""What tokens are made of, whoever stores them."""

from __future__ import annotations

from datetime import datetime, timedelta

from backend.accounts.keys import Claims
from backend.accounts.secrets import new_secret
from backend.command import command
from backend.errors import Invalid, UserNotFound

MAX_TOKEN_AGE = timedelta(days=365)


def new_claims(user_id: str, purpose: str, *, now: datetime, lifetime_seconds: float) -> tuple[Claims, datetime]:
    """Return the claims of a token that begins now, and when it ends. Raises `Invalid` for more than 365 days."""
    if not 0 < lifetime_seconds <= MAX_TOKEN_AGE.total_seconds():
        raise Invalid("A token must end within 365 days.")
    expires_at = (now + timedelta(seconds=lifetime_seconds)).replace(microsecond=0)
    issued, ends = int(now.timestamp()), int(expires_at.timestamp())
    return Claims(sub=user_id, jti=new_secret(), purpose=purpose, iat=issued, exp=ends), expires_at


def no_such_user(name: str) -> UserNotFound:
    """Return the error for a name that nobody has."""
    return UserNotFound(f"There is no user {name!r}; see: {command('users list')}")
