"""The runs of videos on workers (PostgreSQL): a row from the moment that a run is handed over until its end is stored.

The tick that stores how a run ended deletes its row, so that the outcome is in one place at any moment. Procrastinate
only says to workers that there is a run to claim; its job is made in the transaction that makes the row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from backend.store.workers import MAX_LOSSES, WorkerRow, sent_json, workers

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from backend.store.database import Database

TASK = "run_video"  # the engine's name of the work on a run
QUEUE_LENGTH = 40  # characters of a processor's name: longer ones do not fit into the engine's notifications
MAX_SENT = 500  # rows of a statement


class NewRun(msgspec.Struct, frozen=True):
    """A run to be handed over; `place` is its number among those of one call."""

    place: int
    job_id: str
    position: int
    attempt: int
    try_number: int = msgspec.field(name="try", default=1)
    processor: str = ""
    spec: Mapping[str, Any] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunState:
    """What became of a run; `state` is None if there is no such row any more."""

    id: int
    state: str | None
    changes: int
    taken: int
    worker: str | None
    losses: int
    fraction: float
    doing: str
    outcome: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A run that nobody of this server waits for. `is_due`: its job goes on, and will ask for it."""

    id: int
    state: str
    wanted: bool
    worker: str | None
    is_due: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What the server sees each second on one view.

    Workers, those at which runs are at work (`holders`), runs that the engine has lost, runs that nobody waits for,
    and jobs of the engine without a run.
    """

    workers: Sequence[WorkerRow]
    holders: Collection[str]
    unscheduled: Collection[int]
    strays: Sequence[Stray]
    leftovers: Collection[int]


# The texts are made of our own names only.
# ruff: noqa: S608
_SENT = (
    "WITH sent AS (SELECT * FROM json_to_recordset(%s::json) AS sent (place INTEGER, job_id TEXT, position INTEGER, "
    "attempt INTEGER, try INTEGER, processor TEXT, spec JSON))"
)
_KEY = "run.job_id = sent.job_id AND run.position = sent.position AND run.attempt = sent.attempt AND run.try = sent.try"
_DEFER = (  # one call for all, and one notification
    f"SELECT procrastinate_defer_jobs_v1(array_agg((left(processor, {QUEUE_LENGTH}), '{TASK}', 0, NULL, NULL, "
    "jsonb_build_object('run', id), NULL)::procrastinate_job_to_defer_v1 ORDER BY id)) FROM {source} "
    "HAVING count(*) > 0"
)
_MAKE = (
    f"{_SENT}, made AS (INSERT INTO run (job_id, position, attempt, try, processor, spec) "
    "SELECT job_id, position, attempt, try, processor, spec FROM sent ORDER BY place "
    f"ON CONFLICT (job_id, position, attempt, try) DO NOTHING RETURNING id, processor) {_DEFER.format(source='made')}"
)
_FIND = f"{_SENT} SELECT sent.place, run.id FROM sent JOIN run ON {_KEY}"
_LOOK = (
    "WITH known AS (SELECT * FROM json_to_recordset(?::json) AS known (id BIGINT, changes INTEGER)) "
    "SELECT known.id, state, run.changes, taken, worker, losses, fraction, doing, outcome "
    "FROM known LEFT JOIN run ON run.id = known.id WHERE run.id IS NULL OR run.changes <> known.changes "
    "OR run.state IN ('ended', 'stopped')"  # a crash of PostgreSQL may have taken steps back, and with them their count
)
_IN_FLIGHT = "SELECT position, max(try) FROM run WHERE job_id = %s AND attempt = %s GROUP BY position"
_OF_JOB = "SELECT id FROM run WHERE job_id = %s"
_OF_JOBS = "SELECT DISTINCT job_id FROM run WHERE job_id = ANY(%s) AND state IN ('waiting', 'running')"
_WITHDRAW = (
    "UPDATE run SET wanted = false, state = CASE state WHEN 'waiting' THEN 'stopped' ELSE state END, "
    "changes = changes + 1 WHERE id = ANY(%s) AND wanted AND (state = 'waiting' OR %s)"
)
_ABORT = (
    "SELECT procrastinate_cancel_job_v1(id, true, true) FROM procrastinate_jobs WHERE (args->>'run')::BIGINT = ANY(%s)"
)
_DELETE = "DELETE FROM run WHERE id = ANY(%s)"
_UNDEFER = "DELETE FROM procrastinate_jobs WHERE (args->>'run')::BIGINT = ANY(%s) AND status <> 'doing'"
_DEFER_AGAIN = _DEFER.format(source="run WHERE id = ANY(%s) AND state = 'waiting' AND wanted")
_SEND_ELSEWHERE = (
    "UPDATE run SET state = CASE WHEN wanted THEN 'waiting' ELSE 'stopped' END, worker = NULL, outcome = NULL, "
    "changes = changes + 1 WHERE id = ANY(%s) AND state = 'ended'"
)
_LOSE = (
    "UPDATE run SET state = CASE WHEN wanted AND losses + 1 < %s THEN 'waiting' ELSE 'stopped' END, worker = NULL, "
    "losses = losses + 1, changes = changes + 1 WHERE worker = ANY(%s) AND state = 'running' RETURNING id, state"
)
_UNSCHEDULED = (
    "SELECT id FROM run WHERE state = 'waiting' AND wanted AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs AS job "
    "WHERE job.status = 'todo' AND (job.args->>'run')::BIGINT = run.id)"
)
_HOLDERS = "SELECT DISTINCT worker FROM run WHERE state = 'running'"
_LEFTOVERS = (
    "SELECT job.id FROM procrastinate_jobs AS job WHERE NOT EXISTS (SELECT 1 FROM run "
    "WHERE run.id = (job.args->>'run')::BIGINT AND run.state IN ('waiting', 'running'))"
)
_DROP_LEFTOVERS = "DELETE FROM procrastinate_jobs WHERE id = ANY(%s)"
_STRAYS = (
    "SELECT run.id, run.state, run.wanted, run.worker, coalesce(job.attempt = run.attempt "
    "AND job.status IN ('pending', 'processing') AND NOT EXISTS (SELECT 1 FROM run AS next "
    "WHERE next.job_id = run.job_id AND next.position = run.position AND next.attempt = run.attempt "
    "AND next.try > run.try), false) AS is_due FROM run LEFT JOIN job ON job.id = run.job_id WHERE run.id <> ALL(%s)"
)


class RunStore:
    """What the server asks and says about runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hand_over(self, new: Sequence[NewRun]) -> list[int]:
        """Make these runs, or find those that were made before, and return their IDs in the same order."""

        def write(connection: Connection) -> list[int]:
            ids: dict[int, int] = {}
            for some in _parts(new):
                sent = (sent_json(some),)
                connection.exec_driver_sql(_MAKE, sent)
                ids.update({row.place: row.id for row in connection.exec_driver_sql(_FIND, sent)})
            return [ids[run.place] for run in new]

        return await self._database.write(write)

    async def look(self, known: Mapping[int, int]) -> list[RunState]:
        """Return the runs that changed since (ID to `changes`), or that are gone."""
        sent = sent_json([{"id": run_id, "changes": changes} for run_id, changes in known.items()])
        return await self._database.read_by_cursor(
            lambda cursor: [RunState(*row) for row in cursor.execute(_LOOK, (sent,)).fetchall()]
        )

    async def database_id(self) -> str:
        """Return the ID of the database, which moves with its data."""
        [(database_id,)] = await self._rows("SELECT database_id::TEXT FROM life", ())
        return str(database_id)

    async def in_flight(self, job_id: str, attempt: int) -> dict[int, int]:
        """Return the runs of this attempt of the job that are stored: position to try."""
        return dict(await self._rows(_IN_FLIGHT, (job_id, attempt)))

    async def of_job(self, job_id: str) -> list[int]:
        """Return the IDs of all runs of the job."""
        return [run_id for (run_id,) in await self._rows(_OF_JOB, (job_id,))]

    async def jobs_in_flight(self, job_ids: Iterable[str]) -> set[str]:
        """Return those of the jobs that have runs which may be at work."""
        return {job_id for (job_id,) in await self._rows(_OF_JOBS, (list(job_ids),))}

    async def withdraw(self, ids: Sequence[int], *, is_running: bool = True) -> None:
        """Ask for the end of these runs: those that wait are stopped at once, running ones by their workers.

        `is_running=False` leaves the running ones alone.
        """
        abort = _ABORT if is_running else _UNDEFER
        await self._execute((_WITHDRAW, (list(ids), is_running)), (abort, (list(ids),)))

    async def delete(self, ids: Sequence[int]) -> None:
        """Delete runs that have ended, whose outcome nobody wants."""
        await self._execute((_DELETE, (list(ids),)))

    async def schedule(self, ids: Sequence[int]) -> None:
        """Offer runs that wait to the workers again."""
        await self._execute((_UNDEFER, (list(ids),)), (_DEFER_AGAIN, (list(ids),)))

    async def send_elsewhere(self, ids: Sequence[int]) -> None:
        """Let runs that ended by the fault of a machine wait for another one."""
        await self._execute((_SEND_ELSEWHERE, (list(ids),)), (_UNDEFER, (list(ids),)), (_DEFER_AGAIN, (list(ids),)))

    async def lose(self, worker_names: Sequence[str]) -> list[int]:
        """Let the runs of workers that are lost begin elsewhere, and return their IDs; after `MAX_LOSSES` they end."""

        def write(connection: Connection) -> list[int]:
            lost = connection.exec_driver_sql(_LOSE, (MAX_LOSSES, list(worker_names))).all()
            ids = [row.id for row in lost]
            if ids:
                connection.exec_driver_sql(_UNDEFER, (ids,))
                connection.exec_driver_sql(_DEFER_AGAIN, (ids,))
            return ids

        return await self._database.write(write)

    async def drop_leftovers(self, engine_ids: Sequence[int]) -> None:
        """Delete jobs of the engine whose run needs no worker any more."""
        await self._execute((_DROP_LEFTOVERS, (list(engine_ids),)))

    async def look_round(self, awaited: Collection[int]) -> Round:
        """Return what there is, beside the runs that are awaited."""

        def read(connection: Connection) -> Round:
            return Round(
                workers=workers(connection),
                holders=set(connection.exec_driver_sql(_HOLDERS).scalars()),
                unscheduled=set(connection.exec_driver_sql(_UNSCHEDULED).scalars()),
                strays=[Stray(**row._mapping) for row in connection.exec_driver_sql(_STRAYS, (list(awaited),))],
                leftovers=set(connection.exec_driver_sql(_LEFTOVERS).scalars()),
            )

        return await self._database.read(read)

    async def _rows(self, statement: str, values: tuple[Any, ...]) -> Sequence[Any]:
        return await self._database.read(lambda connection: connection.exec_driver_sql(statement, values).all())

    async def _execute(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        def write(connection: Connection) -> None:
            for statement, values in statements:
                connection.exec_driver_sql(statement, values)

        await self._database.write(write)


def delete_ended(connection: Connection, ids: Sequence[int]) -> None:
    """Delete the runs whose end is stored by this transaction."""
    connection.exec_driver_sql(_DELETE, (list(ids),))


def _parts(new: Sequence[NewRun]) -> Iterable[Sequence[NewRun]]:
    return (new[start : start + MAX_SENT] for start in range(0, len(new), MAX_SENT))
