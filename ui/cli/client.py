"""The client of a running server that several commands share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from pydantic import BaseModel, SecretStr

from backend.command import command
from backend.errors import DashboardError, Invalid, JobNotFound, NotFound
from backend.settings import ADMIN, LOOPBACK, load_settings, read_settings
from progress_dashboard.address import Address
from progress_dashboard.proxies import Proxy, proxy_for
from progress_dashboard.settings import TOKEN_VARIABLE, URL_VARIABLE
from progress_dashboard.tokens import checked_token
from ui.cli.data import issue_token, server_address

TOKEN_SECONDS = 3600
TIMEOUT = httpx.Timeout(120, connect=5)
WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PAGE_SIZE = 1_000
PROXY_STATUSES = frozenset({403, 407, 502, 503, 504})
TOKEN_REFUSED = f"The server refused the token; `{command('token NAME')}` prints one for DASHBOARD_TOKEN."
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="ID of a job, or enough of its beginning to be unique.")
]
JobState = dict[str, Any]
"""A job as JSON from the server."""


class ClientSettings(BaseModel):
    """The address of the server, and the token of the user."""

    url: str = ""
    token: SecretStr | None = None


class RequestRefused(DashboardError):
    """The server refused the request."""


class ServerUnreachable(RequestRefused):
    """No server answers; start it, or set DASHBOARD_URL."""


@dataclass(frozen=True, slots=True)
class Access:
    """The server, the token for its requests, and the proxy on the way to it."""

    address: Address
    token: str = field(repr=False)
    proxy: Proxy | None = None

    @property
    def url(self) -> str:
        """The address that a browser opens."""
        return self.address.base

    @property
    def no_answer(self) -> str:
        """The sentence that nothing answers at this address, or that the proxy before it does not."""
        if self.proxy:
            return (
                f"The proxy {self.proxy.shown} does not lead to {self.url}; correct it, or name the host in NO_PROXY."
            )
        return f"No server answers at {self.url}; start it with `{command()}`, or set DASHBOARD_URL."


def sign_in(data_dir: Path | None, *, lifetime_seconds: int = TOKEN_SECONDS) -> Access:
    """Return the server's address and a token, from `DASHBOARD_URL` and `DASHBOARD_TOKEN`.

    Without them, on the server's own machine: the address in the data directory, and an administrator's token signed
    with the key there. Raises `InvalidArgument`, with nothing of a token or password, for what cannot be used.
    """
    given = read_settings(ClientSettings)
    token = checked_token(given.token.get_secret_value(), TOKEN_VARIABLE) if given.token else ""
    if given.url:
        address, token_in_url = Address.parse(given.url, URL_VARIABLE)
        proxy = proxy_for(address.base)
        token = token or checked_token(token_in_url, URL_VARIABLE)
    else:
        address, _ = Address.parse(server_address(load_settings(data_dir=data_dir)))
        proxy = None  # it is the server of this machine, whatever its name
    return Access(address, token or _own_token(address, data_dir, lifetime_seconds), proxy)


@contextmanager
def connected(data_dir: Path | None) -> Iterator[httpx.Client]:
    """Open a client of the running server, signed in. Raises like `open_client`."""
    with open_client(sign_in(data_dir)) as client:
        yield client


@contextmanager
def open_client(access: Access, *, timeout: httpx.Timeout = TIMEOUT) -> Iterator[httpx.Client]:
    """Open a client of the server. Raises `ServerUnreachable` without an answer, `RequestRefused` for a bad address."""
    try:
        with _client(access, timeout) as client:
            yield client
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError):
        raise ServerUnreachable(access.no_answer) from None
    except httpx.HTTPError as error:  # by its kind: the text of some of them repeats a header
        through = f" through the proxy {access.proxy.shown}" if access.proxy else ""
        raise ServerUnreachable(
            f"The connection to {access.url}{through} failed ({type(error).__name__}); try again."
        ) from None
    except httpx.InvalidURL:
        raise RequestRefused(
            f"{URL_VARIABLE} is not the address of a dashboard; write one such as http://localhost:8000."
        ) from None


def _client(access: Access, timeout: httpx.Timeout) -> httpx.Client:
    transport = httpx.HTTPTransport(  # a client of its own would look for another proxy
        proxy=access.proxy.url if access.proxy else None,
        verify=access.address.is_secure,  # without TLS there is nothing to verify, and nothing to load
    )
    headers = {"Authorization": f"Bearer {access.token}"}
    hooks = {"response": [lambda response: _refuse_proxy_errors(access, response)]}
    return httpx.Client(base_url=access.url, headers=headers, timeout=timeout, transport=transport, event_hooks=hooks)


def _refuse_proxy_errors(access: Access, response: httpx.Response) -> None:
    """Raise `ServerUnreachable` for an answer of the proxy itself, which the dashboard would write as JSON."""
    is_json = response.headers.get("content-type", "").startswith("application/json")
    if access.proxy and response.status_code in PROXY_STATUSES and not is_json:
        raise ServerUnreachable(f"{access.no_answer.rstrip('.')} (it answered {response.status_code}).")


def checked(response: httpx.Response) -> httpx.Response:
    """Return a successful response. Raises `NotFound` or `RequestRefused` with the sentence of any other."""
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
    """Return the job with this ID or beginning of an ID. Raises `NotFound`, and `Invalid` for several jobs."""
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


def request_action(client: httpx.Client, job: JobState, action: str, body: dict[str, Any] | None = None) -> JobState:
    """Request an action on the job. Returns the job after the server has accepted the request."""
    after: JobState = checked(client.post(f"/api/jobs/{job['job_id']}/{action}", json=body)).json()
    return after


def each_job(client: httpx.Client, **query: str | int | bool) -> Iterator[JobState]:
    """Yield the jobs that the query selects, page by page."""
    params: dict[str, str | int | bool] = {**query, "limit": PAGE_SIZE}
    while True:
        page = checked(client.get("/api/jobs", params=params)).json()
        yield from page["items"]
        if page["next_cursor"] is None:
            return
        params["cursor"] = page["next_cursor"]


def _beginning_with(client: httpx.Client, beginning: str) -> Iterator[JobState]:
    return (job for job in each_job(client, q=beginning) if job["job_id"].startswith(beginning))


def _own_token(address: Address, data_dir: Path | None, lifetime_seconds: int) -> str:
    if address.hostname not in LOOPBACK:
        raise RequestRefused(
            f"Set DASHBOARD_TOKEN for {address.base}; `{command('token NAME')}` on the server's machine prints one."
        )
    return issue_token(data_dir, ADMIN, lifetime_seconds)
