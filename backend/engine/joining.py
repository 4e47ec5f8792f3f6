"""How a worker joins: it fits the server, sees the same outputs, and nobody else has its name."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from backend.clock import Clock
from backend.command import command
from backend.engine.line import Line, LineLost
from backend.engine.marker import unseen
from backend.engine.reporter import BEAT_SECONDS, Name
from backend.engine.watch import MARGIN_SECONDS
from backend.errors import CannotStart
from backend.executors.runs import machine_name
from backend.processors import names
from backend.settings import MAX_SLOTS
from backend.store.revisions import newest_revision
from backend.store.worker_role import MISSING
from backend.store.workers import WorkerSql, sent_json
from progress_dashboard.version import VERSION

MAX_NAME_LENGTH = 64
CONNECTIONS = 4  # the line, one that listens, two for the engine's statements


class NameTaken(CannotStart):
    """A worker of this name works already; give each its own with --name."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a worker says of itself when it joins."""

    name: Name
    slots: int
    processors: tuple[str, ...]
    version: str = VERSION

    @classmethod
    def of_process(cls, *, slots: int, name: str | None = None, processors: Sequence[str] | None = None) -> Identity:
        """Return the identity of a worker in this process, by default named after its host, with all its processors.

        Raises `CannotStart` for a name or a number that cannot be one.
        """
        name = machine_name() if name is None else name.strip()
        if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise CannotStart(f"The name of a worker has 1 to {MAX_NAME_LENGTH} characters that can be read.")
        if not 1 <= slots <= MAX_SLOTS:
            raise CannotStart(f"The slots of a worker are from 1 to {MAX_SLOTS:,}.")
        whole = Name(name, socket.gethostname(), os.getpid())
        return cls(whole, slots, tuple(names() if processors is None else processors))

    @property
    def values(self) -> dict[str, Any]:
        """The values of statements."""
        return {"worker": self.name.worker, "node": self.name.node, "process": self.name.process}


async def join(
    line: Line, identity: Identity, outputs: Path, clock: Clock, *, lease_seconds: float, again: bool = False
) -> str:
    """Join and return the database's ID; the runs of an earlier worker of this name are given back.

    `again`: this worker was forgotten, and holds its runs. Raises `CannotStart`.
    """
    try:
        database_id = await _checked(line, outputs)
        if not again:
            await _until_free(line, identity, clock, lease_seconds)
        elif await line.rows(WorkerSql.BEATS, identity.values):
            raise NameTaken(f'Another worker took the name "{identity.name.worker}"; give each its own with --name.')
        await line.rows(WorkerSql.JOIN, _joining(identity))
        if not again:
            await line.rows(WorkerSql.RETURN_OLD, identity.values)
            await line.rows(WorkerSql.NOTIFY)
        await line.rows(WorkerSql.NOTIFY_OF_ITSELF)
    except psycopg.errors.InsufficientPrivilege as error:
        raise _no_rights(error.diag.message_primary or "permission denied") from None
    except LineLost as error:
        if again:
            raise
        raise CannotStart(f"PostgreSQL does not answer ({error.sentence}); try again.") from None
    return database_id


def other_version(other: str) -> str:
    """Return the sentence of a worker that does not fit its server."""
    return (
        f"The server has {other}, this worker has version {VERSION} with the schema {newest_revision()}; "
        "install the same version on both."
    )


async def _checked(line: Line, outputs: Path) -> str:
    """Return the database's ID. Raises `CannotStart` unless its server is of this version and has these outputs."""
    try:
        [(revision, database_id, version)] = await line.rows(WorkerSql.SCHEMA)
        lacking = await line.rows(MISSING)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, ValueError):
        raise CannotStart(
            f"The database is not one of this version's servers ({VERSION}); start the server on it first, or install "
            "its version here."
        ) from None
    if (version or VERSION) != VERSION or revision != newest_revision():
        known = version in (None, VERSION)
        raise CannotStart(other_version(f"the schema {revision}" if known else f"version {version}"))
    if lacking:
        raise _no_rights(", ".join(right for (right,) in lacking))
    [(room,)] = await line.rows(WorkerSql.ROOM)
    if room < CONNECTIONS - 1:
        raise CannotStart(
            f"PostgreSQL has {max(0, room)} connections left, a worker needs {CONNECTIONS}; raise its max_connections, "
            "or stop another worker."
        )
    if sentence := unseen(outputs, database_id):
        raise CannotStart(sentence)
    return str(database_id)


async def _until_free(line: Line, identity: Identity, clock: Clock, lease_seconds: float) -> None:
    """Return when no process of a worker of this name can be left. Raises `CannotStart` if that worker lives."""
    rows = await line.rows(WorkerSql.BEATS, identity.values)
    if not rows or _is_dead(rows[0][1], rows[0][2], identity.name):
        return
    [(beats, node, process)], waited = rows, 0.0
    while waited < lease_seconds + MARGIN_SECONDS:
        await clock.sleep(BEAT_SECONDS)
        waited += BEAT_SECONDS
        rows = await line.rows(WorkerSql.BEATS, identity.values)
        if not rows or rows[0][1:] == (identity.name.node, identity.name.process):
            return
        if rows[0] != (beats, node, process):
            raise NameTaken(
                f'A worker of the name "{identity.name.worker}" works already (process {rows[0][2]} on {rows[0][1]}); '
                f"give this one another name: `{command('worker --name NAME')}`."
            )


def _is_dead(node: str, process: int, own: Name) -> bool:
    """Return True if that process of this machine is gone; its processes went with it."""
    if node != own.node:
        return False
    if process == own.process:  # of an earlier container
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _joining(identity: Identity) -> dict[str, Any]:
    return {
        **identity.values,
        "slots": identity.slots,
        "version": identity.version,
        "revision": newest_revision(),
        "processors": sent_json(identity.processors),
        "engine": None,
    }


def _no_rights(lacking: str) -> CannotStart:
    return CannotStart(
        f"The database user of this worker lacks rights ({lacking.rstrip('.')}); as the owner of the database, run "
        f"what `{command('worker --print-role')}` prints."
    )
