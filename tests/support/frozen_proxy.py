"""A TCP proxy that can freeze: it stops forwarding without closing anything, and continues later."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from progress_dashboard.tasks import first_completed
from tests.support.tcp_proxies import TcpProxy

ANSWER_SECONDS = 10


class FreezableProxy(TcpProxy):
    """Forwards connections to a port of this machine, in a thread of its own.

    While it is frozen no byte passes and nothing is closed: sent bytes wait, and new connections get no answer.
    """

    def __init__(self, target_port: int, loop: asyncio.AbstractEventLoop, port: int) -> None:
        super().__init__()
        self._target_port = target_port
        self._loop = loop
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._server: asyncio.Server | None = None
        self.port = port

    def freeze(self) -> None:
        """Stop forwarding."""
        self._loop.call_soon_threadsafe(self._thawed.clear)

    def thaw(self) -> None:
        """Continue with the bytes that waited."""
        self._loop.call_soon_threadsafe(self._thawed.set)

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self.accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end all connections."""
        assert self._server is not None
        self._server.close()
        await super().close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await self._thawed.wait()
            try:
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            except OSError:  # no server listens there at the moment
                return
            with closing(server_writer), suppress(OSError):  # one of the two sides is gone
                await first_completed(self._copy(reader, server_writer), self._copy(server_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            await self._thawed.wait()
            writer.write(piece)
            await writer.drain()
        await self._thawed.wait()  # while it is frozen, the other side does not see this end either


@contextmanager
def freezable_proxy(target_port: int, *, port: int = 0) -> Iterator[FreezableProxy]:
    """Run a proxy before this port while the block runs, and cut its connections at the end.

    `port`: the proxy's own, to take the place of an earlier one.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    proxy = FreezableProxy(target_port, loop, port)
    _wait_for(proxy.open(), loop)
    try:
        yield proxy
    finally:
        _wait_for(proxy.close(), loop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _wait_for(work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
    asyncio.run_coroutine_threadsafe(work, loop).result(ANSWER_SECONDS)
