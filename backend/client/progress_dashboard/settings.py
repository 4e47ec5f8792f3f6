"""The settings of a feed that gets no arguments: `DASHBOARD_URL` and `DASHBOARD_TOKEN`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import InvalidArgument

DEFAULT_URL = "http://localhost:8000"
URL_VARIABLE, TOKEN_VARIABLE = "DASHBOARD_URL", "DASHBOARD_TOKEN"


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """The server to follow, and the user to follow it as."""

    # Address of the server: `DASHBOARD_URL`, or the default one.
    url: str
    # Token of the user: `DASHBOARD_TOKEN`; "" for none.
    token: str = field(repr=False)


def settings_from_environment() -> FeedSettings:
    """Return the settings in the environment and, if python-dotenv is installed, in `.env`.

    The environment goes before `.env`. An empty value counts as none, and names are read in either case. Raises
    `InvalidArgument` if `.env` cannot be read.
    """
    given = {**_non_empty(_dotenv()), **_non_empty(os.environ)}
    return FeedSettings(given.get(URL_VARIABLE, DEFAULT_URL), given.get(TOKEN_VARIABLE, ""))


def _non_empty(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name.upper(): value for name, value in values.items() if value}


def _dotenv() -> Mapping[str, str | None]:
    try:
        from dotenv import dotenv_values
    except ImportError:
        return {}
    try:
        return dotenv_values(".env", encoding="utf-8-sig")  # Windows writes a byte order mark
    except UnicodeDecodeError:
        raise InvalidArgument("The file .env is not UTF-8 text; save it as UTF-8.") from None
    except OSError as error:
        raise InvalidArgument(f"The file .env cannot be read ({error.strerror}); check its permissions.") from None
