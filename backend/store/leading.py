"""Who may write: one server of a PostgreSQL database leads, and each of its transactions begins with the proof.

The session lock on the writing connection says that the leader is connected. The row `life` is the fence: a server that
was cut off or frozen, and lost the lock meanwhile, finds the number of another one in it and can commit nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine

from backend import VERSION
from backend.errors import CannotStart, LeadLost, StoreRefused

LOCK = 7_363_521  # any number, the same in all versions: advisory locks count for one database
SEEN_SECONDS = 10  # since a leader without the lock was seen last, after which it counts as gone
ENDING_SECONDS = 3  # for the connection of a server that was killed
POLL_SECONDS = 0.1
_TRY = f"SELECT pg_try_advisory_lock({LOCK})"
_LOOK = "SELECT node, process, since, seen_at, seen_at > now() - make_interval(secs => %s) AS is_fresh FROM life"
_TAKE = (
    "UPDATE life SET life = life + 1, node = %s, process = %s, version = %s, backend_pid = pg_backend_pid(), "
    "since = now(), seen_at = now() RETURNING life"
)
_RETAKE = "UPDATE life SET backend_pid = pg_backend_pid(), seen_at = now() WHERE life = %s RETURNING 1"
_BEAT = "UPDATE life SET seen_at = now() WHERE life = %s RETURNING 1"
_TICK = (
    "UPDATE life SET seq = %s, seen_at = now() FROM (SELECT seq AS before FROM life) AS old WHERE life = %s "
    "RETURNING before"
)
_END_OLD = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY(%s) AND pid <> pg_backend_pid()"
_RESIGN = "UPDATE life SET seen_at = NULL WHERE life = %s"


@dataclass(frozen=True, slots=True)
class Leader:
    """The server that leads, or led last, as the database knows it."""

    node: str | None
    process: int | None
    since: datetime | None
    seen_at: datetime | None
    is_fresh: bool | None

    @property
    def is_dead(self) -> bool:
        """True if it was a process of this machine that is no longer there."""
        return self.node == socket.gethostname() and self.process is not None and not _exists(self.process)

    def __str__(self) -> str:
        return f"process {self.process} on {self.node} leads on its database {self._since}"

    @property
    def name(self) -> str:
        """Who it is, and since when it leads."""
        return f"process {self.process} on {self.node} leads {self._since}"

    @property
    def _since(self) -> str:
        return f"since {self.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if self.since else "now"


@dataclass(slots=True)
class Lead:
    """The lead of this server, from the moment that it has it."""

    life: int | None = None
    backends: set[int] = field(default_factory=set)

    def take(self, engine: Engine, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Become the leader. Raises `CannotStart` if another server is, with its name."""
        first, began = None, time.monotonic()
        while True:
            with engine.begin() as connection:
                leader = _leader(connection)
                first = first or leader
                has_lock = bool(connection.exec_driver_sql(_TRY).scalar())
                if has_lock and (leader.is_dead or not leader.is_fresh):
                    name = (socket.gethostname(), os.getpid(), VERSION)
                    self.life = connection.exec_driver_sql(_TAKE, name).scalar_one()
                    self._note(connection.connection.dbapi_connection)
                    return
                if has_lock:
                    connection.exec_driver_sql(f"SELECT pg_advisory_unlock({LOCK})")
            is_alive = leader.seen_at != first.seen_at and not leader.is_dead
            if is_alive or (not has_lock and time.monotonic() - began > ENDING_SECONDS):
                raise CannotStart(
                    f"Another server uses this database: {leader.name}; stop it, or use another database."
                )
            sleep(POLL_SECONDS)

    def retake(self, connection: psycopg.Connection[Any]) -> None:
        """Prove on a new connection that this server still leads, which has had the lead before.

        Raises `LeadLost` if another server leads, `StoreRefused` while the old connection of this one is not gone.
        """
        if self.life is None:
            return
        with connection.transaction():
            has_lock = connection.execute(_TRY).fetchone() == (True,)
            if connection.execute(_RETAKE, (self.life,)).fetchone() is None:
                raise lead_lost(connection)
            if not has_lock:
                connection.execute(_END_OLD, (list(self.backends),))
        if not has_lock:
            raise StoreRefused("The data cannot be written right now (its last connection is ending); try again.")
        self._note(connection)

    def prove(self, connection: Connection) -> None:
        """Begin a transaction. Raises `LeadLost`."""
        if connection.exec_driver_sql(_BEAT, (self.life,)).first() is None:
            raise lead_lost(_driver(connection))

    def is_new(self, connection: Connection, seq: int) -> bool:
        """Begin the transaction of a tick that ends with `seq`; False if it was stored before. Raises `LeadLost`."""
        before = connection.exec_driver_sql(_TICK, (seq, self.life)).first()
        if before is None:
            raise lead_lost(_driver(connection))
        return bool(before[0] != seq)

    def resign(self, engine: Engine) -> None:
        """Let the next server lead at once."""
        with engine.begin() as connection:
            connection.exec_driver_sql(_RESIGN, (self.life,))

    def _note(self, connection: Any) -> None:
        self.backends.add(connection.info.backend_pid)


def lead_lost(connection: psycopg.Connection[Any]) -> LeadLost:
    """Return the error of a server that finds another one in its place."""
    row = connection.execute(_LOOK, (SEEN_SECONDS,)).fetchone()
    leader = Leader(*row) if row else "another server leads on its database"
    return LeadLost(f"This server stopped and wrote nothing more, because {leader}.")


def _leader(connection: Connection) -> Leader:
    return Leader(*connection.exec_driver_sql(_LOOK, (SEEN_SECONDS,)).one())


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    found: Any = connection.connection.dbapi_connection
    return found  # type: ignore[no-any-return]


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
