"""What the commands share that talk to a running server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from backend.errors import DashboardError, Invalid, JobNotFound
from backend.settings import ADMIN, LOOPBACK, PREFIX, load_settings
from ui.cli.data import open_accounts, server_address

MINTED_SECONDS = 3600
TIMEOUT = httpx.Timeout(120, connect=5)
WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
JOBS_AT_ONCE = 1_000
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's ID, or enough of its beginning.")]
JobState = dict[str, Any]
"""A job as the server tells it."""


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


def find_job(client: httpx.Client, given: str) -> JobState:
    """The job with this ID, or the one whose ID begins so. Raises `JobNotFound`, and `Invalid` for several."""
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


def _beginning_with(client: httpx.Client, beginning: str) -> Iterator[JobState]:
    query: dict[str, str | int] = {"q": beginning, "limit": JOBS_AT_ONCE}
    while True:
        page = checked(client.get("/api/jobs", params=query)).json()
        yield from (job for job in page["items"] if job["job_id"].startswith(beginning))
        if page["next_cursor"] is None:
            return
        query["cursor"] = page["next_cursor"]


def _own_token(url: str, data_dir: Path | None) -> str:
    if urlsplit(url).hostname not in LOOPBACK:
        raise ServerSaidNo(f"Set DASHBOARD_TOKEN for {url}; `python main.py token NAME` on its machine prints one.")
    return asyncio.run(_mint(data_dir))


async def _mint(data_dir: Path | None) -> str:
    async with open_accounts(data_dir) as accounts:
        return await accounts.issue_token(await accounts.user(ADMIN), lifetime_seconds=MINTED_SECONDS)
