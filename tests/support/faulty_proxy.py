"""Proxies before receivers of notifications: they cut, delay, answer 500, 410 and nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from tests.support.receivers import Request, read_request
from tests.support.tcp_proxies import TcpProxy, cut

PASS, CUT, LOST, DELAYED, ERROR, NOTHING = "passed", "cut", "answer lost", "delayed", "answered 500", "silent"
FAULTS = (CUT, LOST, DELAYED, ERROR, NOTHING)
MAX_DELAY_SECONDS = 0.5
MAX_FAULTS = 2  # of one message: it is tried four times in all
GONE_PATH = "/gone"


class FaultyWebProxy(TcpProxy):
    """Before a web server. A message meets two faults at most; below `/gone` all is answered with 410."""

    def __init__(self, target_port: int, *, share: float, seed: int) -> None:
        super().__init__()
        self._target_port = target_port
        self._share = share
        self._rng = Random(seed)
        self._faults: Counter[str] = Counter()
        self._calm = asyncio.Event()
        self.did: Counter[str] = Counter()

    def calm(self) -> None:
        """Cause no faults from now on, and end the silence."""
        self._calm.set()

    def harm(self) -> None:
        """Cause faults again."""
        self._calm.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await read_request(reader)) is not None:
                if not await self._handle(request, writer):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass  # the sender was killed
        finally:
            writer.transport.abort()

    async def _handle(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Pass the request on, or not; return True if the connection goes on."""
        fault = self._drawn(request)
        self.did[fault] += 1
        if request.path.startswith(GONE_PATH):
            return await _answer(writer, 410)
        if fault == CUT:
            return False
        if fault == ERROR:
            return await _answer(writer, 500)
        if fault == NOTHING:
            await self._calm.wait()
            return False
        if fault == DELAYED:
            await asyncio.sleep(self._rng.uniform(0, MAX_DELAY_SECONDS))
        status = await self._passed_on(request)
        return fault != LOST and await _answer(writer, status)

    def _drawn(self, request: Request) -> str:
        name = request.headers.get("x-dashboard-event-id") or request.body.decode()
        message = f"{request.path} {name}"
        if self._calm.is_set() or self._faults[message] >= MAX_FAULTS or self._rng.random() >= self._share:
            return PASS
        self._faults[message] += 1
        return self._rng.choice(FAULTS)

    async def _passed_on(self, request: Request) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        writer.write(f"POST {request.path} HTTP/1.1\r\n{head}\r\n".encode() + request.body)
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return int(answer.split()[1])


class FaultyMailProxy(TcpProxy):
    """Before a mail server. Delays, and cuts every fourth connection at a random moment."""

    def __init__(self, target_port: int, *, seed: int) -> None:
        super().__init__()
        self._target_port = target_port
        self._rng = Random(seed)
        self._connections = 0
        self.did: Counter[str] = Counter()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        is_cut = self._connections % 4 == 2
        left = self._rng.randint(0, 400) if is_cut else 1 << 30
        self.did[CUT if is_cut else PASS] += 1
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
        upwards = asyncio.create_task(_copy(reader, to_server))
        try:
            while left > 0 and (piece := await from_server.read(min(left, 4_096))):
                await asyncio.sleep(self._rng.uniform(0, 0.02))
                writer.write(piece)
                await writer.drain()
                left -= len(piece)
        except OSError:
            pass  # the sender was killed
        finally:
            upwards.cancel()
            for end in (writer, to_server):
                cut(end, is_reset=False)


async def _answer(writer: asyncio.StreamWriter, status: int) -> bool:
    writer.write(f"HTTP/1.1 {status} Told\r\nContent-Length: 0\r\n\r\n".encode())
    await writer.drain()
    return True


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(4_096):
        writer.write(piece)
        await writer.drain()
