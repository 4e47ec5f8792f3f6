"""A bad link to PostgreSQL: a proxy that knows its protocol and loses what a test tells it to lose."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from enum import Enum

from progress_dashboard.tasks import first_completed
from tests.support.tcp_proxies import TcpProxy, cut, listening

COMMIT = b"Q" + struct.pack("!I", 4 + len(b"COMMIT\0")) + b"COMMIT\0"  # the whole message, as the driver sends it
COMMITTED = "COMMIT"  # in the server's answer
PIECE_BYTES = 65_536


class Loss(Enum):
    """What is lost of a commit, before its connection is cut."""

    ANSWER = "the answer"  # it is stored, and the program cannot know
    REQUEST = "the request"  # it is not stored, and the program cannot know either


class DatabaseProxy(TcpProxy):
    """Forwards connections to PostgreSQL on a port of this machine, unencrypted."""

    def __init__(self, target_port: int) -> None:
        super().__init__()
        self._target_port = target_port
        self._loss: Loss | None = None
        self._answer = b""
        self._lost = asyncio.Event()
        self._speaking = asyncio.Event()
        self._speaking.set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def lose(self, loss: Loss, *, tag: str = COMMITTED) -> None:
        """Lose this of the next commit, whichever it is; returns when it is lost and its connection is cut.

        `tag`: lose the answer to another command, as "UPDATE 1".
        """
        self._lost.clear()
        self._loss, self._answer = loss, _completed(tag)
        await self._lost.wait()

    def cut(self) -> None:
        """Cut all connections."""
        for writer in self._writers:
            cut(writer, is_reset=True)

    def fall_silent(self) -> None:
        """Forward nothing from now on, and close nothing; new connections get no answer."""
        self._speaking.clear()

    def speak(self) -> None:
        """Continue after `fall_silent`, with the bytes that waited."""
        self._speaking.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:  # PostgreSQL is away
            cut(writer, is_reset=True)
            return
        writers = {writer, server_writer}
        self._writers |= writers
        try:
            to_server = self._forward(reader, server_writer, Messages(starts_bare=True))
            with suppress(OSError):  # one of the two sides is gone
                if await first_completed(to_server, self._forward(server_reader, writer, Messages())):
                    self._lose(writers)
        finally:
            self._writers -= writers
            for one in writers:
                one.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, messages: Messages) -> bool:
        """Forward until the end; return True when a message was lost instead."""
        while piece := await reader.read(PIECE_BYTES):
            for message in messages.add(piece):
                if self._is_lost(message):
                    return True
                await self._speaking.wait()
                writer.write(message)
            await writer.drain()
        return False

    def _is_lost(self, message: bytes) -> bool:
        return (self._loss is Loss.REQUEST and message == COMMIT) or (
            self._loss is Loss.ANSWER and message == self._answer
        )

    def _lose(self, writers: set[asyncio.StreamWriter]) -> None:
        self._loss = None
        for writer in writers:
            cut(writer, is_reset=True)
        self._lost.set()


def _completed(tag: str) -> bytes:
    """Return the message with which the server answers a command."""
    body = tag.encode() + b"\0"
    return b"C" + struct.pack("!I", 4 + len(body)) + body


class Messages:
    """Cuts a stream of PostgreSQL's protocol into its messages."""

    def __init__(self, *, starts_bare: bool = False) -> None:
        """`starts_bare`: the first message has no type, as a client's has."""
        self._rest = b""
        self._is_bare = starts_bare

    def add(self, piece: bytes) -> Iterator[bytes]:
        """Yield the messages that are complete with this piece."""
        self._rest += piece
        while message := self._next():
            yield message

    def _next(self) -> bytes:
        head = 0 if self._is_bare else 1
        if len(self._rest) < head + 4:
            return b""
        end = head + struct.unpack_from("!I", self._rest, head)[0]
        if len(self._rest) < end:
            return b""
        message, self._rest = self._rest[:end], self._rest[end:]
        self._is_bare = False
        return message


@asynccontextmanager
async def database_proxy(target_port: int) -> AsyncIterator[DatabaseProxy]:
    """Run a proxy before this port while the block runs."""
    async with listening(DatabaseProxy(target_port)) as proxy:
        yield proxy
