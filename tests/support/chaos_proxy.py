"""A bad network on this machine: a TCP proxy that delays, cuts and silences the connections through it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

SMALL_SEGMENT = 536  # with what a socket may send at once grows what the kernel keeps for a slow reader
SMALL_BUFFER = 1_024
MOST_SILENT = 50  # at a time: what has arrived on each waits in this process


@dataclass(frozen=True)
class Habits:
    """How a line treats a connection: up to `delay_seconds` of waiting before each piece of at most `bytes_at_once`.

    After a number of the server's bytes, drawn from `life_bytes`, it is cut, or in a share `silenced` of the cases left
    open without a byte passing any more. `is_narrow`: next to nothing waits on the line, so the server feels it.
    """

    life_bytes: tuple[int, int]
    silenced: float
    bytes_at_once: int
    delay_seconds: float
    is_narrow: bool = False


BAD = Habits(life_bytes=(60, 300_000), silenced=0.2, bytes_at_once=8_192, delay_seconds=0.01)
SLOW = Habits(life_bytes=(3_000, 1_000_000), silenced=0.0, bytes_at_once=250, delay_seconds=0.08, is_narrow=True)


class ChaosProxy:
    """Passes connections on to a port of this machine; a good line once it is `calm`.

    What is in store for the nth connection depends on the seed and n only. Counts what it did.
    """

    def __init__(self, target_port: int, habits: Habits, *, seed: str) -> None:
        self._target_port = target_port
        self._habits = habits
        self._seed = seed
        self._is_calm = False
        self._silent: deque[asyncio.Event] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0
        self.cut = 0
        self.silenced = 0

    def calm(self) -> None:
        """Harm nothing from now on; what is silent is cut at last."""
        self._is_calm = True
        while self._silent:
            self._silent.popleft().set()

    def harm(self) -> None:
        """Go on as before `calm`."""
        self._is_calm = False

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a client's connection."""
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer), name=f"connection {self.connections}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chance = Random(f"{self._seed}-{self.connections}")
        try:
            server_reader, server_writer = await self._reach_server()
        except OSError:  # nobody listens there at the moment
            writer.transport.abort()
            return
        try:
            pieces = self._pass_on(server_reader, writer, chance)
            if await _first_of(pieces, _copy(reader, server_writer)):
                await self._end_badly((writer, server_writer), chance)
        finally:
            writer.close()
            server_writer.close()

    async def _reach_server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        line = socket.socket()
        line.setblocking(False)
        if self._habits.is_narrow:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        try:
            await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", self._target_port))
            return await asyncio.open_connection(sock=line, limit=self._habits.bytes_at_once)
        except OSError:
            line.close()
            raise

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chance: Random) -> bool:
        """What the server says; True when the connection has had its bytes, False when the server ended it."""
        least, most = self._habits.life_bytes
        left = int(least * (most / least) ** chance.random())
        while piece := await reader.read(self._habits.bytes_at_once):
            if not self._is_calm:
                await asyncio.sleep(chance.uniform(0, self._habits.delay_seconds))
                piece, left = piece[:left], left - len(piece)
            writer.write(piece)
            await writer.drain()
            if left <= 0 and not self._is_calm:
                return True
        return False

    async def _end_badly(self, ends: tuple[asyncio.StreamWriter, ...], chance: Random) -> None:
        if chance.random() < self._habits.silenced:
            self.silenced += 1
            await self._stay_silent()
        else:
            self.cut += 1
        for end in ends:
            _cut(end, is_reset=chance.random() < 0.5)

    async def _stay_silent(self) -> None:
        """For as long as there is room for it among the silent ones."""
        if self._is_calm:
            return
        end = asyncio.Event()
        self._silent.append(end)
        if len(self._silent) > MOST_SILENT:
            self._silent.popleft().set()
        await end.wait()


@asynccontextmanager
async def bad_line(target_port: int, habits: Habits, *, seed: str) -> AsyncIterator[ChaosProxy]:
    """A proxy before this port while the block runs."""
    proxy = ChaosProxy(target_port, habits, seed=seed)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


async def _first_of(pieces: Coroutine[None, None, bool], copy: Coroutine[None, None, None]) -> bool:
    """What the first one says; False when it was the copy, or when an end of the line broke off."""
    down, up = asyncio.create_task(pieces), asyncio.create_task(copy)
    try:
        await asyncio.wait((down, up), return_when=asyncio.FIRST_COMPLETED)
    finally:
        down.cancel()
        up.cancel()
        await asyncio.gather(down, up, return_exceptions=True)
    for task in (down, up):
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, OSError):
            raise error
    return not down.cancelled() and down.exception() is None and down.result()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65_536):
        writer.write(piece)
        await writer.drain()


def _cut(end: asyncio.StreamWriter, *, is_reset: bool) -> None:
    """End it without sending what waits; with a reset the peer even loses what has arrived."""
    if end.transport.is_closing():
        return
    if is_reset:
        linger = struct.pack("ii", 1, 0)
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    end.transport.abort()
