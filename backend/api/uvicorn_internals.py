"""All that leans on the inside of Uvicorn: its protocols for HTTP and WebSockets, and the server.

Uvicorn is pinned to one minor version. At the start the members used here are checked; if one is missing, Uvicorn's own
protocol serves, with one warning: WebSockets through the plain way of `sending`, HTTP without limits of time.
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
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from backend.api.acceptor import Acceptor
from backend.api.joined_writes import JoinedWrites
from backend.api.sending import STALLED_SECONDS, TRANSPORT_EXTENSION
from backend.clock import SystemClock
from backend.descriptors import UNLIMITED, Descriptors

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

log = logging.getLogger(__name__)
PLAIN_PROTOCOL = "websockets-sansio"
PLAIN_HTTP_PROTOCOL = "auto"
REQUEST_SECONDS = 10.0  # without progress of a request that is not complete
LATE = b'{"detail":"The request did not arrive within 10 seconds; send it again."}'
TOO_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(LATE), LATE)
)
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
HTTP_METHODS = frozenset(
    (
        *("connection_made", "connection_lost", "handle_websocket_upgrade", "on_message_begin", "on_headers_complete"),
        *("on_body", "on_message_complete", "on_response_complete"),
    )
)
HTTP_ATTRIBUTES = frozenset(("loop", "transport", "flow", "cycle", "read_paused", "response_started"))


class LimitedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol for HTTP, with limits of time and without a second write for a small answer.

    A connection ends when its request makes no progress for 10 s before it is complete: its header, from the first byte
    (or from the connection) on, or its body, from one part to the next. It may rest between requests, as in Uvicorn.
    """

    request_seconds = REQUEST_SECONDS
    _due: float | None = None  # when the request, or its next part, must be here
    _timer: asyncio.TimerHandle | None = None
    _is_head_awaited = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(JoinedWrites(transport, self.loop))
        self._due = self.loop.time() + self.request_seconds
        self._timer = self.loop.call_at(self._due, self._check_progress)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._stop_timer()
        if isinstance(self.transport, JoinedWrites):
            self.transport = self.transport.inner
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        self._due, self._is_head_awaited = self.loop.time() + self.request_seconds, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._due, self._is_head_awaited = self.loop.time() + self.request_seconds, False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._due = self.loop.time() + self.request_seconds
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._due = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if isinstance(self.transport, JoinedWrites):
            self.transport.flush()
        super().on_response_complete()

    def _check_progress(self) -> None:
        now = self.loop.time()
        if self._due is not None and self._due <= now and not self.flow.read_paused:
            self._end_late_request()
            return
        wait_until = self._due if self._due is not None and self._due > now else now + self.request_seconds
        self._timer = self.loop.call_at(wait_until, self._check_progress)

    def _end_late_request(self) -> None:
        if self._is_head_awaited or (self.cycle is not None and not self.cycle.response_started):
            self.transport.write(TOO_LATE)
        self.transport.close()
        self.loop.call_later(ABORT_SECONDS, self.transport.abort)  # it may not read either

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


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
    It accepts connections itself, and leaves the reserve of the descriptors alone.
    """

    def __init__(self, config: uvicorn.Config, descriptors: Descriptors = UNLIMITED) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._descriptors = descriptors
        self._accepting: list[asyncio.Task[None]] = []

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=None if sockets is None else [])
        for listener in sockets or ():
            acceptor = Acceptor(listener, self._connect, self._descriptors, SystemClock())
            self._accepting.append(asyncio.create_task(acceptor.run(), name="acceptor"))
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.collect()
        gc.freeze()  # what was loaded stays: collecting it again and again held the event loop up for 100 ms
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        await super().shutdown(sockets)

    async def _connect(self, connection: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        """Return a protocol for one connection, as Uvicorn's own `startup` makes them."""
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def http_protocol(base: type = HttpToolsProtocol) -> type[Any] | str:
    """Return the protocol to give to Uvicorn as `http`. `base` is Uvicorn's, whose members are checked."""
    used = set[str]().union(*map(_attributes, (base, FlowControl, RequestResponseCycle)))
    missing = (HTTP_METHODS - set(dir(base))) | (HTTP_ATTRIBUTES - used)
    if missing:
        sentence = "this Uvicorn lacks %s; requests that stop halfway are not ended"
        log.warning(sentence, ", ".join(sorted(missing)), extra={"action": "request_limits_off"})
        return PLAIN_HTTP_PROTOCOL
    return LimitedProtocol


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
