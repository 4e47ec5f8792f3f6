"""Sockets without logic: the connection to a server's progress socket, and questions to its history.

The token goes in a header only: addresses end up in logs and in the words of errors.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import NoReturn, Protocol
from urllib.parse import SplitResult, parse_qs, quote, urlsplit, urlunsplit

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from .errors import InvalidArgument
from .policy import POLICY
from .protocol import ProgressUpdate
from .settings import LOOPBACK

SOCKET_PATH = "/api/ws/progress"
OPEN_SECONDS = 10.0
ANSWER_SECONDS = 15.0
POOL_SECONDS = 1.0  # fewer are asked at once than there are connections, so that no question ever waits for a free one
CLOSE_SECONDS = 1.0
MAX_FRAME_BYTES = 16 * 2**20
ABNORMAL = 1006
SECURE = {"ws": False, "http": False, "wss": True, "https": True}
PASSING = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY, httpx.codes.TOO_MANY_REQUESTS)
CONNECTIONS = httpx.Limits(max_connections=8, max_keepalive_connections=2)

# At DEBUG the library writes down the headers, and the token with them.
_quiet = logging.getLogger(f"{__name__}.socket")
_quiet.setLevel(logging.INFO)


class ConnectionLost(Exception):
    """The connection ended, or there was none: `code` as WebSocket closed it, None without a close."""

    def __init__(self, words: str, code: int | None = None) -> None:
        super().__init__(words)
        self.words = words
        self.code = code


class NoSuchJob(Exception):
    """History knows no such job (any more)."""


class HistoryRefused(Exception):
    """History cannot be had with this token or of this server; asking again is of no use."""


class HistoryFailed(Exception):
    """The server answered, but not with history; ask again later."""


class HistoryUnreachable(Exception):
    """The question or its answer was lost on the way; ask again."""


class Transport(Protocol):
    """An open connection. Each method but `close` raises `LineEnded` once it is over."""

    async def receive(self) -> str | bytes:
        """The next frame."""

    async def send(self, text: str) -> None:
        """Send a frame; may wait for as long as the line takes nothing."""

    async def close(self) -> None:
        """End it, within a second also when the peer is dead; never raises."""


class Network(Protocol):
    """The way to one server, as one user."""

    async def connect(self, *, after: int | None) -> Transport:
        """Open a connection in batches that resumes after this `seq`, None: from the beginning; raises `LineEnded`."""

    async def history(self, job_id: str, *, after: int, limit: int) -> list[ProgressUpdate]:
        """A page of a job's updates after this `seq`, oldest first.

        Raises `NoSuchJob`, `HistoryRefused`, `HistoryFailed`, `HistoryUnreachable`.
        """

    async def close(self) -> None:
        """Let go of what questions left open."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a dashboard is: host, with a port where it is not the usual one, and the path before `/api`."""

    host: str
    path: str = ""
    is_secure: bool = False

    @classmethod
    def parse(cls, text: str) -> tuple[Address, str]:
        """The dashboard's address in one of http, https, ws or wss, and the token in it ("": none).

        Raises `InvalidArgument` for what is none.
        """
        try:
            parts = urlsplit(text.strip())
            is_valid = parts.scheme in SECURE and parts.hostname and "@" not in parts.netloc and parts.port != 0
        except ValueError:
            is_valid = False
        if not is_valid:
            raise InvalidArgument("That is not the address of a dashboard; write one such as http://localhost:8000.")
        path = parts.path.rstrip("/").removesuffix(SOCKET_PATH)
        return cls(parts.netloc, path, SECURE[parts.scheme]), _token_in(parts)

    @property
    def name(self) -> str:
        """The host without its port."""
        return urlsplit(f"//{self.host}").hostname or ""

    @property
    def base(self) -> str:
        """As a browser opens it."""
        return urlunsplit(("https" if self.is_secure else "http", self.host, self.path, "", ""))

    @property
    def socket(self) -> str:
        """The progress socket."""
        return urlunsplit(("wss" if self.is_secure else "ws", self.host, self.path + SOCKET_PATH, "", ""))


class WebSocketTransport:
    """A `Line` over the real network."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def receive(self) -> bytes:
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as closed:
            _ended(closed)

    async def send(self, text: str) -> None:
        try:
            await self._socket.send(text)
        except ConnectionClosed as closed:
            _ended(closed)

    async def close(self) -> None:
        closing = asyncio.create_task(self._socket.close())
        try:
            await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
        finally:
            self._socket.transport.abort()  # a dead peer never answers
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)


class RealNetwork:
    """A `Network` over the real network; through the system's proxy, but to this machine directly."""

    def __init__(self, address: Address, token: str) -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._is_near = address.name in LOOPBACK
        self._http: httpx.AsyncClient | None = None

    async def connect(self, *, after: int | None) -> Transport:
        await self.close()  # questions of the connection before were cancelled: that can fill their pool for ever
        query = "format=batch" + (f"&after={after}" if after is not None else "")
        try:
            socket = await connect(
                f"{self._address.socket}?{query}",
                additional_headers=self._headers,
                proxy=None if self._is_near else True,
                compression=None,
                open_timeout=OPEN_SECONDS,
                close_timeout=CLOSE_SECONDS,
                ping_interval=None,
                max_size=MAX_FRAME_BYTES,
                logger=_quiet,
            )
        except InvalidStatus as refused:
            raise ConnectionLost(_refusal(refused)) from None
        except (OSError, EOFError, WebSocketException) as error:
            raise ConnectionLost(f"nothing answers at {self._address.base}: {error}") from None
        return WebSocketTransport(socket)

    async def history(self, job_id: str, *, after: int, limit: int) -> list[ProgressUpdate]:
        path = f"/api/jobs/{quote(job_id, safe='')}/progress-history"
        try:
            answer = await self._asked().get(path, params={"after": after, "limit": limit})
        except httpx.PoolTimeout:
            await self.close()
            raise HistoryUnreachable("no connection was free") from None
        except httpx.HTTPError as error:
            raise HistoryUnreachable(str(error) or type(error).__name__) from None
        return _page(answer)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
        self._http = None

    def _asked(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(
                base_url=self._address.base,
                headers=self._headers,
                timeout=httpx.Timeout(ANSWER_SECONDS, pool=POOL_SECONDS),
                limits=CONNECTIONS,
                trust_env=not self._is_near,
                verify=self._address.is_secure,  # without TLS there is nothing to verify, and nothing to load for it
            )
        return self._http


def _token_in(parts: SplitResult) -> str:
    return parse_qs(parts.query).get("token", [""])[0]


def _ended(closed: ConnectionClosed) -> NoReturn:
    code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (ABNORMAL, "")
    words = reason.strip()
    if code != POLICY:
        words = f"the server closed it with {code}{f': {words}' if words else ''}" if closed.rcvd else "it was cut"
    raise ConnectionLost(words, code) from None


def _refusal(refused: InvalidStatus) -> str:
    response = refused.response
    try:
        detail = f": {msgspec.json.decode(response.body or b'', type=dict[str, str])['detail']}"
    except (msgspec.DecodeError, KeyError):
        detail = ""
    return f"the server answered with HTTP {response.status_code}{detail}"


def _page(answer: httpx.Response) -> list[ProgressUpdate]:
    said = f"HTTP {answer.status_code}"
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise NoSuchJob
    if answer.is_client_error and answer.status_code not in PASSING:
        raise HistoryRefused(said)
    if answer.status_code != httpx.codes.OK:
        raise HistoryFailed(said)
    try:
        return _HISTORY.decode(answer.content)
    except msgspec.DecodeError as error:
        raise HistoryFailed(f"not history: {error}") from None


_HISTORY = msgspec.json.Decoder(list[ProgressUpdate])
