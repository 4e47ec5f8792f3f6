"""The address of a PostgreSQL database: its password is used, and never shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

SCHEMES = ("postgresql://", "postgres://")
USER_INFO = re.compile(r"(?<=://)(?P<user>[^:/?#@]*)(?::(?P<password>[^/?#]*))?@")
SECRET_OPTION = re.compile(
    r"(?<=[?&])(?P<name>password|sslpassword|oauth_client_secret)=(?P<value>[^&]*)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A `postgresql://` address as libpq reads it; as a text it has no password."""

    secret: str = field(repr=False)

    @property
    def shown(self) -> str:
        """The address without its passwords.

        >>> DatabaseUrl("postgresql://ana:s3cret@db.example:5433/dash?password=x").shown
        'postgresql://ana@db.example:5433/dash'
        """
        return shown_url(self.secret)

    @property
    def libpq(self) -> str:
        """The address for PostgreSQL's own programs: all of it but its passwords.

        >>> DatabaseUrl("postgresql://ana:s3cret@db/dash?sslmode=require&password=x").libpq
        'postgresql://ana@db/dash?sslmode=require'
        """
        place, _, options = self.secret.partition("?")
        harmless = [option for option in options.split("&") if option and not SECRET_OPTION.search(f"?{option}")]
        return shown_url(place) + (f"?{'&'.join(harmless)}" if harmless else "")

    @property
    def secrets(self) -> set[str]:
        """The passwords in it."""
        return passwords_in(self.secret)

    def __str__(self) -> str:
        return self.shown


def is_postgresql(url: str) -> bool:
    """Return True if the address is that of a PostgreSQL database."""
    return url.startswith(SCHEMES)


def shown_url(url: str) -> str:
    """Return an address without what may be a password: that of its user, and all its options.

    Of an address that PostgreSQL does not know, only the beginning: a secret may be anywhere in it.
    """
    if not is_postgresql(url):
        scheme, separator, _ = url.partition("://")
        return f"{scheme}://…" if separator and scheme != "sqlite" else url
    return USER_INFO.sub(lambda found: f"{found['user']}@", url).partition("?")[0]


def passwords_in(url: str) -> set[str]:
    """Return the passwords in an address, as they are written and as they are meant."""
    found = {match["password"] for match in USER_INFO.finditer(url) if match["password"]}
    found |= {match["value"] for match in SECRET_OPTION.finditer(url) if match["value"]}
    return found | {unquote(password) for password in found}
