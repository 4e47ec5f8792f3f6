"""Sockets without logic: the connection to a server's progress socket, and requests to its history.

The token is sent in a header only, because addresses end up in logs and in the texts of errors.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn, Protocol
from urllib.parse import quote

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from .address import Address
from .policy import POLICY_VIOLATION
from .protocol import ProgressUpdate
from .proxies import Proxy

OPEN_TIMEOUT_SECONDS = 10.0
ANSWER_TIMEOUT_SECONDS = 15.0
POOL_TIMEOUT_SECONDS = 1.0  # fewer requests are made at once than there are connections, so none ever waits for one
CLOSE_TIMEOUT_SECONDS = 1.0
MAX_FRAME_BYTES = 16 * 2**20
ABNORMAL_CLOSURE = 1006  # the WebSocket close code of a connection that ended without a close
RETRYABLE_STATUSES = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY, httpx.codes.TOO_MANY_REQUESTS)
HTTP_LIMITS = httpx.Limits(max_connections=8, max_keepalive_connections=2)

# At DEBUG the library logs the headers, and the token with them.
_socket_log = logging.getLogger(f"{__name__}.socket")
_socket_log.setLevel(logging.INFO)


class ConnectionLost(Exception):
    """The connection ended, or none could be opened."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        # Why, as a part of a sentence; for a refused token the server's own sentence.
        self.reason = reason
        # WebSocket close code, 1006 after an end without a close; None when the server did not end a connection.
        self.code = code


class NoSuchJob(Exception):
    """The history has no such job; it may have been deleted."""


class HistoryRefused(Exception):
    """The server refuses its history to this token; a second request would not help."""


class HistoryFailed(Exception):
    """The server answered, but not with history; a later request may succeed."""


class HistoryUnreachable(Exception):
    """The request or its answer was lost on the way; a second request may succeed."""


class Transport(Protocol):
    """An open connection. Each method but `close` raises `ConnectionLost` once the connection has ended."""

    async def receive(self) -> str | bytes:
        """Return the next frame."""

    async def send(self, text: str) -> None:
        """Send a frame; may wait for as long as the peer reads nothing."""

    async def close(self) -> None:
        """Close the connection within a second, also when the peer is dead; never raises."""


class Network(Protocol):
    """The access to one server as one user."""

    async def connect(self, *, after: int | None) -> Transport:
        """Open a connection of the batch format that resumes after this `seq`; None: with a snapshot.

        Raises `ConnectionLost`.
        """

    async def history(self, job_id: str, *, after: int, limit: int) -> list[ProgressUpdate]:
        """Return a page of a job's updates after this `seq`, oldest first.

        Raises `NoSuchJob`, `HistoryRefused`, `HistoryFailed`, `HistoryUnreachable`.
        """

    async def close(self) -> None:
        """Close the connections that history requests left open."""


class WebSocketTransport:
    """A `Transport` over a WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def receive(self) -> bytes:
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as closed:
            _raise_connection_lost(closed)

    async def send(self, text: str) -> None:
        try:
            await self._socket.send(text)
        except ConnectionClosed as closed:
            _raise_connection_lost(closed)

    async def close(self) -> None:
        closing = asyncio.create_task(self._socket.close())
        try:
            await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_SECONDS)
        finally:
            self._socket.transport.abort()  # a dead peer never answers
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)


class RealNetwork:
    """A `Network` over real sockets, through this proxy or directly (None)."""

    def __init__(self, address: Address, token: str, proxy: Proxy | None = None) -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._proxy = proxy
        self._http: httpx.AsyncClient | None = None

    async def connect(self, *, after: int | None) -> Transport:
        await self.close()  # requests of the last connection were cancelled, which can fill their pool for good
        query = "format=batch" + (f"&after={after}" if after is not None else "")
        try:
            socket = await connect(
                f"{self._address.socket}?{query}",
                additional_headers=self._headers,
                proxy=self._proxy.url if self._proxy else None,
                compression=None,
                open_timeout=OPEN_TIMEOUT_SECONDS,
                close_timeout=CLOSE_TIMEOUT_SECONDS,
                ping_interval=None,
                max_size=MAX_FRAME_BYTES,
                logger=_socket_log,
            )
        except InvalidStatus as refused:
            raise ConnectionLost(_refusal(refused)) from None
        except (OSError, EOFError, WebSocketException) as error:
            where = f"{self._address.base}{f' through the proxy {self._proxy.shown}' if self._proxy else ''}"
            raise ConnectionLost(f"nothing answers at {where}: {error or type(error).__name__}") from None
        return WebSocketTransport(socket)

    async def history(self, job_id: str, *, after: int, limit: int) -> list[ProgressUpdate]:
        path = f"/api/jobs/{quote(job_id, safe='')}/progress-history"
        try:
            answer = await self._client().get(path, params={"after": after, "limit": limit})
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

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(
                base_url=self._address.base,
                headers=self._headers,
                timeout=httpx.Timeout(ANSWER_TIMEOUT_SECONDS, pool=POOL_TIMEOUT_SECONDS),
                transport=httpx.AsyncHTTPTransport(  # a client of its own would look for another proxy
                    proxy=self._proxy.url if self._proxy else None,
                    limits=HTTP_LIMITS,
                    verify=self._address.is_secure,  # without TLS there is nothing to verify, and nothing to load
                ),
            )
        return self._http


def _raise_connection_lost(closed: ConnectionClosed) -> NoReturn:
    code, reason = (closed.rcvd.code, closed.rcvd.reason.strip()) if closed.rcvd else (ABNORMAL_CLOSURE, "")
    if closed.rcvd is None:
        reason = "it was cut"
    elif code != POLICY_VIOLATION:
        reason = f"the server closed it with {code}{f': {reason}' if reason else ''}"
    raise ConnectionLost(reason, code) from None


def _refusal(refused: InvalidStatus) -> str:
    response = refused.response
    try:
        detail = f": {msgspec.json.decode(response.body or b'', type=dict[str, str])['detail']}"
    except (msgspec.DecodeError, KeyError):
        detail = ""
    return f"the server answered with HTTP {response.status_code}{detail}"


def _page(answer: httpx.Response) -> list[ProgressUpdate]:
    status = f"HTTP {answer.status_code}"
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise NoSuchJob
    if answer.is_client_error and answer.status_code not in RETRYABLE_STATUSES:
        raise HistoryRefused(status)
    if answer.status_code != httpx.codes.OK:
        raise HistoryFailed(status)
    try:
        return _HISTORY.decode(answer.content)
    except msgspec.DecodeError as error:
        raise HistoryFailed(f"not history: {error}") from None


_HISTORY = msgspec.json.Decoder(list[ProgressUpdate])
