"""What the commands share that talk to a running server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from backend.errors import DashboardError
from backend.settings import ADMIN, LOOPBACK, PREFIX, load_settings
from ui.cli.data import open_accounts, server_address

MINTED_SECONDS = 3600
TIMEOUT = httpx.Timeout(120, connect=5)


class ClientSettings(BaseSettings):
    """Where the server is, and as whom to speak to it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore")

    url: str = ""
    token: SecretStr | None = None


class ServerSaidNo(DashboardError):
    """The server refused the request."""


@contextmanager
def connected(data_dir: Path | None) -> Iterator[httpx.Client]:
    """A client of the running server, signed in.

    With `DASHBOARD_TOKEN`, or on the server's own machine with a token made from the data directory, as admin. What the
    server refuses and a server that is away are raised as `DashboardError`.
    """
    given = ClientSettings()
    url = given.url or server_address(load_settings(data_dir=data_dir))
    token = given.token.get_secret_value() if given.token else _own_token(url, data_dir)
    try:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT) as client:
            yield client
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise ServerSaidNo(
            f"No server answers at {url}; start it with `python main.py`, or set DASHBOARD_URL."
        ) from None
    except httpx.HTTPError as error:
        raise ServerSaidNo(f"The connection to {url} failed ({error}); try again.") from None
    except httpx.InvalidURL:
        raise ServerSaidNo(f"DASHBOARD_URL {url!r} is not an address such as http://localhost:8000.") from None


def checked(response: httpx.Response) -> httpx.Response:
    """The response, unless it is a refusal: then its own sentence is raised."""
    if response.is_success:
        return response
    response.read()
    try:
        sentence = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        sentence = f"The server answered {response.status_code}; is DASHBOARD_URL the dashboard's address?"
    raise ServerSaidNo(sentence)


def _own_token(url: str, data_dir: Path | None) -> str:
    if urlsplit(url).hostname not in LOOPBACK:
        raise ServerSaidNo(f"Set DASHBOARD_TOKEN for {url}; `python main.py token NAME` on its machine prints one.")
    return asyncio.run(_mint(data_dir))


async def _mint(data_dir: Path | None) -> str:
    async with open_accounts(data_dir) as accounts:
        return await accounts.issue_token(await accounts.user(ADMIN), lifetime_seconds=MINTED_SECONDS)
