"""The machines that work on videos (PostgreSQL): a row each. Also all that a worker itself says to the database.

`WorkerSql` are the texts of the worker's own connection (psycopg, marks `%(name)s`); the server's go through
`Database`. Each write to a run is fenced: only who took it last, and still holds it, may say something about it. What
the server allows a worker is one number, `may_run`: its slots, fewer, or none while it rests or drains.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from backend.store.connecting import NUL_SHOWN

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from backend.store.database import Database

MAX_LOSSES = 5  # of a run with its worker, after which it is stopped
ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")  # not after a backslash that is a character itself


class WorkerSql:
    """The worker's own statements. `runs` in `REPORT` is a JSON array of `ReportedRun`."""

    SCHEMA: Final = (
        "SELECT version_num, (SELECT database_id::text FROM life), (SELECT version FROM life) FROM alembic_version"
    )
    """The revision of the schema, the ID of the database, and the version of the server that led last."""
    ROOM: Final = """
        SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - count(*) FILTER (WHERE usesysid IS NOT NULL AND datid IS NOT NULL) FROM pg_stat_activity
    """
    """How many connections PostgreSQL has left."""
    BEATS: Final = "SELECT beats, node, process FROM worker WHERE name = %(worker)s"
    JOIN: Final = """
        INSERT INTO worker
            (name, node, process, slots, may_run, version, revision, processors, engine_id, seen_at, since)
        VALUES (%(worker)s, %(node)s, %(process)s, %(slots)s, %(slots)s, %(version)s, %(revision)s,
            %(processors)s::json, %(engine)s, now(), now())
        ON CONFLICT (name) DO UPDATE SET node = excluded.node, process = excluded.process, slots = excluded.slots,
            version = excluded.version, revision = excluded.revision, processors = excluded.processors,
            engine_id = excluded.engine_id, running = 0, beats = worker.beats + 1, draining = false,
            may_run = least(excluded.slots, coalesce(worker.cap, excluded.slots)),
            resting = NULL, seen_at = now(), since = now()
    """
    RETURN_OLD: Final = f"""
        UPDATE run SET state = CASE WHEN wanted AND losses + 1 < {MAX_LOSSES} THEN 'waiting' ELSE 'stopped' END,
            worker = NULL, losses = losses + 1, changes = changes + 1
        WHERE worker = %(worker)s AND state = 'running' RETURNING id
    """  # noqa: S608  our own number
    """The runs of a worker of this name that has died: their processes died with it."""
    CLAIM: Final = """
        UPDATE run SET state = 'running', worker = %(worker)s, taken = taken + 1, fraction = 0, doing = '',
            changes = changes + 1
        WHERE id = %(run)s AND (
            (state = 'waiting' AND wanted AND EXISTS (SELECT 1 FROM worker WHERE name = %(worker)s AND may_run > 0))
            OR (%(again)s AND state = 'running' AND worker = %(worker)s)
        )
        RETURNING taken, job_id, position, attempt, try, processor, spec
    """
    """No row: another worker has it, nobody wants it any more, or this worker may not run anything now.

    `again` is True if the answer to an earlier claim was lost: that claim may have been stored.
    """
    REPORT: Final = """
        WITH sent AS (
            SELECT * FROM json_to_recordset(%(runs)s::json)
            AS sent (id BIGINT, taken INTEGER, fraction REAL, doing TEXT, state TEXT, outcome JSON)
        ), beat AS (
            UPDATE worker SET beats = beats + 1, running = %(running)s, seen_at = now() WHERE name = %(worker)s
            AND process = %(process)s AND node = %(node)s RETURNING may_run
        ), engine AS (
            UPDATE procrastinate_workers SET last_heartbeat = now() WHERE id = %(engine)s
        ), changed AS (
            UPDATE run SET fraction = coalesce(sent.fraction, run.fraction), doing = coalesce(sent.doing, run.doing),
                state = CASE WHEN sent.state = 'waiting' AND NOT run.wanted THEN 'stopped'
                    ELSE coalesce(sent.state, run.state) END, outcome = coalesce(sent.outcome, run.outcome),
                worker = CASE WHEN sent.state = 'waiting' THEN NULL ELSE run.worker END, changes = run.changes + 1
            FROM sent WHERE run.id = sent.id AND run.taken = sent.taken AND run.worker = %(worker)s
                AND run.state = 'running' AND (sent.fraction IS NOT NULL OR sent.state IS NOT NULL)
            RETURNING run.id, run.wanted
        ), unchanged AS (
            SELECT run.id, run.wanted FROM sent JOIN run ON run.id = sent.id AND run.taken = sent.taken
            WHERE run.worker = %(worker)s AND run.state = 'running' AND sent.fraction IS NULL AND sent.state IS NULL
        )
        SELECT (SELECT may_run FROM beat), (SELECT version FROM life),
            (SELECT json_object_agg(id, wanted) FROM (TABLE changed UNION ALL TABLE unchanged) AS held)
    """
    """One beat with all news: `may_run` (NULL: another process has the name), the version of the server, and the runs
    that it still holds, each with True if it is wanted. A run that is missing there belongs to another worker: end it.

    The states that a worker may give a run: `ended` with an outcome, `stopped` (it was not wanted, its process is
    gone), `waiting` (given back before its end).
    """
    NOTIFY: Final = "NOTIFY runs"
    """After a report with news, in a transaction of its own: the server looks at what changed."""
    NOTIFY_OF_ITSELF: Final = "NOTIFY workers"
    """After it has joined or returned runs: the server looks at the workers at once."""
    DRAIN: Final = (
        "UPDATE worker SET draining = true WHERE name = %(worker)s AND process = %(process)s AND node = %(node)s"
    )
    """It begins no further run, and ends after those that it has."""
    LEAVE: Final = "DELETE FROM worker WHERE name = %(worker)s AND process = %(process)s AND node = %(node)s"


class ReportedRun(msgspec.Struct, frozen=True):
    """What a worker says about one of its runs; None: nothing new."""

    id: int
    taken: int
    fraction: float | None = None
    doing: str | None = None
    state: str | None = None
    outcome: msgspec.Raw | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A worker as the database knows it."""

    name: str
    node: str
    process: int
    slots: int
    cap: int | None
    may_run: int
    draining: bool
    version: str
    processors: tuple[str, ...]
    beats: int
    running: int
    seen_at: datetime
    since: datetime
    resting: str | None


_COLUMNS = (
    "name, node, process, slots, cap, may_run, draining, version, processors, beats, running, seen_at, since, resting"
)
_ALL = f"SELECT {_COLUMNS} FROM worker ORDER BY name"  # noqa: S608  our own names
_ALLOW = "UPDATE worker SET may_run = %s, resting = %s WHERE name = %s"
_CHANGE = (
    "UPDATE worker SET cap = coalesce(%s, cap), draining = coalesce(%s, draining) WHERE name = %s "  # noqa: S608
    f"RETURNING {_COLUMNS}"
)
_FORGET = "DELETE FROM worker WHERE name = %s AND beats = %s"


def workers(connection: Connection) -> list[WorkerRow]:
    """Return all workers, in the order of their names."""
    return [WorkerRow(**_fields(dict(row._mapping))) for row in connection.exec_driver_sql(_ALL)]


class WorkerStore:
    """What the server decides about workers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def allow(self, decisions: Sequence[tuple[str, int, str | None]]) -> None:
        """Say how many videos workers may run, and for which fault they rest: (name, number, sentence)."""
        rows = [(number, resting, name) for name, number, resting in decisions]
        await self._database.write(lambda connection: connection.exec_driver_sql(_ALLOW, rows))

    async def change(self, name: str, *, cap: int | None, draining: bool | None) -> WorkerRow | None:
        """Store what an administrator asks of a worker, where it is not None, and return it; None if it has left."""

        def write(connection: Connection) -> WorkerRow | None:
            row = connection.exec_driver_sql(_CHANGE, (cap, draining, name)).first()
            return None if row is None else WorkerRow(**_fields(dict(row._mapping)))

        return await self._database.write(write)

    async def forget(self, silent: Sequence[tuple[str, int]]) -> None:
        """Delete workers that are gone: (name, beats), unless they have come back."""
        await self._database.write(lambda connection: connection.exec_driver_sql(_FORGET, list(silent)))


def sent_json(value: Any) -> str:
    """Return the value as JSON that PostgreSQL takes apart, which refuses NUL in texts."""
    return ESCAPED_NUL.sub(rf"\1{NUL_SHOWN}", msgspec.json.encode(value).decode())


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "processors": tuple(row["processors"])}
