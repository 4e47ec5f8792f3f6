"""The server's progress sockets without a network: bytes lie on the line until a test moves them.

What runs is the real thing from Uvicorn's protocol down to SQLite; only the transport, and the database's threads, are
replaced by what a test can hold up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import uvicorn
from fastapi import WebSocket
from sqlalchemy import Connection, insert, text
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from backend.accounts import Accounts
from backend.api.delivery import DirectDelivery
from backend.api.direct_protocol import DirectProtocol
from backend.api.progress_socket import ProgressSockets
from backend.auth import Keys, User
from backend.clock import Clock
from backend.demo import DemoClips
from backend.hub import ProgressHub
from backend.manager import JobManager
from backend.media import MediaDirectory
from backend.settings import Settings, load_settings
from backend.store import Database, JobStore, open_database
from backend.store.tables import METADATA
from tests.support.jobs import ERA
from tests.support.managed import ADMIN, ANA, BEN, RecordingExecutor

C = TypeVar("C")
T = TypeVar("T")
MARK_BYTES = 1_500  # of a line's buffer, over which its reader counts as slow: a few updates
NO_LIMITS: Mapping[str, int] = MappingProxyType({})
TURNS = 15  # of the event loop, for the server to do all that it can do now
TOKEN_SECONDS = 300 * 86_400
USERS = (ANA, BEN, ADMIN)
EMPTIED = ("milestone", "progress_event", "result", "video", "job")


class HeldDatabase(Database):
    """The database without threads, so that a run can be repeated; `commits` holds up what writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.commits = asyncio.Event()
        self.commits.set()

    async def write(self, work: Callable[[Connection], T]) -> T:
        await self.commits.wait()
        return self.write_now(work)

    async def _read(self, read_now: Callable[[Callable[[C], T]], T], work: Callable[[C], T]) -> T:
        return read_now(work)


@dataclass(frozen=True)
class Ground:
    """What outlives the lives of a server: the data, and the tokens of the users ana, ben and admin."""

    database: HeldDatabase
    settings: Settings
    tokens: Mapping[str, str]

    def empty(self) -> None:
        """Take all jobs away, and let nothing be held up."""
        self.database.commits = asyncio.Event()
        self.database.commits.set()
        self.database.write_now(_empty)


async def prepare(directory: Path, clock: Clock) -> Ground:
    """A new database and its users."""
    settings = load_settings(data_dir=directory, max_connections_per_user=1000)
    open_database(settings.database_path, backups=directory / "backups").close()
    database = HeldDatabase(settings.database_path)
    users = [
        {"id": user.id, "name": user.name, "is_admin": user.is_admin, "disabled": False, "created_at": ERA}
        for user in USERS
    ]
    database.write_now(lambda connection: connection.execute(insert(METADATA.tables["user"]), users))
    accounts = Accounts(database, Keys.load(settings, clock), settings, clock)
    tokens = {user.id: await accounts.issue_token(user, lifetime_seconds=TOKEN_SECONDS) for user in USERS}
    return Ground(database, settings, tokens)


def _empty(connection: Connection) -> None:
    for table in EMPTIED:
        connection.execute(text(f"DELETE FROM {table}"))


class LineTransport(asyncio.Transport):
    """The server's end of a line: what it wrote lies in `sent` until `Line.deliver` takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.protocol: asyncio.Protocol | None = None
        self._paused = False
        self._closing = False
        self._lost = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._lost:
            return
        self.sent += data
        if len(self.sent) > MARK_BYTES and not self._paused and self.protocol:
            self._paused = True
            self.protocol.pause_writing()

    def taken(self, number: int) -> bytes:
        """The next bytes on the line; with the last of them a transport that is closing ends."""
        taken = bytes(self.sent[:number])
        del self.sent[:number]
        if self._paused and len(self.sent) <= MARK_BYTES // 4 and self.protocol:
            self._paused = False
            self.protocol.resume_writing()
        if self._closing and not self.sent:
            self.abort()
        return taken

    def close(self) -> None:
        self._closing = True
        if not self.sent:
            self.abort()

    def abort(self) -> None:
        self._closing = True
        if not self._lost and self.protocol:
            self._lost = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return len(self.sent)

    def pause_reading(self) -> None:
        """Nothing arrives but what the test sends."""

    def resume_reading(self) -> None:
        """Likewise."""


class Line:
    """A client's end of a connection: whole text frames come out of it, in whatever pieces the bytes arrive."""

    def __init__(self, address: str, server: asyncio.Protocol, transport: LineTransport) -> None:
        self._client = ClientProtocol(parse_uri(address), max_size=2**20)
        self._server = server
        self._transport = transport
        transport.protocol = server
        server.connection_made(transport)
        self._client.send_request(self._client.connect())
        self._say()

    @property
    def waiting(self) -> int:
        """Bytes on the line."""
        return len(self._transport.sent)

    def deliver(self, number: int) -> list[str]:
        """Let so many bytes arrive; the messages that are whole by then."""
        self._client.receive_data(self._transport.taken(number))
        events = self._client.events_received()
        self._say()
        return [
            bytes(event.data).decode() for event in events if isinstance(event, Frame) and event.opcode is Opcode.TEXT
        ]

    def say(self, text: str) -> None:
        """Send a message."""
        self._client.send_text(text.encode())
        self._say()

    def cut(self) -> None:
        """The network breaks: what was on the line is lost."""
        self._transport.abort()

    def _say(self) -> None:
        for data in self._client.data_to_send():
            if data and not self._transport.is_closing():
                self._server.data_received(data)


class WiredServer:
    """One life of the server."""

    def __init__(
        self,
        ground: Ground,
        clock: Clock,
        *,
        direct: bool,
        accounts: type[Accounts] = Accounts,
        hub_limits: Mapping[str, int] = NO_LIMITS,
    ) -> None:
        self._ground = ground
        directory, settings = ground.settings.data_dir, ground.settings
        self.store = JobStore(ground.database)
        self.hub = ProgressHub(self.store, clock, **hub_limits)
        self.manager = JobManager(
            store=self.store,
            hub=self.hub,
            executor=RecordingExecutor(self.store),
            media=MediaDirectory(directory, clock),
            demo=DemoClips(directory / "demo"),
            clock=clock,
        )
        self.accounts = accounts(ground.database, Keys.load(settings, clock), settings, clock)
        delivery = DirectDelivery(self.hub.beyond)
        self._delivering = asyncio.create_task(delivery.run())
        self.sockets = ProgressSockets(self.accounts, self.manager, delivery, settings, clock)
        self._protocol = DirectProtocol if direct else WebSocketsSansIOProtocol
        self._config = uvicorn.Config(self._serve, interface="asgi3", ws_ping_interval=None, log_config=None)
        self._config.load()
        self._state = ServerState()

    def connect(self, user: User, query: str) -> Line:
        """A new connection of this user."""
        protocol = self._protocol(self._config, self._state, {})
        address = f"ws://dashboard/api/ws/progress?token={self._ground.tokens[user.id]}&{query}"
        return Line(address, protocol, LineTransport())

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(asyncio.CancelledError):  # the server died
            await self.sockets.serve(WebSocket(scope, receive, send))

    def last_stored(self) -> int:
        """The newest position in the database."""
        newest = text("SELECT max(max(seq), max(coalesce(removed_seq, 0))) FROM job")
        return self._ground.database.read_now(lambda connection: connection.execute(newest).scalar()) or 0

    async def die(self) -> None:
        """As by kill -9: nothing that is under way goes on."""
        for connection in list(self._state.connections):
            connection.transport.abort()
        tasks = [self._delivering, *self._state.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def let_it_run() -> None:
    """Give the server the turns it needs to do all that it can do now."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
