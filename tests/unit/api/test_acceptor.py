"""What is accepted when descriptors run out, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field

import pytest

from backend.api.acceptor import Acceptor
from backend.descriptors import Descriptors
from tests.support.clock import VirtualClock


@dataclass(frozen=True)
class Limit(Descriptors):
    """Descriptors that the test frees."""

    freed: asyncio.Event = field(default_factory=asyncio.Event)

    def is_free(self, descriptor: int) -> bool:
        return self.freed.is_set()

    def has_room(self, opened: int) -> bool:
        return self.freed.is_set()


class FullSocket(socket.socket):
    """A listening socket of a process that may open no further file."""

    def accept(self) -> tuple[socket.socket, object]:
        raise OSError(errno.EMFILE, "Too many open files")


@asynccontextmanager
async def accepting(
    limit: Descriptors, clock: VirtualClock, kind: type[socket.socket] = socket.socket
) -> AsyncIterator[tuple[int, list[socket.socket]]]:
    """Accept connections. Yields the port, and the list of those that were accepted."""
    accepted: list[socket.socket] = []

    async def connect(connection: socket.socket) -> None:
        accepted.append(connection)

    with closing(kind(socket.AF_INET, socket.SOCK_STREAM)) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        running = asyncio.create_task(Acceptor(listener, connect, limit, clock).run())
        yield listener.getsockname()[1], accepted
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    for connection in accepted:
        connection.close()


async def test_a_connection_that_takes_the_last_descriptor_is_the_last(caplog: pytest.LogCaptureFixture) -> None:
    clock, limit = VirtualClock(), Limit(100)
    async with accepting(limit, clock) as (port, accepted):
        peers = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for _ in range(10):
            await clock.advance(3)
        assert len(accepted) == 1
        limit.freed.set()
        await clock.advance(0.2)
        assert len(accepted) == 3
    for peer in peers:
        peer.close()
    assert len(caplog.records) == 1


async def test_it_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock()
    async with accepting(Limit(100), clock, FullSocket) as (port, accepted):
        peer = socket.create_connection(("127.0.0.1", port))
        for _ in range(1500):
            await clock.advance(0.1)
        assert accepted == []
    peer.close()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3  # in 150 seconds
    assert set(said) == {
        "no further connections are accepted until others end, because this process may only have 100 files and "
        "sockets open; allow more with `ulimit -n`, or find out who opens so many"
    }
