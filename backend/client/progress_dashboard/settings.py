"""Where the server is and who asks, for feeds that are not told: `DASHBOARD_URL` and `DASHBOARD_TOKEN`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
DEFAULT_URL = "http://localhost:8000"


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """The address of the server, and the token to speak to it with ("": none)."""

    url: str
    token: str = field(repr=False)


def settings_from_environment() -> FeedSettings:
    """Return the settings of the environment; where python-dotenv is installed, also those of `.env`."""
    given = {**_dotenv(), **{name: value for name, value in os.environ.items() if value}}
    return FeedSettings(given.get("DASHBOARD_URL", DEFAULT_URL), given.get("DASHBOARD_TOKEN", ""))


def _dotenv() -> Mapping[str, str]:
    try:
        from dotenv import dotenv_values
    except ImportError:
        return {}
    return {name: value for name, value in dotenv_values(".env").items() if value}
