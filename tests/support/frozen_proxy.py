"""A line that can freeze: a TCP proxy that stops forwarding without closing anything, and goes on again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager
from typing import Any

ANSWER_SECONDS = 10


class Line:
    """Passes connections on to a port of this machine, in a thread of its own.

    While it is frozen no byte passes and nothing is closed: what was sent waits, new connections get no answer.
    """

    def __init__(self, target_port: int, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self._target_port = target_port
        self._loop = loop
        self._moving = asyncio.Event()
        self._moving.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = port

    def freeze(self) -> None:
        """Let no byte pass from now on."""
        self._loop.call_soon_threadsafe(self._moving.clear)

    def thaw(self) -> None:
        """Go on where it stopped."""
        self._loop.call_soon_threadsafe(self._moving.set)

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End all connections."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await self._moving.wait()
            try:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            except OSError:  # nobody listens there at the moment
                return
            with closing(far_writer):
                await self._pass_on((reader, far_writer), (far_reader, writer))

    async def _pass_on(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Both ways, until one of them has ended."""
        copies = [asyncio.create_task(self._copy(*way)) for way in ways]
        try:
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for copy in copies:
                copy.cancel()
            await asyncio.gather(*copies, return_exceptions=True)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            await self._moving.wait()
            writer.write(piece)
            await writer.drain()
        await self._moving.wait()  # that it ended is not seen at the other side either


@contextmanager
def line_to(target_port: int, *, port: int = 0) -> Iterator[Line]:
    """A line before this port while the block runs, cut at its end; `port`: its own, where a line was before."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    line = Line(target_port, loop, port)
    _wait_for(line.open(), loop)
    try:
        yield line
    finally:
        _wait_for(line.close(), loop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _wait_for(doing: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
    asyncio.run_coroutine_threadsafe(doing, loop).result(ANSWER_SECONDS)
