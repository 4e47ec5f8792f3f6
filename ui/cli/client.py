"""What the commands share that talk to a running server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from backend.command import command
from backend.errors import DashboardError, Invalid, JobNotFound, NotFound
from backend.settings import ADMIN, LOOPBACK, PREFIX, load_settings
from ui.cli.data import open_accounts, server_address

MINTED_SECONDS = 3600
TIMEOUT = httpx.Timeout(120, connect=5)
WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
JOBS_AT_ONCE = 1_000
TOKEN_REFUSED = f"The server refuses the token; `{command('token NAME')}` prints one for DASHBOARD_TOKEN."
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's ID, or enough of its beginning.")]
JobState = dict[str, Any]
"""A job as the server tells it."""


class ClientSettings(BaseSettings):
    """Where the server is, and as whom to speak to it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore")

    url: str = ""
    token: SecretStr | None = None


class RequestRefused(DashboardError):
    """The server refused the request."""


class ServerAway(RequestRefused):
    """No server answers; start it, or set DASHBOARD_URL."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the server is, and the token to speak to it with."""

    url: str
    token: str = field(repr=False)


def sign_in(data_dir: Path | None, *, lifetime_seconds: int = MINTED_SECONDS) -> Access:
    """What the environment says: `DASHBOARD_URL` and `DASHBOARD_TOKEN`.

    Without them, on the server's own machine: the address in the data directory, and a token made from it, as admin.
    """
    given = ClientSettings()
    url = given.url or server_address(load_settings(data_dir=data_dir))
    token = given.token.get_secret_value() if given.token else _own_token(url, data_dir, lifetime_seconds)
    return Access(url, token)


@contextmanager
def connected(data_dir: Path | None) -> Iterator[httpx.Client]:
    """A client of the running server, signed in; raises like `speaking`."""
    with speaking(sign_in(data_dir)) as client:
        yield client


@contextmanager
def speaking(access: Access, *, timeout: httpx.Timeout = TIMEOUT) -> Iterator[httpx.Client]:
    """A client of the server; what it refuses is raised as `RequestRefused`, no answer as `ServerAway`."""
    url, headers = access.url, {"Authorization": f"Bearer {access.token}"}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=timeout) as client:
            yield client
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise ServerAway(no_answer(url)) from None
    except httpx.HTTPError as error:
        raise ServerAway(f"The connection to {url} failed ({error}); try again.") from None
    except httpx.InvalidURL:
        raise RequestRefused(f"DASHBOARD_URL {url!r} is not an address such as http://localhost:8000.") from None


def no_answer(url: str) -> str:
    """That no server is there, in one sentence."""
    return f"No server answers at {url}; start it with `{command()}`, or set DASHBOARD_URL."


def checked(response: httpx.Response) -> httpx.Response:
    """The response, unless it is a refusal: then its own sentence is raised, as `NotFound` or `RequestRefused`."""
    if response.is_success:
        return response
    response.read()
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise RequestRefused(TOKEN_REFUSED)
    try:
        sentence = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        raise RequestRefused(
            f"The server answered {response.status_code}; is DASHBOARD_URL the dashboard's address?"
        ) from None
    raise NotFound(sentence) if response.status_code == httpx.codes.NOT_FOUND else RequestRefused(sentence)


def find_job(client: httpx.Client, given: str) -> JobState:
    """The job with this ID, or the one whose ID begins so. Raises `NotFound`, and `Invalid` for several."""
    beginning = given.strip().lower()
    if WHOLE_ID.fullmatch(beginning):
        job: JobState = checked(client.get(f"/api/jobs/{beginning}")).json()
        return job
    found = list(islice(_beginning_with(client, beginning), 2))
    if not found:
        raise JobNotFound
    if len(found) > 1:
        raise Invalid(f'Several jobs have an ID that begins with "{given}"; write more of it.')
    return found[0]


def ask(client: httpx.Client, job: JobState, what: str, body: dict[str, Any] | None = None) -> JobState:
    """Ask for something to be done with the job; its state once the server has it."""
    after: JobState = checked(client.post(f"/api/jobs/{job['job_id']}/{what}", json=body)).json()
    return after


def each_job(client: httpx.Client, **query: str | int | bool) -> Iterator[JobState]:
    """The jobs that the query takes, page by page."""
    asked: dict[str, str | int | bool] = {**query, "limit": JOBS_AT_ONCE}
    while True:
        page = checked(client.get("/api/jobs", params=asked)).json()
        yield from page["items"]
        if page["next_cursor"] is None:
            return
        asked["cursor"] = page["next_cursor"]


def _beginning_with(client: httpx.Client, beginning: str) -> Iterator[JobState]:
    return (job for job in each_job(client, q=beginning) if job["job_id"].startswith(beginning))


def _own_token(url: str, data_dir: Path | None, lifetime_seconds: int) -> str:
    if urlsplit(url).hostname not in LOOPBACK:
        raise RequestRefused(f"Set DASHBOARD_TOKEN for {url}; `{command('token NAME')}` on its machine prints one.")
    return asyncio.run(_mint(data_dir, lifetime_seconds))


async def _mint(data_dir: Path | None, lifetime_seconds: int) -> str:
    async with open_accounts(data_dir) as accounts:
        return await accounts.issue_token(await accounts.user(ADMIN), lifetime_seconds=lifetime_seconds)
