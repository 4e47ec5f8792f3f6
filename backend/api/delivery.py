"""How updates leave through the progress sockets: two ways, the same frames.

The plain way hands each frame to the framework, a task a socket. The direct way makes a view's bytes once and writes
them to the transport of each socket that keeps up, one task for all of them; a socket whose transport takes no more is
left alone until it has drained, and then goes on from its own position. It needs `DirectProtocol` below the framework;
without it the plain way serves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol
from weakref import WeakKeyDictionary

from fastapi import WebSocket
from websockets.frames import Frame, Opcode

from backend.hub import Reader, View

log = logging.getLogger(__name__)
STALLED_SECONDS = 15.0
AT_ONCE = 100  # sockets written to before others get a turn
OUTLET = "dashboard.outlet"


class Stalled(Exception):
    """The reader took nothing for 15 s."""


class Outlet(Protocol):
    """A socket's transport; `on_drained` is called when it takes bytes again."""

    stalled: asyncio.Event
    on_drained: Callable[[], None]

    @property
    def is_writable(self) -> bool:
        """Whether the socket is open and its buffer is below its mark."""

    def write(self, frames: bytes) -> None:
        """Send whole WebSocket frames."""

    def abort_soon(self) -> None:
        """Give up the connection in a second, if the peer has not ended it by then."""


def outlet_of(socket: WebSocket) -> Outlet | None:
    """The direct way out of this socket; None where there is only the plain one."""
    extension: dict[str, Outlet] = socket.scope.get("extensions", {}).get(OUTLET, {})
    return extension.get("outlet")


async def deliver_plainly(socket: WebSocket, reader: Reader, *, in_batches: bool) -> NoReturn:
    """Send what the reader gets; raises `Stalled`."""
    while True:
        view = await reader.next()
        for frame in _payloads(view, in_batches):
            try:
                async with asyncio.timeout(STALLED_SECONDS):
                    await socket.send_text(frame.decode())
            except TimeoutError:
                raise Stalled from None


class Pipe:
    """From a reader to an outlet, as much as it takes; never waits."""

    def __init__(self, reader: Reader, outlet: Outlet, wire: Callable[[View], bytes]) -> None:
        self.outlet = outlet
        self._reader = reader
        self._wire = wire

    def pump(self) -> None:
        while self.outlet.is_writable and (view := self._reader.take()) is not None:
            self.outlet.write(self._wire(view))


class Wire:
    """Views as the bytes of WebSocket frames in one format, made once for all sockets."""

    def __init__(self, *, in_batches: bool) -> None:
        self._in_batches = in_batches
        self._made: WeakKeyDictionary[View, bytes] = WeakKeyDictionary()

    def __call__(self, view: View) -> bytes:
        made = self._made.get(view)
        if made is None:
            payloads = _payloads(view, self._in_batches)
            made = b"".join(Frame(Opcode.TEXT, payload).serialize(mask=False) for payload in payloads)
            self._made[view] = made
        return made


class DirectDelivery:
    """All sockets that are served the direct way. `beyond(position)` returns the newest position once there is news."""

    def __init__(self, beyond: Callable[[int], Awaitable[int]]) -> None:
        self._beyond = beyond
        self._pipes: dict[Pipe, None] = {}
        self._wires = {in_batches: Wire(in_batches=in_batches) for in_batches in (False, True)}

    async def run(self) -> None:
        """Pass on what is published, until cancelled."""
        position = 0
        while True:
            position = await self._beyond(position)
            for number, pipe in enumerate(tuple(self._pipes), 1):
                self._pump(pipe)
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)

    async def deliver(self, outlet: Outlet, reader: Reader, *, in_batches: bool) -> NoReturn:
        """Send what the reader gets; raises `Stalled`."""
        pipe = Pipe(reader, outlet, self._wires[in_batches])
        self._pipes[pipe] = None
        outlet.on_drained = lambda: self._pump(pipe)
        try:
            self._pump(pipe)
            await outlet.stalled.wait()
            raise Stalled
        finally:
            self._pipes.pop(pipe, None)

    def _pump(self, pipe: Pipe) -> None:
        try:
            pipe.pump()
        except Exception:  # one socket's trouble is not that of the others
            log.exception("a progress socket could not be written to", extra={"action": "socket_broke"})
            self._pipes.pop(pipe, None)
            pipe.outlet.abort_soon()


def _payloads(view: View, in_batches: bool) -> tuple[bytes, ...]:
    return (view.batch_frame,) if in_batches else view.frames
