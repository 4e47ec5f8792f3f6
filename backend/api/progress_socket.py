"""`GET /api/ws/progress`: the protocol of the README, one reader a socket.

A handshake that may not be is accepted and closed with 1008, so that a browser can tell it from a lost network. The
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

from backend.accounts import Accounts
from backend.api.delivery import DirectDelivery, Stalled, deliver_plainly, outlet_of
from backend.auth import Authority, network_of
from backend.clock import Clock, repeat
from backend.errors import NotSignedIn
from backend.manager import JobManager
from backend.settings import Settings

log = logging.getLogger(__name__)
POLICY, TOO_LARGE, TRY_LATER = 1008, 1009, 1013
MAX_FRAME_BYTES = 64 * 1024
CLOSE_SECONDS = 1.0
WATCH_SECONDS = 1.0
REFUSAL_WINDOW_SECONDS = 60.0
REMEMBERED_ADDRESSES = 10_000


@dataclass(frozen=True)
class _Refusals:
    since: float
    count: int


class Refusals:
    """How often sockets from an address were refused; `MAX_REFUSALS_PER_MINUTE` block it until the minute is over.

    A minute begins at the first refusal; IPv6 counts by /64. Remembers the newest 10,000.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._limit = settings.max_refusals_per_minute
        self._clock = clock
        self._of: dict[str, _Refusals] = {}

    def note(self, address: str) -> None:
        """A socket from there was stopped."""
        now, place = self._clock.monotonic(), network_of(address, ipv4_bits=32)
        minute = self._minute(place) or _Refusals(now, 0)
        self._of.pop(place, None)
        self._of[place] = _Refusals(minute.since, minute.count + 1)
        if len(self._of) > REMEMBERED_ADDRESSES:
            del self._of[next(iter(self._of))]

    def blocked(self, address: str) -> bool:
        """Whether a socket from there is not even looked at."""
        minute = self._minute(network_of(address, ipv4_bits=32))
        return minute is not None and minute.count >= self._limit

    def _minute(self, place: str) -> _Refusals | None:
        minute = self._of.get(place)
        if minute is None or self._clock.monotonic() - minute.since >= REFUSAL_WINDOW_SECONDS:
            return None
        return minute


class Refused(Exception):
    """Close the socket with this code and reason; `is_fault`: the client is to blame."""

    def __init__(self, code: int, reason: str, *, is_fault: bool = True) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.is_fault = is_fault


@dataclass(eq=False)
class Connection:
    """An open socket: whose it is, and the means to end it from outside."""

    authority: Authority
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        """Close it: its authority is gone."""
        self._ended.set()

    async def until_ended(self) -> None:
        """Raises `Refused` once its authority is gone."""
        await self._ended.wait()
        raise Refused(POLICY, "Your token has ended; get a new one.", is_fault=False)


class ProgressSockets:
    """All open sockets, with their limits; ends those whose authority ran out or was taken away."""

    def __init__(
        self, accounts: Accounts, manager: JobManager, direct: DirectDelivery, settings: Settings, clock: Clock
    ) -> None:
        self._accounts = accounts
        self._manager = manager
        self._direct = direct
        self._settings = settings
        self._clock = clock
        self._refusals = Refusals(settings, clock)
        self._open: set[Connection] = set()
        self._addresses: Counter[str] = Counter()
        self._users: Counter[str] = Counter()

    async def serve(self, socket: WebSocket) -> None:
        """A socket from handshake to end."""
        address = socket.client.host if socket.client else ""
        if self._refusals.blocked(address) or self._addresses[address] >= self._settings.max_connections_per_address:
            detail = "Too many connections from this address; wait a minute and try again."
            await socket.send_denial_response(JSONResponse({"detail": detail}, 429, {"Retry-After": "60"}))
            return
        await socket.accept()
        try:
            async with self._admitted(socket, address) as connection:
                await self._talk(socket, connection)
        except Refused as refused:
            if refused.code == POLICY and refused.is_fault:
                self._refusals.note(address)
            await _close(socket, refused)

    async def run_once(self) -> None:
        """End the sockets whose token ran out or whose user may no longer."""
        looked_at = tuple(self._open)  # one that is admitted meanwhile has just been looked at
        if not looked_at:
            return
        valid = await self._accounts.still_valid([connection.authority for connection in looked_at])
        for connection in looked_at:
            if connection.authority.key not in valid:
                connection.end()

    async def run(self) -> None:
        """Look every second, until cancelled."""
        await repeat(self.run_once, every=WATCH_SECONDS, clock=self._clock, what="socket watch")

    @asynccontextmanager
    async def _admitted(self, socket: WebSocket, address: str) -> AsyncIterator[Connection]:
        try:
            authority = await self._accounts.token(_token(socket))
        except NotSignedIn as error:
            raise Refused(POLICY, error.sentence) from None
        user_id = authority.user.id
        if self._users[user_id] >= self._settings.max_connections_per_user:
            raise Refused(TRY_LATER, "Too many connections of this user; close some and try again.")
        connection = Connection(authority)
        self._open.add(connection)
        self._addresses[address] += 1
        self._users[user_id] += 1
        try:
            yield connection
        finally:
            self._open.discard(connection)
            _take_one(self._addresses, address)
            _take_one(self._users, user_id)

    async def _talk(self, socket: WebSocket, connection: Connection) -> None:
        tasks = [
            asyncio.create_task(self._send(socket, connection), name="socket send"),
            asyncio.create_task(self._receive(socket), name="socket receive"),
            asyncio.create_task(connection.until_ended(), name="socket end"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            error = task.exception()
            if error is not None and not isinstance(error, WebSocketDisconnect):
                raise error

    async def _send(self, socket: WebSocket, connection: Connection) -> None:
        reader = self._manager.watch(by=connection.authority.user, after=_position(socket))
        in_batches = socket.query_params.get("format") == "batch"
        outlet = outlet_of(socket)
        try:
            if outlet is None:
                await deliver_plainly(socket, reader, in_batches=in_batches)
            else:
                await self._direct.deliver(outlet, reader, in_batches=in_batches)
        except Stalled:
            raise Refused(TRY_LATER, "You read too slowly; connect again to resume.") from None

    async def _receive(self, socket: WebSocket) -> None:
        second, frames = 0.0, 0
        while True:
            text = await _frame(socket)
            now = self._clock.monotonic()
            second, frames = (now, 1) if now - second >= 1 else (second, frames + 1)
            if frames > self._settings.max_client_frames_per_second:
                raise Refused(POLICY, "Too many messages; send a ping every 25 seconds.")
            answer = _answer(text)
            if answer:
                await socket.send_text(answer)


def router_of(sockets: ProgressSockets) -> APIRouter:
    """The route of the socket."""
    router = APIRouter()
    router.add_api_websocket_route("/api/ws/progress", sockets.serve)
    return router


class Message(msgspec.Struct):
    """What a client may say as JSON."""

    type: str = ""


def _answer(text: str) -> str:
    if text == "ping":
        return "pong"
    try:
        asks = msgspec.json.decode(text, type=Message).type == "ping"
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return ""  # other frames are ignored
    return '{"type": "pong"}' if asks else ""


def _token(socket: WebSocket) -> str:
    scheme, _, bearer = socket.headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else socket.query_params.get("token", "")


def _position(socket: WebSocket) -> int | None:
    after = socket.query_params.get("after", "")
    return int(after) if after.isascii() and after.isdigit() and len(after) < 20 else None


async def _frame(socket: WebSocket) -> str:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or 1005)
    text: str = message.get("text") or ""
    if len(message.get("bytes") or text.encode()) > MAX_FRAME_BYTES:
        raise Refused(TOO_LARGE, "A message may have at most 64 KiB.")
    return text.strip()


async def _close(socket: WebSocket, refused: Refused) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await socket.close(refused.code, refused.reason[:120])
    except (RuntimeError, TimeoutError):
        log.debug("the peer was gone before it was told why", extra={"action": "socket_close", "code": refused.code})
    if outlet := outlet_of(socket):
        outlet.abort_soon()


def _take_one(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
