"""How updates leave through the progress sockets: two ways, the same frames.

The plain way hands each frame to the framework, a task a socket. The direct way makes a view's bytes once and writes
them to the transport of each socket that keeps up, one task for all of them; a socket whose transport takes no more
is left alone until it has drained, and then goes on from its own position. It needs `DirectProtocol` below the
framework; without it the plain way serves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NoReturn, Protocol
from weakref import WeakKeyDictionary

from fastapi import WebSocket
from websockets.frames import Frame, Opcode

from backend.hub import Reader, View

log = logging.getLogger(__name__)
STALLED_SECONDS = 15.0
PLAIN_STALLED_SECONDS = 60.0  # longer: the framework does not tell a slow reader from one that takes nothing
AT_ONCE = 100  # sockets written to before others get a turn
OUTLET = "dashboard.outlet"


class Stalled(Exception):
    """The reader took nothing for 15 s (the plain way: did not take one frame in 60 s)."""


class Outlet(Protocol):
    """A socket's transport; `on_drained` is called when it takes bytes again."""

    stalled: asyncio.Event
    on_drained: Callable[[], None]

    def offer(self, frames: bytes) -> bool:
        """Send whole WebSocket frames; False, and nothing sent, when the socket is closed or its buffer is full."""

    @property
    def is_writable(self) -> bool:
        """Whether an offer would be taken."""

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
                async with asyncio.timeout(PLAIN_STALLED_SECONDS):
                    await socket.send_text(frame.decode())
            except TimeoutError:
                raise Stalled from None


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


@dataclass(eq=False)
class Pipe:
    """From a reader to an outlet."""

    reader: Reader
    outlet: Outlet
    wire: Wire

    def pump(self) -> None:
        """As much as the outlet takes now."""
        while self.outlet.is_writable and (view := self.reader.take()) is not None:
            self.outlet.offer(self.wire(view))


@dataclass(eq=False)
class Room:
    """Pipes that are level with each other: one reader for all of them, and the same bytes."""

    reader: Reader
    wire: Wire
    pipes: dict[Pipe, None] = field(default_factory=dict)

    async def flush(self, fall_out: Callable[[Pipe, Reader], None]) -> None:
        """Give what is new to each pipe; one that takes nothing falls out with a reader at its own position."""
        before = self.reader.fork()
        while (view := self.reader.take()) is not None:
            frames = self.wire(view)
            for number, pipe in enumerate(tuple(self.pipes) if frames else (), 1):
                if not _offered(pipe, frames) and pipe in self.pipes:
                    del self.pipes[pipe]
                    fall_out(pipe, before.fork())
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
            before = self.reader.fork()


class DirectDelivery:
    """All sockets that are served the direct way. `beyond(position)` returns the newest position once there is news.

    Those in step with each other share a room; stragglers go on by themselves until they are level with it again.
    """

    def __init__(self, beyond: Callable[[int], Awaitable[int]]) -> None:
        self._beyond = beyond
        self._stragglers: dict[Pipe, None] = {}
        self._rooms: dict[tuple[str | None, Wire], Room] = {}
        self._wires = {in_batches: Wire(in_batches=in_batches) for in_batches in (False, True)}

    async def run(self) -> None:
        """Pass on what is published, until cancelled."""
        position = 0
        while True:
            position = await self._beyond(position)
            for room in tuple(self._rooms.values()):
                await self._flush(room)
            for pipe in tuple(self._stragglers):
                self._catch_up(pipe)

    async def _flush(self, room: Room) -> None:
        try:
            await room.flush(self._fall_out)
        except Exception:  # its sockets come back and resume; those of the other rooms go on
            for pipe in tuple(room.pipes):
                _give_up(pipe)
                self._forget(pipe)

    async def deliver(self, outlet: Outlet, reader: Reader, *, in_batches: bool) -> NoReturn:
        """Send what the reader gets; raises `Stalled`."""
        pipe = Pipe(reader, outlet, self._wires[in_batches])
        self._stragglers[pipe] = None
        outlet.on_drained = lambda: self._catch_up(pipe)
        try:
            self._catch_up(pipe)
            await outlet.stalled.wait()
            raise Stalled
        finally:
            self._forget(pipe)

    def _catch_up(self, pipe: Pipe) -> None:
        """Let a straggler have what its outlet takes; into the room with it once it is level."""
        if pipe not in self._stragglers:
            return
        try:
            pipe.pump()
        except Exception:
            _give_up(pipe)
            self._forget(pipe)
            return
        key = pipe.reader.owner_id, pipe.wire
        if key not in self._rooms and pipe.reader.is_in_step:
            self._rooms[key] = Room(pipe.reader.fork(), pipe.wire)
        if key in self._rooms and pipe.reader.is_level_with(self._rooms[key].reader):
            del self._stragglers[pipe]
            self._rooms[key].pipes[pipe] = None

    def _fall_out(self, pipe: Pipe, reader: Reader) -> None:
        pipe.reader = reader
        self._stragglers[pipe] = None

    def _forget(self, pipe: Pipe) -> None:
        self._stragglers.pop(pipe, None)
        key = pipe.reader.owner_id, pipe.wire
        room = self._rooms.get(key)
        if room is not None:
            room.pipes.pop(pipe, None)
            if not room.pipes:
                del self._rooms[key]


def _offered(pipe: Pipe, frames: bytes) -> bool:
    try:
        return pipe.outlet.offer(frames)
    except Exception:
        _give_up(pipe)
        return False


def _give_up(pipe: Pipe) -> None:
    """One socket's trouble is not that of the others."""
    log.exception("a progress socket could not be written to", extra={"action": "socket_broke"})
    pipe.outlet.abort_soon()


def _payloads(view: View, in_batches: bool) -> tuple[bytes, ...]:
    return (view.batch_frame,) if in_batches else view.frames
