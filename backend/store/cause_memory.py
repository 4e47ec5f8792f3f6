"""Reads what fails now over all jobs, and what is remembered of causes; keeps what users say about them.

A list goes once through the index of an owner's failing videos (or that of all) in a range of time, and groups them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from backend.domain.job import Job
from backend.domain.problem import (
    MAX_JOBS_OF_CAUSE,
    MAX_PROBLEMS,
    CauseHistory,
    CauseNote,
    Example,
    FailedJob,
    Problem,
    Problems,
)
from backend.errors import Fault
from backend.store import bulk
from backend.store.database import Database
from backend.store.problem_tables import CAUSE_MEMORY, CAUSE_NOTES, FAILING
from backend.store.rows import RowCodec
from backend.store.tables import JOB_COLUMNS, JOBS, TOMBSTONES, USERS
from backend.store.traces import whole_trace
from progress_dashboard.protocol import EXTERNAL

# rows of a deleted job are erased later, in small steps; meanwhile only its tombstone tells
IS_OF_A_JOB = FAILING.c.job_id.not_in(select(TOMBSTONES.c.job_id).where(~TOMBSTONES.c.erased))
PLACE = ("job_id", "job_name", "video_id", "position")
_NEWEST = bulk.Bulk(
    RowCodec[Any](FAILING, ["fingerprint", "at"], {"at": "last_seen"}),
    "WITH wanted (fingerprint, at) AS ({rows}), found AS MATERIALIZED ("  # by the index of `at`, whatever follows
    "SELECT video.* FROM wanted CROSS JOIN failing_video AS video "
    "WHERE video.at = wanted.at AND video.fingerprint = wanted.fingerprint) "
    "SELECT found.fingerprint, found.owner_id, found.job_id, job.name, found.video_id, found.position, result.error, "
    "coalesce(result.fault, 'permanent'), job.processor, trace.body FROM found JOIN job ON job.id = found.job_id "
    "JOIN result ON result.job_id = found.job_id AND result.position = found.position "
    "AND result.attempt = found.attempt LEFT JOIN trace ON trace.digest = result.trace",
)
USER_COLUMNS = ("noted_by", "known_by", "claimed_by")


@dataclass(frozen=True, slots=True)
class ProblemScope:
    """Whose videos (None: everybody's), and when their newest results came: from `begin` to before `end`."""

    owner_id: str | None = None
    begin: datetime | None = None
    end: datetime | None = None

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = [] if self.owner_id is None else [FAILING.c.owner_id == self.owner_id]
        if self.begin is not None:
            conditions.append(FAILING.c.at >= self.begin)
        if self.end is not None:
            conditions.append(FAILING.c.at < self.end)
        return conditions


class CauseMemoryStore:
    """Causes in the database. Every read sees committed data only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def problems(self, scope: ProblemScope) -> Problems:
        """Return why videos fail, most videos first, at most `MAX_PROBLEMS` causes."""
        return await self._database.read(_problems, scope)

    async def jobs(self, fingerprint: str, scope: ProblemScope) -> list[FailedJob]:
        """Return the jobs with videos that fail for this cause, newest failure first, at most `MAX_JOBS_OF_CAUSE`."""
        return await self._database.read(_failed_jobs, fingerprint, scope)

    async def job_ids(self, fingerprint: str, scope: ProblemScope) -> list[str]:
        """Return the IDs of the jobs with videos that fail for this cause, the newest failure first."""
        query = _jobs_of(fingerprint, scope)
        return await self._database.read(lambda connection: [row.job_id for row in connection.execute(query)])

    async def has_met(self, fingerprint: str, *, owner_id: str | None) -> bool:
        """Return True if a job of this owner (None: of anybody) ever met the cause."""
        met = select(CAUSE_MEMORY.c.jobs).where(CAUSE_MEMORY.c.fingerprint == fingerprint).limit(1)
        if owner_id is not None:
            met = met.where(CAUSE_MEMORY.c.owner_id == owner_id)
        return await self._database.read(lambda connection: connection.execute(met).first() is not None)

    async def note(self, fingerprint: str) -> CauseNote:
        """Return what users say about a cause."""
        notes = await self._database.read(_notes, [fingerprint])
        return notes.get(fingerprint, CauseNote(fingerprint=fingerprint))

    async def change_note(self, fingerprint: str, changes: Mapping[str, object]) -> None:
        """Store what a user says about a cause; `changes` are columns, users by their IDs."""
        await self._database.write(_change_note, {"fingerprint": fingerprint, **changes})

    async def known(self, fingerprints: Collection[str], *, at: datetime) -> set[str]:
        """Return those of the causes that are known until after `at`: nobody needs to be told of them."""
        mine = (CAUSE_NOTES.c.fingerprint.in_(fingerprints), CAUSE_NOTES.c.known_until > at)
        query = select(CAUSE_NOTES.c.fingerprint).where(*mine)
        return await self._database.read(lambda connection: set(connection.execute(query).scalars()))


def _problems(connection: Connection, scope: ProblemScope) -> Problems:
    rows = connection.execute(_causes(scope)).all()
    shown = {row.fingerprint: row for row in rows[:MAX_PROBLEMS]}
    examples = _examples(connection, scope, shown.values())
    notes, histories = _notes(connection, list(shown)), _histories(connection, scope, list(shown))
    problems = (
        Problem(
            fingerprint=name,
            videos=int(row.videos),
            jobs=row.jobs,
            first_seen=row.first_seen,
            last_seen=row.last_seen,
            example=examples[name],
            history=histories.get(name, CauseHistory()),
            said=notes.get(name, CauseNote(fingerprint=name)),
            can_be_retried=not examples[name].is_external or _has_internal(connection, name, scope),
        )
        for name, row in shown.items()
        if name in examples  # else its rows were deleted by hand
    )
    return Problems(tuple(problems), has_more=len(rows) > MAX_PROBLEMS)


def _causes(scope: ProblemScope) -> Select[Any]:
    """Return the query for the causes, most videos first. Deleted jobs do not count."""
    # Within a time its index is to be walked, and not that of the causes, which has their order but all of them.
    cause = FAILING.c.fingerprint if scope.begin is None else FAILING.c.fingerprint.concat("")
    of_job = (
        select(
            cause.label("fingerprint"),
            func.count().label("videos"),
            func.min(FAILING.c.at).label("first_seen"),
            func.max(FAILING.c.at).label("last_seen"),
        )
        .where(*scope.conditions, IS_OF_A_JOB)
        .group_by(cause, FAILING.c.job_id)
        .subquery("of_job")
    )
    videos = func.sum(of_job.c.videos)
    return (
        select(
            of_job.c.fingerprint,
            videos.label("videos"),
            func.count().label("jobs"),
            func.min(of_job.c.first_seen).label("first_seen"),
            func.max(of_job.c.last_seen).label("last_seen"),
        )
        .group_by(of_job.c.fingerprint)
        .order_by(videos.desc(), of_job.c.fingerprint)
        .limit(MAX_PROBLEMS + 1)
    )


def _examples(connection: Connection, scope: ProblemScope, causes: Iterable[Row[Any]]) -> dict[str, Example]:
    """Return the newest failing video of each cause."""
    examples: dict[str, Example] = {}
    for name, owner_id, *place, error, fault, processor, body in _NEWEST.fetch(connection, causes):
        if scope.owner_id in (None, owner_id):
            said: dict[str, Any] = {"error": error or "", "traceback": whole_trace(body, error)}
            examples[name] = Example(
                **dict(zip(PLACE, place, strict=True)), **said, fault=Fault(fault), is_external=processor == EXTERNAL
            )
    return examples


def _has_internal(connection: Connection, fingerprint: str, scope: ProblemScope) -> bool:
    """Return True if a job with videos that fail for this cause can be retried here."""
    internal = select(JOBS.c.number).join(FAILING, FAILING.c.job_id == JOBS.c.id).where(JOBS.c.processor != EXTERNAL)
    of_cause = internal.where(FAILING.c.fingerprint == fingerprint, *scope.conditions, IS_OF_A_JOB).limit(1)
    return connection.execute(of_cause).first() is not None


def _jobs_of(fingerprint: str, scope: ProblemScope) -> Select[Any]:
    """Return the query for the jobs with videos that fail for this cause."""
    return (
        select(FAILING.c.job_id, func.count().label("videos"))
        .where(FAILING.c.fingerprint == fingerprint, *scope.conditions, IS_OF_A_JOB)
        .group_by(FAILING.c.job_id)
        .order_by(func.max(FAILING.c.at).desc(), FAILING.c.job_id)
    )


def _failed_jobs(connection: Connection, fingerprint: str, scope: ProblemScope) -> list[FailedJob]:
    newest = connection.execute(_jobs_of(fingerprint, scope).limit(MAX_JOBS_OF_CAUSE))
    videos = {row.job_id: row.videos for row in newest}
    query = select(*(JOBS.c[name] for name in JOB_COLUMNS), USERS.c.name.label("owner"))
    query = query.join(USERS, USERS.c.id == JOBS.c.owner_id).where(JOBS.c.id.in_(videos))
    jobs = {row.id: Job(**row._mapping) for row in connection.execute(query)}
    return [FailedJob(jobs[job_id], number) for job_id, number in videos.items() if job_id in jobs]


def _histories(connection: Connection, scope: ProblemScope, names: Sequence[str]) -> dict[str, CauseHistory]:
    table = CAUSE_MEMORY.c
    sums = (func.sum(table[name]).label(name) for name in ("jobs", "retried", "helped"))
    query = select(table.fingerprint, *sums, func.min(table.first_seen).label("since"))
    query = query.where(table.fingerprint.in_(names)).group_by(table.fingerprint)
    if scope.owner_id is not None:
        query = query.where(table.owner_id == scope.owner_id)
    return {row.fingerprint: _history(row) for row in connection.execute(query)}


def _history(row: Any) -> CauseHistory:
    return CauseHistory(jobs=int(row.jobs), since=row.since, retried=int(row.retried), helped=int(row.helped))


def _notes(connection: Connection, names: Sequence[str]) -> dict[str, CauseNote]:
    rows = connection.execute(select(CAUSE_NOTES).where(CAUSE_NOTES.c.fingerprint.in_(names))).all()
    ids = {row._mapping[column] for row in rows for column in USER_COLUMNS} - {None}
    users = select(USERS.c.id, USERS.c.name).where(USERS.c.id.in_(ids))
    by_id = {row.id: row.name for row in connection.execute(users)} if ids else {}
    named = [{**row._mapping, **{name: by_id.get(row._mapping[name]) for name in USER_COLUMNS}} for row in rows]
    return {note["fingerprint"]: CauseNote(**note) for note in named}


def _change_note(connection: Connection, values: Mapping[str, object]) -> None:
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(CAUSE_NOTES).values(values)
    changes = {name: value for name, value in values.items() if name != "fingerprint"}
    connection.execute(statement.on_conflict_do_update(index_elements=["fingerprint"], set_=changes))
