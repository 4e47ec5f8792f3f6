"""Reads of jobs, and the erasure of deleted ones.

Who may see a job is decided here, once: a query takes `owner_id`, None for everybody's jobs (administrators).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, exists, func, or_, select, update
from sqlalchemy.engine import Row

from backend.domain.job import Job
from backend.domain.words import folded
from backend.store.database import Database
from backend.store.pages import Page, after_cursor, cursor_of
from backend.store.tables import EVENTS, JOB_COLUMNS, JOBS, KEYS, MILESTONES, RESULTS, TOMBSTONES, USERS, VIDEOS
from backend.store.videos import contains, error_contains, id_begins_with
from progress_dashboard.protocol import UNFINISHED, Status

ERASED_AT_ONCE = 500
SORTS = ("newest", "oldest", "name", "updated")


class JobStore:
    """Jobs in the database. Every read sees committed data only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unfinished(self) -> list[Job]:
        """Return the jobs that still have something to do, oldest first."""
        return await self._jobs(
            _select_jobs().where(JOBS.c.status.in_(UNFINISHED)).order_by(JOBS.c.created_at, JOBS.c.id)
        )

    async def on_dashboard(self) -> list[Job]:
        """Return the jobs on anybody's dashboard, in the order of their `seq`."""
        return await self._jobs(_select_jobs().where(JOBS.c.on_dashboard).order_by(JOBS.c.seq))

    async def removals(self, limit: int) -> list[tuple[str, str, int]]:
        """Return (job ID, owner ID, seq) of the newest jobs that left the dashboard, oldest first."""
        left = select(JOBS.c.id, JOBS.c.owner_id, JOBS.c.removed_seq).where(~JOBS.c.on_dashboard)
        deleted = select(TOMBSTONES.c.job_id, TOMBSTONES.c.owner_id, TOMBSTONES.c.removed_seq)
        found: list[Any] = []
        for query, seq in ((left, JOBS.c.removed_seq), (deleted, TOMBSTONES.c.removed_seq)):
            found += [tuple(row) for row in await self._all(query.order_by(seq.desc()).limit(limit))]
        return sorted(found, key=itemgetter(2))[-limit:]

    async def last_seq(self) -> int:
        """Return the newest position that was ever stored, 0 in an empty database."""
        newest = select(func.max(JOBS.c.seq).label("changed"), func.max(JOBS.c.removed_seq).label("removed"))
        row = (await self._all(newest))[0]
        deleted = (await self._all(select(func.max(TOMBSTONES.c.removed_seq))))[0]
        return max(row.changed or 0, row.removed or 0, deleted[0] or 0)

    async def find(self, job_id: str, *, owner_id: str | None) -> Job | None:
        """Return the job, or None if there is none that this owner may see."""
        found = await self._jobs(_visible(_select_jobs().where(JOBS.c.id == job_id), owner_id))
        return found[0] if found else None

    async def columns(self, job_id: str) -> tuple[str, ...]:
        """Return the header of the job's own list, () without one."""
        rows = await self._all(select(JOBS.c.columns).where(JOBS.c.id == job_id))
        columns: tuple[str, ...] = rows[0].columns
        return columns

    async def page(
        self,
        *,
        owner_id: str | None,
        dashboard: bool | None,
        status: Status | None,
        q: str,
        sort: str,
        limit: int,
        cursor: str | None,
    ) -> Page[Job]:
        """Return a page of jobs. `q` is a job or video ID (whole or its beginning), or a part of the name or error."""
        query = _visible(_select_jobs(), owner_id)
        if dashboard is not None:
            query = query.where(JOBS.c.on_dashboard == dashboard)
        if status is not None:
            query = query.where(JOBS.c.status == status)
        if q:
            query = query.where(_matches(q))
        key, descending = _sort_key(sort)
        order = [column.desc() if descending else column.asc() for column in (key, JOBS.c.id)]
        if cursor is not None:
            query = query.where(after_cursor(key, JOBS.c.id, descending, cursor))
        rows = await self._all(query.order_by(*order).limit(limit + 1))
        items = [_job(row) for row in rows[:limit]]
        more = len(rows) > limit
        return Page(items, cursor_of(getattr(items[-1], key.name), items[-1].id) if more else None)

    async def ids_with_video(self, q: str, *, owner_id: str | None) -> list[str]:
        """Return the IDs of the owner's jobs on the dashboard with a video whose ID begins with `q` or error has it.

        Searches the videos of these jobs, whose number is bounded, and not the index of all IDs, where one or two
        letters begin most of what ever ran.
        """
        begins = func.substr(VIDEOS.c.video_id, 1, len(q)) == q
        on_dashboard = _visible(select(JOBS.c.id).where(JOBS.c.on_dashboard), owner_id)
        found = [exists().where(VIDEOS.c.job_id == JOBS.c.id, wanted) for wanted in (begins, error_contains(q))]
        rows = await self._all(on_dashboard.where(or_(*found)))
        return [row.id for row in rows]

    async def count(self, *, owner_id: str | None) -> int:
        """Return the number of jobs that this owner may see."""
        rows = await self._all(_visible(select(func.count()).select_from(JOBS), owner_id))
        return int(rows[0][0])

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
        return [_job(row) for row in await self._all(query)]

    async def _all(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return await self._database.read(lambda connection: connection.execute(query).all())


def _select_jobs() -> Select[Any]:
    columns = (JOBS.c[name] for name in JOB_COLUMNS)
    return select(*columns, USERS.c.name.label("owner")).join(USERS, USERS.c.id == JOBS.c.owner_id)


def _job(row: Row[Any]) -> Job:
    return Job(**row._mapping)


def _visible(query: Select[Any], owner_id: str | None) -> Select[Any]:
    return query if owner_id is None else query.where(JOBS.c.owner_id == owner_id)


def _matches(q: str) -> ColumnElement[bool]:
    video = select(VIDEOS.c.job_id).where(id_begins_with(q))
    return or_(
        JOBS.c.id.startswith(q.lower(), autoescape=True),
        JOBS.c.name_folded.contains(folded(q), autoescape=True),
        contains(JOBS.c, q),
        JOBS.c.id.in_(video),
    )


def _sort_key(sort: str) -> tuple[Any, bool]:
    keys = {
        "newest": (JOBS.c.created_at, True),
        "oldest": (JOBS.c.created_at, False),
        "name": (JOBS.c.name_key, False),
        "updated": (JOBS.c.updated_at, True),
    }
    return keys[sort]


def _erase_some(connection: Connection, job_id: str) -> bool:
    for table in (RESULTS, VIDEOS, EVENTS, MILESTONES):
        _, key, *_ = table.primary_key  # the rows of one job lie in the order of this column
        some = select(key).where(table.c.job_id == job_id).order_by(key).limit(ERASED_AT_ONCE)
        keys = connection.execute(some).scalars().all()
        if keys:
            connection.execute(delete(table).where(table.c.job_id == job_id, key <= keys[-1]))
            return True
    connection.execute(update(TOMBSTONES).where(TOMBSTONES.c.job_id == job_id).values(erased=True))
    return False
