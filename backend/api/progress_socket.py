"""`GET /api/ws/progress`: the protocol of this folder's README, one reader a socket.

A handshake that is refused is accepted and closed with 1008, so that a browser can tell it from a lost network. The
cookie means nothing here: the token does.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from fastapi import APIRouter, WebSocket
from fastapi.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect

from backend.accounts.accounts import Accounts
from backend.api.rate_limit import RefusalLimiter
from backend.api.sending import DirectSender, Stalled, direct_transport, send_plainly
from backend.clock import Clock, repeat
from backend.domain.auth import Authority
from backend.errors import NotSignedIn
from backend.jobs.queries import JobQueries
from backend.settings import Settings
from progress_dashboard.tasks import first_completed

log = logging.getLogger(__name__)
POLICY, TOO_LARGE, TRY_LATER = 1008, 1009, 1013  # WebSocket close codes
MAX_FRAME_BYTES = 64 * 1024
CLOSE_SECONDS = 1.0
CHECK_SECONDS = 1.0


class CloseSocket(Exception):
    """Closes the socket with this code and reason; `is_fault` is True if the client is to blame."""

    def __init__(self, code: int, reason: str, *, is_fault: bool = True) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.is_fault = is_fault


@dataclass(eq=False)
class OpenSocket:
    """An open socket: its authority, and the means to end it from outside."""

    authority: Authority
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        """Close the socket, because its authority has ended."""
        self._ended.set()

    async def until_ended(self) -> None:
        """Raise `CloseSocket` once its authority has ended."""
        await self._ended.wait()
        raise CloseSocket(POLICY, "Your token has ended; get a new one.", is_fault=False)


class ProgressSockets:
    """All open sockets, with their limits. Closes those whose authority has ended."""

    def __init__(
        self, accounts: Accounts, queries: JobQueries, direct: DirectSender, settings: Settings, clock: Clock
    ) -> None:
        self._accounts = accounts
        self._queries = queries
        self._direct = direct
        self._settings = settings
        self._clock = clock
        self._refusals = RefusalLimiter(settings.max_refusals_per_minute, clock)
        self._open: set[OpenSocket] = set()
        self._addresses: Counter[str] = Counter()
        self._users: Counter[str] = Counter()

    @property
    def number(self) -> int:
        """How many sockets are open."""
        return len(self._open)

    async def serve(self, socket: WebSocket) -> None:
        """Serve a socket from handshake to end."""
        address = socket.client.host if socket.client else ""
        is_full = self._addresses[address] >= self._settings.max_connections_per_address
        if is_full or self._refusals.is_blocked(address):
            detail = "Too many connections from this address; wait a minute and try again."
            await socket.send_denial_response(JSONResponse({"detail": detail}, 429, {"Retry-After": "60"}))
            return
        await socket.accept(_subprotocol(socket))
        try:
            async with self._admitted(socket, address) as opened:
                await self._exchange(socket, opened)
        except CloseSocket as closing:
            if closing.code == POLICY and closing.is_fault:
                self._refusals.count(address)
            await _close(socket, closing)

    async def run_once(self) -> None:
        """End the sockets whose token has ended or whose user was disabled or has another role."""
        checked = tuple(self._open)  # a socket that is admitted meanwhile has just been checked
        if not checked:
            return
        valid = await self._accounts.still_valid([opened.authority for opened in checked])
        for opened in checked:
            if opened.authority.key not in valid:
                opened.end()

    async def run(self) -> None:
        """Check every second, until cancelled."""
        await repeat(self.run_once, every=CHECK_SECONDS, clock=self._clock, what="socket check")

    @asynccontextmanager
    async def _admitted(self, socket: WebSocket, address: str) -> AsyncIterator[OpenSocket]:
        try:
            authority = await self._accounts.token(_token(socket))
        except NotSignedIn as error:
            raise CloseSocket(POLICY, error.sentence) from None
        user_id = authority.user.id
        if self._users[user_id] >= self._settings.max_connections_per_user:
            raise CloseSocket(TRY_LATER, "Too many connections of this user; close some and try again.")
        opened = OpenSocket(authority)
        self._open.add(opened)
        self._addresses[address] += 1
        self._users[user_id] += 1
        try:
            yield opened
        finally:
            self._open.discard(opened)
            _subtract_one(self._addresses, address)
            _subtract_one(self._users, user_id)

    async def _exchange(self, socket: WebSocket, opened: OpenSocket) -> None:
        try:
            await first_completed(opened.until_ended(), self._send(socket, opened), self._receive(socket))
        except WebSocketDisconnect:
            return

    async def _send(self, socket: WebSocket, opened: OpenSocket) -> None:
        reader = self._queries.watch(by=opened.authority.user, after=_position(socket))
        in_batches = socket.query_params.get("format") == "batch"
        transport = direct_transport(socket)
        try:
            if transport is None:
                await send_plainly(socket, reader, in_batches=in_batches)
            else:
                await self._direct.send(transport, reader, in_batches=in_batches)
        except Stalled:
            raise CloseSocket(TRY_LATER, "You read too slowly; connect again to resume.") from None

    async def _receive(self, socket: WebSocket) -> None:
        second, frames = 0.0, 0
        while True:
            text = await _frame(socket)
            now = self._clock.monotonic()
            second, frames = (now, 1) if now - second >= 1 else (second, frames + 1)
            if frames > self._settings.max_client_frames_per_second:
                raise CloseSocket(POLICY, "Too many messages; send a ping every 25 seconds.")
            answer = _answer(text)
            if answer:
                await socket.send_text(answer)


def router_of(sockets: ProgressSockets) -> APIRouter:
    """Return the route of the socket."""
    router = APIRouter()
    router.add_api_websocket_route("/api/ws/progress", sockets.serve)
    return router


class ClientMessage(msgspec.Struct):
    """What a client may say as JSON."""

    type: str = ""


def _answer(text: str) -> str:
    if text == "ping":
        return "pong"
    try:
        is_ping = msgspec.json.decode(text, type=ClientMessage).type == "ping"
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return ""  # other frames are ignored
    return '{"type": "pong"}' if is_ping else ""


def _token(socket: WebSocket) -> str:
    scheme, _, bearer = socket.headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else socket.query_params.get("token", "")


def _subprotocol(socket: WebSocket) -> str | None:
    """Return the first subprotocol that the client asks for: a browser fails the connection unless one is named."""
    return next(filter(None, socket.scope.get("subprotocols", ())), None)


def _position(socket: WebSocket) -> int | None:
    after = socket.query_params.get("after", "")
    return int(after) if after.isascii() and after.isdigit() and len(after) < 20 else None


async def _frame(socket: WebSocket) -> str:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or 1005)
    text: str = message.get("text") or ""
    if len(message.get("bytes") or text.encode()) > MAX_FRAME_BYTES:
        raise CloseSocket(TOO_LARGE, "A message may have at most 64 KiB.")
    return text.strip()


async def _close(socket: WebSocket, closing: CloseSocket) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await socket.close(closing.code, closing.reason[:120])
    except (RuntimeError, TimeoutError):
        log.debug("the peer had gone before the close frame", extra={"action": "socket_close", "code": closing.code})
    if transport := direct_transport(socket):
        transport.abort_soon()


def _subtract_one(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
