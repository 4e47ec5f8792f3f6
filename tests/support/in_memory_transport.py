"""The server's progress sockets over a transport in memory: bytes stay in it until a test moves them.

The rest is real, from Uvicorn's protocol down to the database; only the transport and the database's threads are
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

from backend.accounts.accounts import Accounts
from backend.accounts.keys import Keys
from backend.api.progress_socket import ProgressSockets
from backend.api.sending import DirectSender
from backend.api.uvicorn_internals import DirectProtocol
from backend.delivery.hub import ProgressHub
from backend.domain.auth import User
from backend.settings import Settings
from backend.store import Store
from backend.store.database import Database
from backend.store.postgres import PostgresDatabase
from backend.store.sqlite import SqliteDatabase
from backend.store.tables import USERS as USER_TABLE
from tests.support.clock import QuickClock
from tests.support.databases import FILE, location_of, settings_of
from tests.support.jobs import ERA
from tests.support.managed_backend import ADMIN, ANA, BEN, RecordingExecutor, build_parts

C = TypeVar("C")
T = TypeVar("T")
HIGH_WATER_BYTES = 1_500  # of a connection's buffer, over which its reader counts as slow: a few updates
NO_LIMITS: Mapping[str, int] = MappingProxyType({})
LOOP_TURNS = 15  # in which the server does all that it can do now
TOKEN_SECONDS = 300 * 86_400
USERS = (ANA, BEN, ADMIN)
EMPTIED = ("milestone", "progress_event", "result", "video", "job")


class HeldDatabase(Database):
    """A database without threads, so that a run can be repeated. `commits` holds up what writes."""

    commits: asyncio.Event

    def hold_up_nothing(self) -> None:
        """Let everything write, as at the beginning."""
        self.commits = asyncio.Event()
        self.commits.set()

    async def _write(self, work: Callable[[Connection], T]) -> T:
        await self.commits.wait()
        return self.write_now(work)

    async def _read(self, read_now: Callable[[Callable[[C], T]], T], work: Callable[[C], T]) -> T:
        return read_now(work)


class HeldFile(HeldDatabase, SqliteDatabase):
    """A file without threads."""


class HeldPostgres(HeldDatabase, PostgresDatabase):
    """A database on PostgreSQL without threads."""


@dataclass(frozen=True)
class Installation:
    """What outlives the runs of a server: the data, and the tokens of the users ana, ben and admin."""

    database: HeldDatabase
    settings: Settings
    tokens: Mapping[str, str]

    def empty(self) -> None:
        """Delete all jobs, and hold up nothing."""
        self.database.hold_up_nothing()
        self.database.write_now(_empty)


async def prepare(directory: Path, clock: QuickClock) -> Installation:
    """Create a database with its users."""
    settings = settings_of(directory, max_connections_per_user=1000)
    location = location_of(directory / FILE)
    database = HeldFile(location) if isinstance(location, Path) else HeldPostgres(location)
    database.hold_up_nothing()
    users = [
        {"id": user.id, "name": user.name, "is_admin": user.is_admin, "disabled": False, "created_at": ERA}
        for user in USERS
    ]
    database.write_now(lambda connection: connection.execute(insert(USER_TABLE), users))
    accounts = Accounts(database, Keys.load(settings, clock), settings, clock)
    tokens = {user.id: await accounts.issue_token(user, lifetime_seconds=TOKEN_SECONDS) for user in USERS}
    return Installation(database, settings, tokens)


def _empty(connection: Connection) -> None:
    for table in EMPTIED:
        connection.execute(text(f"DELETE FROM {table}"))


class MemoryTransport(asyncio.Transport):
    """The server's end of a connection: what it wrote stays in `sent` until `MemoryClient.deliver` takes it."""

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
        if len(self.sent) > HIGH_WATER_BYTES and not self._paused and self.protocol:
            self._paused = True
            self.protocol.pause_writing()

    def taken(self, number: int) -> bytes:
        """Return the next bytes; with the last of them a transport that is closing ends."""
        taken = bytes(self.sent[:number])
        del self.sent[:number]
        if self._paused and len(self.sent) <= HIGH_WATER_BYTES // 4 and self.protocol:
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
        """Do nothing: only what the test sends arrives."""

    def resume_reading(self) -> None:
        """Do nothing: only what the test sends arrives."""


class MemoryClient:
    """A client's end of a connection: whole text frames come out of it, however the bytes are cut into pieces."""

    def __init__(self, address: str, server: asyncio.Protocol, transport: MemoryTransport) -> None:
        self._client = ClientProtocol(parse_uri(address), max_size=2**20)
        self._server = server
        self._transport = transport
        transport.protocol = server
        server.connection_made(transport)
        self._client.send_request(self._client.connect())
        self._flush()

    @property
    def waiting(self) -> int:
        """Number of bytes on the way."""
        return len(self._transport.sent)

    def deliver(self, number: int) -> list[str]:
        """Deliver this number of bytes, and return the messages that are complete by then."""
        self._client.receive_data(self._transport.taken(number))
        events = self._client.events_received()
        self._flush()
        return [
            bytes(event.data).decode() for event in events if isinstance(event, Frame) and event.opcode is Opcode.TEXT
        ]

    def send(self, text: str) -> None:
        """Send a message."""
        self._client.send_text(text.encode())
        self._flush()

    def cut(self) -> None:
        """Cut the connection: what was on the way is lost."""
        self._transport.abort()

    def _flush(self) -> None:
        for data in self._client.data_to_send():
            if data and not self._transport.is_closing():
                self._server.data_received(data)


class MemoryServer:
    """One run of the server."""

    def __init__(
        self,
        installation: Installation,
        clock: QuickClock,
        *,
        direct: bool,
        accounts: type[Accounts] = Accounts,
        hub_limits: Mapping[str, int] = NO_LIMITS,
    ) -> None:
        self._installation = installation
        directory, settings = installation.settings.data_dir, installation.settings
        store = Store(installation.database)
        self.parts = build_parts(store, directory, RecordingExecutor(store), clock, hub=ProgressHub(**hub_limits))
        self.accounts = accounts(installation.database, Keys.load(settings, clock), settings, clock)
        direct_sender = DirectSender(self.parts.hub.wait_past)
        self._sending = asyncio.create_task(direct_sender.run())
        self.sockets = ProgressSockets(self.accounts, self.parts.queries, direct_sender, settings, clock)
        self._protocol = DirectProtocol if direct else WebSocketsSansIOProtocol
        self._config = uvicorn.Config(self._serve, interface="asgi3", ws_ping_interval=None, log_config=None)
        self._config.load()
        self._state = ServerState()

    def connect(self, user: User, query: str) -> MemoryClient:
        """Open a connection of this user."""
        protocol = self._protocol(self._config, self._state, {})
        address = f"ws://dashboard/api/ws/progress?token={self._installation.tokens[user.id]}&{query}"
        return MemoryClient(address, protocol, MemoryTransport())

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(asyncio.CancelledError):  # the server was killed
            await self.sockets.serve(WebSocket(scope, receive, send))

    def last_stored(self) -> int:
        """Return the newest position in the database."""
        newest = text("SELECT max(CASE WHEN seq > coalesce(removed_seq, 0) THEN seq ELSE removed_seq END) FROM job")
        return self._installation.database.read_now(lambda connection: connection.execute(newest).scalar()) or 0

    async def kill(self) -> None:
        """End the run as kill -9 does: nothing that is under way continues."""
        for connection in list(self._state.connections):
            connection.transport.abort()
        tasks = [self._sending, *self._state.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_loop() -> None:
    """Let the server do all that it can do now."""
    for _ in range(LOOP_TURNS):
        await asyncio.sleep(0)
