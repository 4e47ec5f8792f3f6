"""The settings of a feed that gets no arguments: `DASHBOARD_URL` and `DASHBOARD_TOKEN`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
DEFAULT_URL = "http://localhost:8000"


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """The server to follow, and the user to follow it as."""

    # Address of the server: `DASHBOARD_URL`, or the default one.
    url: str
    # Token of the user: `DASHBOARD_TOKEN`; "" for none.
    token: str = field(repr=False)


def settings_from_environment() -> FeedSettings:
    """Return the settings in the environment and, if python-dotenv is installed, in `.env`.

    The environment goes before `.env`. An empty value counts as none, and names are read in either case.
    """
    given = {**_non_empty(_dotenv()), **_non_empty(os.environ)}
    return FeedSettings(given.get("DASHBOARD_URL", DEFAULT_URL), given.get("DASHBOARD_TOKEN", ""))


def _non_empty(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name.upper(): value for name, value in values.items() if value}


def _dotenv() -> Mapping[str, str | None]:
    try:
        from dotenv import dotenv_values
    except ImportError:
        return {}
    return dotenv_values(".env")
