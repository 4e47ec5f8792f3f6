"""Reads the statistics: tallies by time, and the commonest causes; for one list name, from the results themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from backend.clock import from_millis, to_millis
from backend.domain import histogram
from backend.domain.measures import Ledger, Tally, TallyKey
from backend.domain.periods import HOUR_MILLIS, Span
from backend.domain.statistics import MAX_CAUSES, CauseCount, Mark, Tallies
from backend.domain.words import sort_key
from backend.store.counting import count, read_notes
from backend.store.database import Database
from backend.store.filling import PastJob, count_job
from backend.store.rollups import TALLY, add
from backend.store.tables import CAUSE_ROLLUPS, CAUSES, JOBS, MARKS, ROLLUPS
from progress_dashboard.protocol import Status

FOLDED_AT_ONCE = 500
_LATE_QUARTERS = text(
    f"SELECT {TALLY} FROM rollup WHERE at < :before AND at % {HOUR_MILLIS} <> 0 ORDER BY at LIMIT {FOLDED_AT_ONCE}"  # noqa: S608
)
_DELETE = text("DELETE FROM rollup WHERE at = :at AND owner_id = :owner_id AND processor = :processor AND kind = :kind")
MAX_NAMED_JOBS = 1_000  # of one list name, the newest; each of their results is read


@dataclass(frozen=True, slots=True)
class TallyScope:
    """Whose jobs, and which of them. None: all; `name` is that of a list."""

    owner_id: str | None = None
    processor: str | None = None
    name: str | None = None


class StatisticsStore:
    """The statistics in the database. Every read sees committed data only."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counting = asyncio.Lock()

    async def tallies(self, scope: TallyScope, span: Span) -> tuple[Tallies, list[CauseCount]]:
        """Return the tallies of the period and of the one before, and the commonest causes of the period."""
        if scope.name is None:
            return await self._database.read(_rolled_up, scope, span)
        return await self._database.read(_of_name, scope, span)

    async def marks(self) -> list[Mark]:
        """Return all marks, oldest first."""
        return await self._database.read(_marks)

    async def first(self) -> int | None:
        """Return the quarter in which the first thing happened."""
        return await self._database.read(lambda connection: _millis(connection.scalar(select(func.min(ROLLUPS.c.at)))))

    async def add_mark(self, at: datetime, kind: str, slots: int) -> None:
        """Store a mark; of two in one millisecond the last one counts."""
        await self._database.write(_add_mark, {"at": at, "kind": kind, "slots": slots})

    async def count(self) -> None:
        """Count what ticks have noted so far. Raises `StoreRefused` if the database cannot take it now."""
        async with self._counting:
            while (counted := await self._database.read(read_notes)) is not None:
                await self._database.write(count, counted)

    async def fold(self, *, before: datetime) -> int:
        """Make one row of the quarters of some hours before this hour, and return how many rows went."""
        return await self._database.write(_fold, to_millis(before) - to_millis(before) % HOUR_MILLIS)


def _rolled_up(connection: Connection, scope: TallyScope, span: Span) -> tuple[Tallies, list[CauseCount]]:
    tallies = Tallies(span)
    wanted = {"owner_id": scope.owner_id, "processor": scope.processor}
    given = {name: value for name, value in wanted.items() if value is not None}
    narrowed = "".join(f" AND {name} = :{name}" for name in given)
    query = text(f"SELECT {TALLY} FROM rollup WHERE at >= :begin AND at < :end{narrowed}")  # noqa: S608  our own names
    rows = connection.execute(query, {"begin": span.before, "end": span.end, **given})
    for at, _, _, kind, number, millis, film, film_work, work, buckets in rows:
        tallies.add(at, kind, Tally(number, millis, film, film_work, work, histogram.decoded(buckets)))
    return tallies, _causes(connection, scope, span)


def _causes(connection: Connection, scope: TallyScope, span: Span) -> list[CauseCount]:
    table = CAUSE_ROLLUPS.c
    conditions = [table.at >= from_millis(span.begin), table.at < from_millis(span.end)]
    if scope.owner_id is not None:
        conditions.append(table.owner_id == scope.owner_id)
    if scope.processor is not None:
        conditions.append(table.processor == scope.processor)
    of_jobs = (
        select(table.fingerprint, func.sum(table.videos).label("videos"))
        .where(*conditions)
        .group_by(table.fingerprint, table.job_id)
        .having(func.sum(table.videos) > 0)
        .subquery()
    )
    videos = func.sum(of_jobs.c.videos)
    commonest = (
        select(of_jobs.c.fingerprint, videos.label("videos"), func.count().label("jobs"))
        .group_by(of_jobs.c.fingerprint)
        .order_by(videos.desc(), of_jobs.c.fingerprint)
        .limit(MAX_CAUSES)
    )
    rows = connection.execute(commonest).all()
    return _named(connection, [(row.fingerprint, int(row.videos), row.jobs) for row in rows])


def _named(connection: Connection, counts: list[tuple[str, int, int]]) -> list[CauseCount]:
    fingerprints = [fingerprint for fingerprint, _, _ in counts]
    found = connection.execute(select(CAUSES).where(CAUSES.c.fingerprint.in_(fingerprints))).all()
    words = {row.fingerprint: row.words for row in found}
    return [CauseCount(name, words.get(name, ""), videos, jobs) for name, videos, jobs in counts]


def _of_name(connection: Connection, scope: TallyScope, span: Span) -> tuple[Tallies, list[CauseCount]]:
    """Count the results of the jobs with this name, as the tallies were counted; those of deleted jobs are gone."""
    ledger = Ledger()
    for job in _jobs_of_name(connection, scope, span):
        count_job(connection, ledger, job)
    tallies = Tallies(span)
    for (at, _, _, kind), tally in ledger.tallies.items():
        tallies.add(at, kind, tally)
    videos: dict[tuple[str, str], int] = {}
    for (at, _, _, fingerprint, job_id), number in ledger.causes.items():
        if span.begin <= at < span.end:
            pair = (fingerprint, job_id)
            videos[pair] = videos.get(pair, 0) + number
    return tallies, _named(connection, list(_commonest(videos)))


def _commonest(videos: dict[tuple[str, str], int]) -> Iterator[tuple[str, int, int]]:
    sums: dict[str, list[int]] = {}
    for (fingerprint, _), number in videos.items():
        if number > 0:
            sums.setdefault(fingerprint, []).append(number)
    ordered = sorted(sums.items(), key=lambda item: (-sum(item[1]), item[0]))
    return ((fingerprint, sum(numbers), len(numbers)) for fingerprint, numbers in ordered[:MAX_CAUSES])


def _jobs_of_name(connection: Connection, scope: TallyScope, span: Span) -> list[PastJob]:
    table = JOBS.c
    # the order of names has an index for each status of the jobs that left the dashboard
    named = [table.name_key == sort_key(scope.name or ""), table.name == scope.name, table.status.in_(list(Status))]
    named.append(table.updated_at >= from_millis(span.before))
    if scope.owner_id is not None:
        named.append(table.owner_id == scope.owner_id)
    if scope.processor is not None:
        named.append(table.processor == scope.processor)
    columns = [table[field.name] for field in fields(PastJob)]
    jobs: dict[int, PastJob] = {}
    for is_shown in (True, False):
        query = select(*columns).where(table.on_dashboard.is_(is_shown), *named)
        for row in connection.execute(query.order_by(table.created_at.desc()).limit(MAX_NAMED_JOBS)):
            jobs[row.number] = PastJob(**row._mapping)
    return list(jobs.values())


def _marks(connection: Connection) -> list[Mark]:
    rows = connection.execute(select(MARKS).order_by(MARKS.c.at)).all()
    return [Mark(to_millis(row.at), row.kind, row.slots) for row in rows]


def _add_mark(connection: Connection, mark: dict[str, Any]) -> None:
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(MARKS).values(mark)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["at", "kind"], set_={"slots": statement.excluded.slots})
    )


def _fold(connection: Connection, before: int) -> int:
    """Add late quarters of hours to the row of their hour, which is that of its first quarter."""
    ledger, gone = Ledger(), []
    for *key, number, millis, film, film_work, work, buckets in connection.execute(_LATE_QUARTERS, {"before": before}):
        late = TallyKey(*key)
        gone.append(late._asdict())
        hour = late.at - late.at % HOUR_MILLIS
        ledger.tallies[hour, late.owner_id, late.processor, late.kind].add(
            Tally(number, millis, film, film_work, work, histogram.decoded(buckets))
        )
    if gone:
        add(connection, ledger)
        connection.execute(_DELETE, gone)
    return len(gone)


def _millis(at: datetime | None) -> int | None:
    return None if at is None else to_millis(at)
