"""All that leans on the inside of Uvicorn: the WebSocket protocol with a direct way to its transport, and the server.

Uvicorn is pinned to one minor version. At the start the members used here are checked; if one is missing, Uvicorn's own
protocol serves, through the plain way of `sending`, with one warning.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from backend.api.sending import STALLED_SECONDS, TRANSPORT_EXTENSION

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

log = logging.getLogger(__name__)
PLAIN_PROTOCOL = "websockets-sansio"
ABORT_SECONDS = 1.0
MAX_SMALL_FRAMES_PER_SECOND = 100  # pings, pongs and continuations, which the application never sees
SWITCH_SECONDS = 0.001  # of a thread with the interpreter: neither the event loop nor a commit waits long for the other
CANNOT_READ = b'{"detail":"The address or a header is too long; send the token as an Authorization header."}'
BAD_HANDSHAKE = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    % (len(CANNOT_READ), CANNOT_READ)
)
PROTOCOL_METHODS = frozenset(
    (
        *("run_asgi", "send", "data_received", "handle_ping", "handle_pong", "handle_cont", "handle_parser_exception"),
        *("pause_writing", "resume_writing", "connection_lost", "keepalive_timeout"),
    )
)
PROTOCOL_ATTRIBUTES = frozenset(
    (
        *("loop", "transport", "conn", "scope", "initial_response", "handshake_initiated", "handshake_complete"),
        *("close_sent", "ping_interval", "ping_timeout", "pong_timer"),
    )
)


class DirectProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's protocol as a `DirectTransport`, which the application finds in the scope's extensions.

    A peer counts as dead after a heartbeat timeout without any byte, not for a missing pong alone, and is then aborted
    without waiting for what it never took. A reader is stalled when it took nothing for 15 s, however slow it is. A
    handshake that cannot be parsed is answered, and no frame of any kind comes without limit.
    """

    stalled_seconds = STALLED_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stalled = asyncio.Event()
        self.on_drained: Callable[[], None] = _nothing
        self._is_full = False
        self._stall_timer: asyncio.TimerHandle | None = None
        self._second, self._small_frames = 0.0, 0
        self._last_received = self.loop.time()

    @property
    def is_writable(self) -> bool:
        return not (self._is_full or self.close_sent or self.transport.is_closing())

    def offer(self, frames: bytes) -> bool:
        if self._is_full or self.close_sent or self.transport.is_closing():  # not by the property: this runs hot
            return False
        self.transport.write(frames)
        return True

    def abort_soon(self) -> None:
        self.loop.call_later(ABORT_SECONDS, self.transport.abort)

    async def run_asgi(self) -> None:
        extensions: dict[str, dict[Any, Any]] = self.scope["extensions"]
        extensions[TRANSPORT_EXTENSION] = {"transport": self}
        await super().run_asgi()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self.initial_response and self.close_sent:
            self.handshake_complete = True  # the refusal was the answer: Uvicorn has nothing to complain of

    def data_received(self, data: bytes) -> None:
        self._last_received = self.loop.time()
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(BAD_HANDSHAKE)
            self.transport.close()

    def handle_ping(self) -> None:
        if self._has_too_many_frames():
            return
        if self._is_full:
            self.conn.data_to_send()  # drops the pong: a peer that reads nothing is not owed one
        else:
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if not self._has_too_many_frames():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        if not self._has_too_many_frames():
            super().handle_cont(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_full = True
        self._watch_for_stall()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_full = False
        self._stop_watching()
        self.on_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        self.on_drained = _nothing
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        left = (self.ping_interval or 0) + (self.ping_timeout or 0) - (self.loop.time() - self._last_received)
        if left > 0:
            self.pong_timer = self.loop.call_later(left, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        self.abort_soon()

    def _watch_for_stall(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._stall_timer = self.loop.call_later(self.stalled_seconds, self._check_stall, left)

    def _check_stall(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._watch_for_stall()
        else:
            self.stalled.set()

    def _stop_watching(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _has_too_many_frames(self) -> bool:
        """Count a small frame; more of them than are good for anything close the connection."""
        now = self.loop.time()
        if now - self._second >= 1:
            self._second, self._small_frames = now, 0
        self._small_frames += 1
        if self._small_frames > MAX_SMALL_FRAMES_PER_SECOND and not self.close_sent:
            self.conn.send_close(1008, "Too many frames; send a ping every 25 seconds.")
            self.handle_parser_exception()
            self.abort_soon()
        return self.close_sent


class Server(uvicorn.Server):
    """Uvicorn without signal handlers of its own: the program stops in its own order, and without a traceback.

    From its start on the process belongs to it: threads take short turns, and what is loaded counts as permanent.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.collect()
        gc.freeze()  # what was loaded stays: collecting it again and again held the event loop up for 100 ms
        self.ready.set()


def websocket_protocol(*, direct: bool, base: type = WebSocketsSansIOProtocol) -> type[Any] | str:
    """Return the protocol to give to Uvicorn as `ws`: the direct one, unless it is switched off or cannot work.

    `base` is Uvicorn's protocol, whose members are checked.
    """
    if not direct:
        return PLAIN_PROTOCOL
    missing = (PROTOCOL_METHODS - set(dir(base))) | (PROTOCOL_ATTRIBUTES - _attributes(base))
    if missing:
        sentence = "this Uvicorn lacks %s; progress frames take the plain way, which is slower"
        log.warning(sentence, ", ".join(sorted(missing)), extra={"action": "direct_sending_off"})
        return PLAIN_PROTOCOL
    return DirectProtocol


def _attributes(protocol: type) -> set[str]:
    """Return the names that the methods of the class use: its attributes exist only once it has a connection."""
    functions = [function for _, function in inspect.getmembers(protocol, inspect.isfunction)]
    return set[str]().union(*(function.__code__.co_names for function in functions))


def _nothing() -> None:
    """Do nothing: nobody waits for the buffer to drain."""
