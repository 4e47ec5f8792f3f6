"""Connections of the real server, seen from both sides; its loop's time is moved by the tests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from backend.api.uvicorn_internals import LATE, LimitedProtocol, Server, http_protocol, websocket_protocol
from backend.settings import load_settings
from tests.support.servers import free_port
from ui.cli.serve import open_listener

BODY = b"pong"
LOOP_TURNS = 20
HANDSHAKE = (
    b"GET /socket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FRAME = b"\x81\x82\0\0\0\0hi"  # a text of two bytes, masked with zeros
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


class MovableLoop(asyncio.SelectorEventLoop):
    """An event loop whose time the test moves forward."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


@dataclass(frozen=True)
class Connection:
    """The client's side of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send the bytes; the server has read them when this returns."""
        self.writer.write(data)
        await let_the_server_run()

    async def answer(self) -> bytes:
        """Return the head and the body of one answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        return head + await self.reader.readexactly(len(BODY))


async def let_the_server_run() -> None:
    """Give the loop its turns: what has arrived is read, and what is due is done."""
    for _ in range(LOOP_TURNS):
        await asyncio.sleep(0)


async def application(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
    """Read the whole request and answer; echo the texts of a socket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    while (message := await receive())["type"] == "http.request" and message["more_body"]:
        pass
    if message["type"] == "http.request":
        length = str(len(BODY)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": BODY})


@dataclass(frozen=True)
class Site:
    """The server, and a way to it."""

    server: Server
    port: int

    async def connect(self) -> Connection:
        """Open a connection, which the server has accepted when this returns."""
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.port))
        await let_the_server_run()
        return connection

    @staticmethod
    async def pass_time(seconds: float) -> None:
        """Move the time of the loop; what was due has run when this returns."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MovableLoop)
        loop.ahead += seconds
        await let_the_server_run()


@asynccontextmanager
async def served(directory: Path) -> AsyncIterator[Site]:
    """Serve the application as the program is served: its socket, its server, its protocols."""
    settings = load_settings(data_dir=directory, port=free_port())
    with open_listener(settings) as listener:
        config = uvicorn.Config(
            application,
            log_config=None,
            proxy_headers=False,
            ws_ping_interval=None,
            lifespan="off",
            http=http_protocol(),
            ws=websocket_protocol(direct=True),
        )
        server = Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await server.ready.wait()
        yield Site(server, settings.port)
        server.should_exit, server.force_exit = True, True
        await serving


def run(directory: Path, story: Callable[[Site, Connection], Awaitable[None]]) -> None:
    """Run the story on a loop whose time can be moved."""

    async def tell() -> None:
        async with served(directory) as site:
            connection = await site.connect()
            try:
                await story(site, connection)
            finally:
                connection.writer.close()

    with asyncio.Runner(loop_factory=MovableLoop) as runner:
        runner.run(tell())


def test_no_write_of_an_accepted_connection_waits_for_an_acknowledgement(tmp_path: Path) -> None:
    """Nagle's algorithm is off on the server's side, and stays off when the connection becomes a WebSocket."""

    async def story(site: Site, connection: Connection) -> None:
        (protocol,) = site.server.server_state.connections
        accepted = protocol.transport.get_extra_info("socket")
        assert accepted.getpeername() == connection.writer.get_extra_info("sockname")
        for request in (GET, HANDSHAKE):
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await connection.send(request)
            await connection.reader.readuntil(b"\r\n\r\n")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(tmp_path, story)


@pytest.mark.parametrize("sent", [b"GET / HT", GET[:-2], POST % 10, POST % 10 + b"half"], ids=repr)
def test_a_request_that_stops_halfway_ends_after_10_seconds(tmp_path: Path, sent: bytes) -> None:
    async def story(site: Site, connection: Connection) -> None:
        await connection.send(sent)
        await site.pass_time(9.9)
        assert len(site.server.server_state.connections) == 1
        await site.pass_time(0.2)
        answer = await connection.reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert answer.endswith(LATE)

    run(tmp_path, story)


def test_a_connection_without_a_request_ends_without_a_word(tmp_path: Path) -> None:
    async def story(site: Site, connection: Connection) -> None:
        await site.pass_time(10.1)
        assert await connection.reader.read() == b""

    run(tmp_path, story)


def test_a_head_that_comes_byte_by_byte_ends_too(tmp_path: Path) -> None:
    async def story(site: Site, connection: Connection) -> None:
        for number in range(4):
            await connection.send(GET[number : number + 1])
            await site.pass_time(3)
        assert (await connection.reader.read()).startswith(b"HTTP/1.1 408 ")

    run(tmp_path, story)


def test_an_upload_that_makes_progress_goes_on(tmp_path: Path) -> None:
    async def story(site: Site, connection: Connection) -> None:
        await connection.send(POST % 6)
        for _ in range(6):
            await site.pass_time(9)
            await connection.send(b"x")
        assert (await connection.answer()).endswith(BODY)

    run(tmp_path, story)


def test_a_connection_may_rest_between_requests(tmp_path: Path) -> None:
    async def story(site: Site, connection: Connection) -> None:
        for _ in range(5):
            await connection.send(GET)
            assert (await connection.answer()).endswith(BODY)
            await site.pass_time(4)
        await connection.send(GET[:9])
        await site.pass_time(9)
        await connection.send(GET[9:])
        assert (await connection.answer()).endswith(BODY)

    run(tmp_path, story)


def test_a_socket_stays_open(tmp_path: Path) -> None:
    async def story(site: Site, connection: Connection) -> None:
        await connection.send(HANDSHAKE)
        await connection.reader.readuntil(b"\r\n\r\n")
        for _ in range(3):
            await site.pass_time(9)
            await connection.send(FRAME)
            assert await connection.reader.readexactly(4) == b"\x81\x02hi"

    run(tmp_path, story)


class RecordingTransport(asyncio.Transport):
    """A transport that keeps what is written, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = asyncio.Event()

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        self.closed.set()


async def answered(request: bytes, respond: Callable[[Callable[[Any], Any]], Awaitable[None]]) -> list[bytes]:
    """Return what is written, call by call, when a request that closes the connection is answered by `respond`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send)

    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none")
    transport = RecordingTransport()
    protocol = LimitedProtocol(config, uvicorn.server.ServerState(), {})
    protocol.connection_made(transport)
    protocol.data_received(request)
    await transport.closed.wait()
    protocol.connection_lost(None)
    return transport.written


CLOSING = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def test_head_and_body_of_a_small_answer_are_one_write() -> None:
    async def respond(send: Callable[[Any], Any]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": BODY})

    (whole,) = await answered(CLOSING, respond)
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
    assert whole.endswith(b"\r\n\r\npong")


async def test_a_large_answer_is_not_collected() -> None:
    async def respond(send: Callable[[Any], Any]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(10):
            await send({"type": "http.response.body", "body": bytes(60_000), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    written = await answered(CLOSING, respond)
    assert sum(map(len, written)) > 600_000
    assert max(map(len, written)) < 2 * 64 * 1024


async def test_the_head_of_a_slow_answer_does_not_wait_for_its_body() -> None:
    head_seen, heads = asyncio.Event(), []

    async def respond(send: Callable[[Any], Any]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        asyncio.get_running_loop().call_soon(head_seen.set)  # behind what the transport has to do in this turn
        await head_seen.wait()
        await send({"type": "http.response.body", "body": BODY})

    heads = await answered(CLOSING, respond)
    assert [part[:8] for part in heads] == [b"HTTP/1.1", BODY]
