"""How updates leave through the progress sockets: two ways, the same frames.

The plain way hands each frame to the framework, a task a socket. The direct way encodes a view once and writes the
bytes to the transport of each socket that keeps up, one task for all of them. A socket whose transport takes no more is
left alone until it has drained, and then continues from its own position. The direct way needs `DirectProtocol` below
the framework; without it the plain way serves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import NoReturn, Protocol
from weakref import WeakKeyDictionary

from fastapi import WebSocket
from starlette.types import Scope
from websockets.frames import Frame, Opcode

from backend.delivery.batches import View
from backend.delivery.hub import Reader

log = logging.getLogger(__name__)
STALLED_SECONDS = 15.0
PLAIN_STALLED_SECONDS = 60.0  # longer: the framework does not tell a slow reader from one that takes nothing
MAX_JOINED_BYTES = 256 * 1024  # of what several ticks published, in one write
SENT_AT_ONCE = 100  # sockets written to before other tasks get a turn
TRANSPORT_EXTENSION = "dashboard.transport"


class Stalled(Exception):
    """The reader took nothing for 15 s; on the plain way, it did not take one frame within 60 s."""


class DirectTransport(Protocol):
    """A socket's transport. It calls `on_drained` when it takes bytes again."""

    stalled: asyncio.Event
    on_drained: Callable[[], None]

    def offer(self, frames: bytes) -> bool:
        """Send whole WebSocket frames; False, with nothing sent, if the socket is closed or its buffer is full."""

    @property
    def is_writable(self) -> bool:
        """True if an offer would be taken."""

    def abort_soon(self) -> None:
        """Abort the connection in a second, unless the peer has ended it by then."""


def direct_transport(socket: WebSocket) -> DirectTransport | None:
    """Return the direct way out of this socket; None if there is only the plain one."""
    return _transport_of(socket.scope)


def offer_to(scope: Scope, frames: bytes) -> bool:
    """Offer frames to the socket with this scope; False, with nothing sent, if it takes none or has no direct way."""
    transport = _transport_of(scope)
    return transport is not None and transport.offer(frames)


def _transport_of(scope: Scope) -> DirectTransport | None:
    extension: dict[str, DirectTransport] = scope.get("extensions", {}).get(TRANSPORT_EXTENSION, {})
    return extension.get("transport")


def text_frame(text: bytes) -> bytes:
    """Return a text as a whole WebSocket frame."""
    return Frame(Opcode.TEXT, text).serialize(mask=False)


async def send_plainly(socket: WebSocket, reader: Reader, *, in_batches: bool) -> NoReturn:
    """Send what the reader gets. Raises `Stalled`."""
    while True:
        view = await reader.next()
        for frame in _payloads(view, in_batches):
            try:
                async with asyncio.timeout(PLAIN_STALLED_SECONDS):
                    await socket.send_text(frame.decode())
            except TimeoutError:
                raise Stalled from None


class FrameEncoder:
    """Encodes views as WebSocket frames in one format, once for all sockets."""

    def __init__(self, *, in_batches: bool) -> None:
        self._in_batches = in_batches
        self._encoded: WeakKeyDictionary[View, bytes] = WeakKeyDictionary()

    def __call__(self, view: View) -> bytes:
        encoded = self._encoded.get(view)
        if encoded is None:
            payloads = _payloads(view, self._in_batches)
            encoded = b"".join(map(text_frame, payloads))
            self._encoded[view] = encoded
        return encoded


@dataclass(eq=False)
class Subscription:
    """What leads from a reader to a transport."""

    reader: Reader
    transport: DirectTransport
    encoder: FrameEncoder

    def send_ready(self) -> None:
        """Send as much as the transport takes now."""
        while self.transport.is_writable and (view := self.reader.take()) is not None:
            self.transport.offer(self.encoder(view))


@dataclass(eq=False)
class BroadcastGroup:
    """Subscriptions that are level with each other: one reader for all of them, and the same bytes.

    `members` has the `offer` of each one's transport: what is looked up once is not looked up for each frame.
    """

    reader: Reader
    encoder: FrameEncoder
    members: dict[Subscription, Callable[[bytes], bool]] = field(default_factory=dict)

    def add(self, subscription: Subscription) -> None:
        """Let a subscription that is level with the group join it."""
        self.members[subscription] = subscription.transport.offer

    async def flush(self, fall_behind: Callable[[Subscription, Reader], None]) -> None:
        """Send what is new to each subscription; one that takes nothing falls behind, with a reader at its position."""
        before = self.reader.fork()
        while frames := self._next_frames():
            async for subscription in self._not_taking(frames):
                if subscription in self.members:
                    del self.members[subscription]
                    fall_behind(subscription, before.fork())
            before = self.reader.fork()

    def _next_frames(self) -> bytes:
        """Return the frames of all that is ready, as far as it goes into one write to each socket."""
        ready, size = list[bytes](), 0
        while size < MAX_JOINED_BYTES and (view := self.reader.take()) is not None:
            ready.append(self.encoder(view))
            size += len(ready[-1])
        return ready[0] if len(ready) == 1 else b"".join(ready)

    async def _not_taking(self, frames: bytes) -> AsyncIterator[Subscription]:
        """Offer the frames to each member, and yield those that do not take them."""
        members = tuple(self.members.items())
        for first in range(0, len(members), SENT_AT_ONCE):
            if first:
                await asyncio.sleep(0)
            for subscription, offer in members[first : first + SENT_AT_ONCE]:
                try:
                    is_taken = offer(frames)
                except Exception:
                    _abort(subscription)
                    is_taken = False
                if not is_taken:
                    yield subscription


class DirectSender:
    """Serves all sockets on the direct way. `wait_past(position)` returns the newest position once there is news.

    Subscriptions in step with each other share a group. Lagging ones continue by themselves until they are level again.
    """

    def __init__(self, wait_past: Callable[[int], Awaitable[int]]) -> None:
        self._wait_past = wait_past
        self._lagging: dict[Subscription, None] = {}
        self._groups: dict[tuple[str | None, FrameEncoder], BroadcastGroup] = {}
        self._encoders = {in_batches: FrameEncoder(in_batches=in_batches) for in_batches in (False, True)}

    async def run(self) -> None:
        """Send what is published, until cancelled."""
        position = 0
        while True:
            position = await self._wait_past(position)
            for group in tuple(self._groups.values()):
                await self._flush(group)
            for subscription in tuple(self._lagging):
                self._catch_up(subscription)

    async def send(self, transport: DirectTransport, reader: Reader, *, in_batches: bool) -> NoReturn:
        """Send what the reader gets. Raises `Stalled`."""
        subscription = Subscription(reader, transport, self._encoders[in_batches])
        self._lagging[subscription] = None
        transport.on_drained = lambda: self._catch_up(subscription)
        try:
            self._catch_up(subscription)
            await transport.stalled.wait()
            raise Stalled
        finally:
            self._remove(subscription)

    async def _flush(self, group: BroadcastGroup) -> None:
        try:
            await group.flush(self._fall_behind)
        except Exception:  # its sockets come back and resume; those of the other groups continue
            for subscription in tuple(group.members):
                _abort(subscription)
                self._remove(subscription)

    def _catch_up(self, subscription: Subscription) -> None:
        """Send a lagging subscription what its transport takes; once level, it joins the group."""
        if subscription not in self._lagging:
            return
        try:
            subscription.send_ready()
        except Exception:
            _abort(subscription)
            self._remove(subscription)
            return
        key = subscription.reader.owner_id, subscription.encoder
        if key not in self._groups and subscription.reader.is_in_step:
            self._groups[key] = BroadcastGroup(subscription.reader.fork(), subscription.encoder)
        if key in self._groups and subscription.reader.is_level_with(self._groups[key].reader):
            del self._lagging[subscription]
            self._groups[key].add(subscription)

    def _fall_behind(self, subscription: Subscription, reader: Reader) -> None:
        subscription.reader = reader
        self._lagging[subscription] = None

    def _remove(self, subscription: Subscription) -> None:
        self._lagging.pop(subscription, None)
        key = subscription.reader.owner_id, subscription.encoder
        group = self._groups.get(key)
        if group is not None:
            group.members.pop(subscription, None)
            if not group.members:
                del self._groups[key]


def _abort(subscription: Subscription) -> None:
    """Log the failure and abort this socket only."""
    log.exception("a progress socket could not be written to", extra={"action": "socket_failed"})
    subscription.transport.abort_soon()


def _payloads(view: View, in_batches: bool) -> tuple[bytes, ...]:
    return (view.batch_frame,) if in_batches else view.frames
