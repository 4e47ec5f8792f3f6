"""Accepts the connections of the server, as long as there are descriptors for them.

asyncio's own way tries again after a second, logs a traceback for every connection that it cannot have (thousands a
second), and takes the last descriptor, so that no video can be started and the database cannot be read.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable

from backend.clock import Clock
from backend.descriptors import Descriptors

log = logging.getLogger(__name__)
RETRY_SECONDS = 0.1
LOG_SECONDS = 60.0
MAX_AT_ONCE = 100  # connections that are accepted before everything else gets a turn
OUT_OF_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
SENTENCE = (
    "no further connections are accepted until others end, because this process may only have %s files and sockets "
    "open; allow more with `ulimit -n`, or find out who opens so many"
)


class Acceptor:
    """Hands each connection that arrives at a listening socket to `connect`."""

    def __init__(
        self,
        listener: socket.socket,
        connect: Callable[[socket.socket], Awaitable[object]],
        descriptors: Descriptors,
        clock: Clock,
    ) -> None:
        self._listener = listener
        self._connect = connect
        self._descriptors = descriptors
        self._clock = clock
        self._connecting: set[asyncio.Future[object]] = set()
        self._logged_at: float | None = None

    async def run(self) -> None:
        """Accept until cancelled."""
        self._listener.setblocking(False)
        while True:
            for _ in range(MAX_AT_ONCE):
                await self._accept()
            await asyncio.sleep(0)

    async def _accept(self) -> None:
        try:
            connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        except ConnectionError:  # the peer has gone before it was accepted
            return
        except OSError as error:
            if error.errno in OUT_OF_RESOURCES:
                await self._wait_for_room()
            else:  # of the network, for this one connection
                await self._clock.sleep(RETRY_SECONDS)
            return
        self._open(connection)
        if not self._descriptors.is_free(connection.fileno()):
            await self._wait_for_room()

    def _open(self, connection: socket.socket) -> None:
        connecting = asyncio.ensure_future(self._connect(connection))
        self._connecting.add(connecting)
        connecting.add_done_callback(self._opened)

    def _opened(self, connecting: asyncio.Future[object]) -> None:
        self._connecting.discard(connecting)
        if not connecting.cancelled() and (error := connecting.exception()) is not None:
            log.debug("a connection ended before it was open: %s", error)

    async def _wait_for_room(self) -> None:
        while True:
            self._log()
            await self._clock.sleep(RETRY_SECONDS)
            if self._descriptors.has_room(self._listener.fileno()):
                return

    def _log(self) -> None:
        """Say it once a minute, however many connections wait."""
        now = self._clock.monotonic()
        if self._logged_at is None or now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            log.warning(SENTENCE, self._descriptors.limit, extra={"action": "out_of_descriptors"})
