"""Uvicorn's WebSocket protocol with a direct way to its transport for whoever has ready-made frames.

It leans on the inside of `WebSocketsSansIOProtocol`; should a release of Uvicorn break that, `DIRECT_SENDING=false`
serves everything without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from backend.api.delivery import OUTLET, STALLED_SECONDS

ABORT_SECONDS = 1.0


class DirectProtocol(WebSocketsSansIOProtocol):
    """An `Outlet`, which the application finds in the scope's extensions.

    A peer counts as dead after a heartbeat timeout without any byte, not for a missing pong alone, and is then given up
    without waiting for what it never took.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stalled = asyncio.Event()
        self.on_drained: Callable[[], None] = _nothing
        self._is_full = False
        self._stall_timer: asyncio.TimerHandle | None = None
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

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_full = True
        self._stall_timer = self.loop.call_later(STALLED_SECONDS, self.stalled.set)

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

    def _let_off(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


def _nothing() -> None:
    """Nobody waits for the buffer to drain."""
