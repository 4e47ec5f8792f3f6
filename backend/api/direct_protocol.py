"""Uvicorn's WebSocket protocol with a direct way to its transport for whoever has ready-made frames.

It also closes gaps: a handshake that cannot be parsed is answered, and no frame of any kind comes without limit. It
leans on the inside of `WebSocketsSansIOProtocol`; should a release of Uvicorn break that, `DIRECT_SENDING=false` serves
everything without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from backend.api.delivery import OUTLET, STALLED_SECONDS

ABORT_SECONDS = 1.0
MAX_SMALL_FRAMES_PER_SECOND = 100  # pings, pongs and continuations, which the application never sees
CANNOT_READ = b'{"detail":"The address or a header is too long; send the token as an Authorization header."}'
BAD_HANDSHAKE = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    % (len(CANNOT_READ), CANNOT_READ)
)


class DirectProtocol(WebSocketsSansIOProtocol):
    """An `Outlet`, which the application finds in the scope's extensions.

    A peer counts as dead after a heartbeat timeout without any byte, not for a missing pong alone, and is then given up
    without waiting for what it never took. A reader is stalled when it took nothing for 15 s, however slow it is.
    """

    stalled_seconds = STALLED_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stalled = asyncio.Event()
        self.on_drained: Callable[[], None] = _nothing
        self._is_full = False
        self._stall_timer: asyncio.TimerHandle | None = None
        self._second, self._small_frames = 0.0, 0
        self._heard_at = self.loop.time()

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
        extensions[OUTLET] = {"outlet": self}
        await super().run_asgi()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self.initial_response and self.close_sent:
            self.handshake_complete = True  # it was answered by a refusal: nothing for Uvicorn to complain of

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(BAD_HANDSHAKE)
            self.transport.close()

    def handle_ping(self) -> None:
        if self._too_many():
            return
        if self._is_full:
            self.conn.data_to_send()  # the pong: a peer that reads nothing is not owed one
        else:
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if not self._too_many():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        if not self._too_many():
            super().handle_cont(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_full = True
        self._watch_for_stall()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_full = False
        self._let_off()
        self.on_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_off()
        self.on_drained = _nothing
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        patience = (self.ping_interval or 0) + (self.ping_timeout or 0) - (self.loop.time() - self._heard_at)
        if patience > 0:
            self.pong_timer = self.loop.call_later(patience, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        self.abort_soon()

    def _watch_for_stall(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._stall_timer = self.loop.call_later(self.stalled_seconds, self._look_for_stall, left)

    def _look_for_stall(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._watch_for_stall()
        else:
            self.stalled.set()

    def _too_many(self) -> bool:
        """Count a frame; more than are good for anything close the connection."""
        now = self.loop.time()
        if now - self._second >= 1:
            self._second, self._small_frames = now, 0
        self._small_frames += 1
        if self._small_frames > MAX_SMALL_FRAMES_PER_SECOND and not self.close_sent:
            self.conn.send_close(1008, "Too many frames; send a ping every 25 seconds.")
            self.handle_parser_exception()
            self.abort_soon()
        return self.close_sent

    def _let_off(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


def _nothing() -> None:
    """Nobody waits for the buffer to drain."""
