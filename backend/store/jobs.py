"""Reads of jobs, and the erasure of deleted ones.

Who may see a job is decided here, once: a query takes `owner_id`, None for everybody's jobs (administrators).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, exists, func, or_, select, update
from sqlalchemy.engine import Row

from backend.clock import from_millis, iso_of_millis
from backend.domain.job import ExportedJob, Job
from backend.store.database import Database
from backend.store.job_lists import PAST, PRESENT, Wanted, count_jobs, find_page, walk
from backend.store.pages import Page, cursor_of, position_in
from backend.store.problem_tables import FAILING, JOB_ACTIONS
from backend.store.rows import past as past_value
from backend.store.rows import rows_at_once
from backend.store.tables import (
    EVENTS,
    FORECASTS,
    JOB_COLUMNS,
    JOBS,
    KEYS,
    MILESTONES,
    RESULTS,
    TOMBSTONES,
    TRACES,
    USERS,
    VIDEOS,
)
from backend.store.videos import error_contains

ERASED_AT_ONCE = 500
EXPORTED_AT_ONCE = 3_000
NAMED_AT_ONCE = 500
LINE = (
    "owner_id",
    "name",
    "status",
    "total_videos",
    "failed",
    "error",
    "attempt",
    "processor",
    *ExportedJob._fields[-2:],
)
FIELDS = (*JOB_COLUMNS, "owner")
_USE_LESS = (
    update(TRACES).where(TRACES.c.digest == bindparam("b_digest")).values(uses=TRACES.c.uses - bindparam("b_uses"))
)


class JobStore:
    """Jobs in the database. Every read sees committed data only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def on_dashboard(self) -> list[Job]:
        """Return the jobs on anybody's dashboard, in the order of their `seq`."""
        return await self._jobs(select_jobs().where(PRESENT).order_by(JOBS.c.seq))

    async def removals(self, limit: int) -> list[tuple[str, str, int]]:
        """Return (job ID, owner ID, seq) of the newest jobs that left the dashboard, oldest first."""
        left = select(JOBS.c.id, JOBS.c.owner_id, JOBS.c.removed_seq).where(PAST)
        deleted = select(TOMBSTONES.c.job_id, TOMBSTONES.c.owner_id, TOMBSTONES.c.removed_seq)
        found: list[Any] = []
        for query, seq in ((left, JOBS.c.removed_seq), (deleted, TOMBSTONES.c.removed_seq)):
            found += [tuple(row) for row in await self._all(query.order_by(seq.desc()).limit(limit))]
        return sorted(found, key=itemgetter(2))[-limit:]

    async def last_seq(self) -> int:
        """Return the newest position that was ever stored, 0 in an empty database."""
        past = [select(func.max(column)).where(PAST) for column in (past_value(JOBS.c.seq), JOBS.c.removed_seq)]
        present = [select(func.max(JOBS.c[name])).where(PRESENT) for name in ("seq", "removed_seq")]
        deleted = select(func.max(TOMBSTONES.c.removed_seq))
        found = [(await self._all(query))[0][0] for query in (*past, *present, deleted)]
        return max(seq or 0 for seq in found)

    async def find(self, job_id: str, *, owner_id: str | None) -> Job | None:
        """Return the job, or None if there is none that this owner may see."""
        found = await self._jobs(_visible(select_jobs().where(JOBS.c.id == job_id), owner_id))
        return found[0] if found else None

    async def find_many(self, job_ids: Collection[str], *, owner_id: str | None) -> list[Job]:
        """Return those of the jobs that this owner may see, in the order of their IDs."""
        wanted, found = sorted(job_ids), list[Job]()
        for first in range(0, len(wanted), NAMED_AT_ONCE):
            some = select_jobs().where(JOBS.c.id.in_(wanted[first : first + NAMED_AT_ONCE])).order_by(JOBS.c.id)
            found += await self._jobs(_visible(some, owner_id))
        return found

    async def columns(self, job_id: str) -> tuple[str, ...]:
        """Return the header of the job's own list, () without one."""
        rows = await self._all(select(JOBS.c.columns).where(JOBS.c.id == job_id))
        columns: tuple[str, ...] = rows[0].columns
        return columns

    async def page(self, wanted: Wanted, *, limit: int, cursor: str | None) -> Page[Job]:
        """Return a page of jobs; one of a search may be short, or empty, and lead on (`store.job_lists`)."""

        def read(connection: Connection) -> Page[Job]:
            found = find_page(connection, wanted, limit=limit, cursor=cursor)
            rows = connection.execute(select_jobs(JOBS.c.number).where(JOBS.c.number.in_(found.numbers))).all()
            jobs = {number: Job(**dict(zip(FIELDS, fields, strict=True))) for number, *fields in rows}
            return Page([jobs[number] for number in found.numbers], found.next_cursor)

        return await self._database.read(read)

    async def lines(self, wanted: Wanted, *, cursor: str | None) -> Page[ExportedJob]:
        """Return the next jobs of a list, for an export."""

        def read(connection: Connection) -> Page[ExportedJob]:
            if wanted.q or wanted.only:
                return _found_lines(connection, wanted, cursor)
            after = None if cursor is None else position_in(wanted.key, cursor)
            owners = {row.id: row.name for row in connection.execute(select(USERS.c.id, USERS.c.name))}
            rows = rows_at_once(connection, walk(connection, wanted, after, EXPORTED_AT_ONCE, *LINE))
            more = len(rows) == EXPORTED_AT_ONCE
            next_cursor = cursor_of(from_millis(rows[-1][1]), rows[-1][2]) if more else None
            return Page([_line(row, owners) for row in rows], next_cursor)

        return await self._database.read(read)

    async def ids_with_video(self, q: str, *, owner_id: str | None) -> list[str]:
        """Return the IDs of the owner's jobs on the dashboard with a video whose ID begins with `q` or error has it.

        Searches the videos of these jobs, whose number is bounded, and not the index of all IDs, where one or two
        letters begin most of what ever ran.
        """
        begins = func.substr(VIDEOS.c.video_id, 1, len(q)) == q
        on_dashboard = _visible(select(JOBS.c.id).where(PRESENT), owner_id)
        found = [exists().where(VIDEOS.c.job_id == JOBS.c.id, wanted) for wanted in (begins, error_contains(q))]
        rows = await self._all(on_dashboard.where(or_(*found)))
        return [row.id for row in rows]

    async def count_wanted(self, wanted: Wanted) -> int | None:
        """Return how many jobs a list has; None for very many, or if that would take too long."""
        return await self._database.read(lambda connection: count_jobs(connection, wanted))

    async def count(self, *, owner_id: str | None) -> int:
        """Return the number of jobs that this owner may see."""
        parts = [_visible(select(func.count()).select_from(JOBS).where(part), owner_id) for part in (PRESENT, PAST)]
        return sum([(await self._all(query))[0][0] for query in parts])

    async def made_with_key(self, user_id: str, key: str) -> tuple[str, str] | None:
        """Return (job ID, request hash) of the job that this idempotency key made; None if it made none."""
        query = select(KEYS.c.job_id, KEYS.c.request_hash).where(KEYS.c.user_id == user_id, KEYS.c.key == key)
        rows = await self._all(query)
        return (rows[0].job_id, rows[0].request_hash) if rows else None

    async def deleted(self) -> list[str]:
        """Return the IDs of deleted jobs of which there are still rows."""
        rows = await self._all(select(TOMBSTONES.c.job_id).where(~TOMBSTONES.c.erased))
        return [row.job_id for row in rows]

    async def erase_some(self, job_id: str) -> bool:
        """Delete some rows of a deleted job in a short transaction; False if none are left."""
        return await self._database.write(lambda connection: _erase_some(connection, job_id))

    async def _jobs(self, query: Select[Any]) -> list[Job]:
        return [job_of(row) for row in await self._all(query)]

    async def _all(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return await self._database.read(lambda connection: connection.execute(query).all())


def select_jobs(*more: ColumnElement[Any]) -> Select[Any]:
    """Return the query for all jobs, each with the name of its owner."""
    columns = (JOBS.c[name] for name in JOB_COLUMNS)
    return select(*more, *columns, USERS.c.name.label("owner")).join(USERS, USERS.c.id == JOBS.c.owner_id)


def job_of(row: Row[Any]) -> Job:
    """Return the job of a row."""
    return Job(**row._mapping)


def _line(row: Sequence[Any], owners: Mapping[str, str]) -> ExportedJob:
    _, created, job_id, owner_id, name, *facts, started, finished = row
    ends = (iso_of_millis(created), started and iso_of_millis(started), finished and iso_of_millis(finished))
    return ExportedJob._make((job_id, name, owners[owner_id], *facts, *ends))


def _found_lines(connection: Connection, wanted: Wanted, cursor: str | None) -> Page[ExportedJob]:
    """Return the next jobs of a list that is searched or filtered; a page may be short, or empty, and lead on."""
    found = find_page(connection, wanted, limit=EXPORTED_AT_ONCE, cursor=cursor)
    owners = {row.id: row.name for row in connection.execute(select(USERS.c.id, USERS.c.name))}
    columns = (JOBS.c.created_at.label("key"), JOBS.c.id, *(JOBS.c[name] for name in LINE))
    query = select(JOBS.c.number, *columns).where(JOBS.c.number.in_(found.numbers))
    lines = {row[0]: _line(row, owners) for row in rows_at_once(connection, query)}
    return Page([lines[number] for number in found.numbers], found.next_cursor)


def _visible(query: Select[Any], owner_id: str | None) -> Select[Any]:
    return query if owner_id is None else query.where(JOBS.c.owner_id == owner_id)


def _erase_some(connection: Connection, job_id: str) -> bool:
    for table in (RESULTS, VIDEOS, EVENTS, MILESTONES, FORECASTS, JOB_ACTIONS, FAILING):
        _, key, *_ = table.primary_key  # the rows of one job lie in the order of this column
        some = select(key).where(table.c.job_id == job_id).order_by(key).limit(ERASED_AT_ONCE)
        keys = connection.execute(some).scalars().all()
        if keys:
            if table is RESULTS:
                _release_traces(connection, job_id, keys[-1])
            connection.execute(delete(table).where(table.c.job_id == job_id, key <= keys[-1]))
            return True
    connection.execute(update(TOMBSTONES).where(TOMBSTONES.c.job_id == job_id).values(erased=True))
    return False


def _release_traces(connection: Connection, job_id: str, position: int) -> None:
    """Delete the stack traces that only results of this job up to this position use."""
    mine = (RESULTS.c.job_id == job_id, RESULTS.c.position <= position, RESULTS.c.trace.is_not(None))
    used = select(RESULTS.c.trace, func.count()).where(*mine).group_by(RESULTS.c.trace)
    uses = [{"b_digest": digest, "b_uses": number} for digest, number in connection.execute(used)]
    if uses:
        connection.execute(_USE_LESS, uses)
        unused = (TRACES.c.digest.in_([use["b_digest"] for use in uses]), TRACES.c.uses <= 0)
        connection.execute(delete(TRACES).where(*unused))
