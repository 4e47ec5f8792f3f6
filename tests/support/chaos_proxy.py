"""A bad network on this machine: a TCP proxy that delays, cuts and silences the connections through it."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

from progress_dashboard.tasks import first_completed
from tests.support.tcp_proxies import TcpProxy, cut, listening

SMALL_SEGMENT = 536  # the kernel buffers more for a slow reader, the more a socket may send at once
SMALL_BUFFER = 1_024
MAX_SILENT = 50  # at a time, because this process holds what has arrived on each of them


@dataclass(frozen=True)
class ProxyPolicy:
    """The faults of a proxy."""

    # Range from which the number of the server's bytes is drawn after which a connection ends.
    bytes_before_end: tuple[int, int]
    # Share of those ends in which no more bytes pass, but the connection stays open; the others are cut.
    silenced: float
    # Size of the pieces in which the server's bytes are passed on.
    piece_bytes: int
    # Longest delay before each piece.
    delay_seconds: float
    # True: the proxy buffers next to nothing, so that the server feels a slow reader.
    is_narrow: bool = False


BAD = ProxyPolicy(bytes_before_end=(60, 300_000), silenced=0.2, piece_bytes=8_192, delay_seconds=0.01)
SLOW = ProxyPolicy(
    bytes_before_end=(3_000, 1_000_000), silenced=0.0, piece_bytes=250, delay_seconds=0.08, is_narrow=True
)


class ChaosProxy(TcpProxy):
    """Forwards connections to a port of this machine, with the faults of its policy unless it is `calm`.

    The faults of the nth connection depend only on the seed and n. Counts what it did.
    """

    def __init__(self, target_port: int, policy: ProxyPolicy, *, seed: str) -> None:
        super().__init__()
        self._target_port = target_port
        self._policy = policy
        self._seed = seed
        self._is_calm = False
        self._silent: deque[asyncio.Event] = deque()
        self._open: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self.connections = 0
        self.cut = 0
        self.silenced = 0

    def calm(self) -> None:
        """Cause no faults from now on, and cut the connections that are silent."""
        self._is_calm = True
        while self._silent:
            self._silent.popleft().set()

    def harm(self) -> None:
        """Cause faults again, as before `calm`."""
        self._is_calm = False

    def cut_open(self) -> None:
        """Cut the connections through which too few bytes pass to reach their end."""
        self.cut += len(self._open)
        for writer in (writer for pair in self._open for writer in pair):
            cut(writer, is_reset=False)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        super().accept(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rng = Random(f"{self._seed}-{self.connections}")
        try:
            server_reader, server_writer = await self._connect()
        except OSError:  # no server listens there at the moment
            writer.transport.abort()
            return
        self._open.add((writer, server_writer))
        try:
            if await first_completed(self._forward(server_reader, writer, rng), _copy(reader, server_writer)):
                await self._end((writer, server_writer), rng)
        except OSError:
            pass  # one of the two sides is gone
        finally:
            self._open.discard((writer, server_writer))
            writer.close()
            server_writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connection = socket.socket()
        connection.setblocking(False)
        if self._policy.is_narrow:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        try:
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self._target_port))
            return await asyncio.open_connection(sock=connection, limit=self._policy.piece_bytes)
        except OSError:
            connection.close()
            raise

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: Random) -> bool:
        """Forward the server's bytes; return True when the connection has to end, False when the server ended it."""
        low, high = self._policy.bytes_before_end
        left = int(low * (high / low) ** rng.random())
        while piece := await reader.read(self._policy.piece_bytes):
            if not self._is_calm:
                await asyncio.sleep(rng.uniform(0, self._policy.delay_seconds))
                piece, left = piece[:left], left - len(piece)
            writer.write(piece)
            await writer.drain()
            if left <= 0 and not self._is_calm:
                return True
        return False

    async def _end(self, writers: tuple[asyncio.StreamWriter, ...], rng: Random) -> None:
        if rng.random() < self._policy.silenced:
            self.silenced += 1
            await self._stay_silent()
        else:
            self.cut += 1
        for writer in writers:
            cut(writer, is_reset=rng.random() < 0.5)

    async def _stay_silent(self) -> None:
        """Wait until the proxy is calm, or until too many connections are silent."""
        if self._is_calm:
            return
        end = asyncio.Event()
        self._silent.append(end)
        if len(self._silent) > MAX_SILENT:
            self._silent.popleft().set()
        await end.wait()


@asynccontextmanager
async def chaos_proxy(target_port: int, policy: ProxyPolicy, *, seed: str) -> AsyncIterator[ChaosProxy]:
    """Run a proxy before this port while the block runs."""
    async with listening(ChaosProxy(target_port, policy, seed=seed)) as proxy:
        yield proxy


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    while piece := await reader.read(65_536):
        writer.write(piece)
        await writer.drain()
    return False
