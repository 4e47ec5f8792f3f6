"""What was said about the ends of jobs: written with ticks, judged with the tick that ends the job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from math import inf
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    case,
    cast,
    func,
    select,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.engine import Row

from backend.clock import to_millis
from backend.domain.habits import PastResult, Work
from backend.domain.job import Job
from backend.domain.judgement import JUDGED_AT_MOST, STAGES, SaidForecast, usual_error
from backend.domain.measures import ENDED_BY_ITSELF, JobMeasure
from backend.store import bulk
from backend.store.changes import Tick
from backend.store.counting import judged_measures
from backend.store.database import Database
from backend.store.job_lists import PAST, PRESENT
from backend.store.rows import RowCodec, past
from backend.store.tables import FORECASTS, JOBS, MILESTONES, RESULTS, VIDEOS
from backend.store.videos import ENDED
from progress_dashboard.protocol import EXTERNAL, Status

MILLIS = 1000.0
SIZE = "size_bytes"  # in the result of a processor that knows it
MAX_RESULTS, RESULTS_OF_A_JOB = 2_000, 300
JOBS_LEARNED_FROM, JOBS_LOOKED_AT = 20, 200
AT_REST = (Status.PENDING, Status.PAUSED)
_ADD = bulk.upsert(  # what was said first stays: a restarted server may say it again
    RowCodec[SaidForecast](FORECASTS, FORECASTS.c.keys()), key="job_id, attempt, stage", change="stage = excluded.stage"
)


class DoneVideo(NamedTuple):
    """A video with a result of the newest attempt of its job."""

    position: int
    video_id: str
    seconds: float
    failed: bool


class ForecastStore:
    """What was said. Every read sees committed data only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, job_id: str, attempt: int) -> list[SaidForecast]:
        """Return what was said in this attempt of a job, in order."""
        mine = (FORECASTS.c.job_id == job_id, FORECASTS.c.attempt == attempt)
        return await self._read(select(FORECASTS).where(*mine).order_by(FORECASTS.c.stage))

    async def usual_errors(self, processor: str) -> dict[int, float | None]:
        """Return by how much forecasts of the newest jobs of this processor were off, by stage."""
        judged = {stage: await self._read(_judged(processor, stage)) for stage in STAGES}
        return {stage: usual_error(said) for stage, said in judged.items()}

    async def earlier_results(self, work: Work, *, but: str = "") -> list[PastResult]:
        """Return good results of the newest jobs with the same work, `but` that job: at most `MAX_RESULTS`."""

        def read(connection: Connection) -> list[PastResult]:
            found: list[PastResult] = []
            for job_id in _newest_jobs(connection, work, but=but):
                found += _good_results(connection, job_id, min(RESULTS_OF_A_JOB, MAX_RESULTS - len(found)))
                if len(found) >= MAX_RESULTS:
                    break
            return found

        return await self._database.read(read)

    async def ends_since(self, since: datetime) -> list[tuple[str, int]]:
        """Return the owner of each result since then, and when it was there, in milliseconds; not of external jobs."""
        recent = union_all(*_jobs_since(since)).subquery()
        ended = type_coerce(RESULTS.c.started_at, BigInteger) + RESULTS.c.duration_seconds * MILLIS
        query = select(recent.c.owner_id, ended.label("at")).join(recent, recent.c.id == RESULTS.c.job_id)
        query = query.where(ended >= to_millis(since))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [(row.owner_id, int(row.at)) for row in rows]

    async def to_do(self, job: Job) -> tuple[dict[int, str], list[DoneVideo]]:
        """Return what this attempt still has to do (position: video ID), and what it has done, in order."""

        def read(connection: Connection) -> tuple[dict[int, str], list[DoneVideo]]:
            undone = select(VIDEOS.c.position, VIDEOS.c.video_id).where(
                VIDEOS.c.job_id == job.id, VIDEOS.c.status.not_in(ENDED)
            )
            left = {row.position: row.video_id for row in connection.execute(undone.order_by(VIDEOS.c.position))}
            return left, [DoneVideo(*row) for row in connection.execute(_done(job))]

        return await self._database.read(read)

    async def _read(self, query: Select[Any]) -> list[SaidForecast]:
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [_said(row) for row in rows]


def _jobs_since(since: datetime) -> Iterator[Select[Any]]:
    """Yield the queries for the jobs that changed since then: those on the dashboard, and the past ones by status."""
    jobs = select(JOBS.c.id, JOBS.c.owner_id).where(JOBS.c.processor != EXTERNAL)
    yield jobs.where(PRESENT, JOBS.c.updated_at >= since)
    for status in Status:
        yield jobs.where(PAST, JOBS.c.status == status, past(JOBS.c.updated_at) >= since)


def _newest_jobs(connection: Connection, work: Work, *, but: str) -> list[str]:
    """Return the newest jobs with this work; of the many past ones, only the newest of each status are looked at."""
    wanted = (JOBS.c.id, JOBS.c.processor, JOBS.c.source, JOBS.c.options, JOBS.c.created_at)
    rows = list(connection.execute(select(*wanted).where(PRESENT)))
    for status in ENDED_BY_ITSELF:
        past = select(*wanted).where(PAST, JOBS.c.status == status).order_by(JOBS.c.created_at.desc(), JOBS.c.id.desc())
        rows += connection.execute(past.limit(JOBS_LOOKED_AT))
    same = [row for row in rows if Work(row.processor, row.source, row.options) == work and row.id != but]
    same.sort(key=lambda row: (row.created_at, row.id), reverse=True)
    return [row.id for row in same[:JOBS_LEARNED_FROM]]


def _good_results(connection: Connection, job_id: str, limit: int) -> list[PastResult]:
    good = (RESULTS.c.job_id == job_id, RESULTS.c.error.is_(None), RESULTS.c.duration_seconds > 0)
    query = select(_size(connection), RESULTS.c.duration_seconds).where(*good)
    rows = connection.execute(query.order_by(RESULTS.c.position).limit(limit))
    return [PastResult(_number(size), seconds) for size, seconds in rows]


def _size(connection: Connection) -> ColumnElement[Any]:
    """Return the size of the file, where the processor's result has it."""
    if connection.dialect.name == "sqlite":
        return case((func.json_valid(RESULTS.c.result), func.json_extract(RESULTS.c.result, f"$.{SIZE}")))
    return cast(RESULTS.c.result[SIZE], Text)


def _number(size: Any) -> float | None:
    """Return a size, None if a plug-in wrote something else there."""
    try:
        number = float(size)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < inf else None


def _done(job: Job) -> Select[Any]:
    """Return the query for the videos that have a result of this attempt, in the order in which they began."""
    ended = and_(VIDEOS.c.job_id == RESULTS.c.job_id, VIDEOS.c.position == RESULTS.c.position)
    done = (RESULTS.c.job_id == job.id, RESULTS.c.job_attempt == job.attempt)
    columns = (RESULTS.c.position, VIDEOS.c.video_id, RESULTS.c.duration_seconds, RESULTS.c.error.is_not(None))
    return select(*columns).join(VIDEOS, ended).where(*done).order_by(RESULTS.c.started_at, RESULTS.c.position)


def write(connection: Connection, tick: Tick) -> list[JobMeasure]:
    """Store what the tick says and judge what was said of the jobs that it ends; the milestones are stored already.

    Returns what that means for the statistics.
    """
    _ADD.execute(connection, tick.forecasts)
    ended = {milestone.job_id for milestone in tick.milestones if milestone.status in ENDED_BY_ITSELF}
    return [measure for job in tick.jobs if job.id in ended for measure in _judge(connection, job)]


def _judge(connection: Connection, job: Job) -> Iterable[JobMeasure]:
    if job.finished_at is None or job.current_video < job.total_videos:  # it ended by an error of its own
        return ()
    mine = (FORECASTS.c.job_id == job.id, FORECASTS.c.attempt == job.attempt)
    rest = _rests(job).subquery()
    begin = case((rest.c.begin < FORECASTS.c.said_at, FORECASTS.c.said_at), else_=rest.c.begin)
    paused = select(func.coalesce(func.sum(rest.c.until - begin), 0) / MILLIS).where(
        rest.c.status.in_(AT_REST), rest.c.at >= FORECASTS.c.said_at
    )
    values = {"ended_at": job.finished_at, "paused_seconds": paused.scalar_subquery()}
    connection.execute(update(FORECASTS).where(*mine, FORECASTS.c.ended_at.is_(None)).values(values))
    return judged_measures(connection, job.id, job.owner_id, FORECASTS.c.attempt == job.attempt)


def _rests(job: Job) -> Select[Any]:
    """Return the query for the job's milestones of this attempt, each with its beginning and the time of the next one.

    A rest begins with the last news of the work before it: if no server ran since, nothing was done.
    """
    at, status = MILESTONES.c.at, MILESTONES.c.status
    until = func.lead(at).over(order_by=MILESTONES.c.seq).label("until")
    before = func.lag(status, type_=status.type).over(order_by=MILESTONES.c.seq)
    begin = case((before == Status.PROCESSING, func.coalesce(MILESTONES.c.previous_at, at)), else_=at).label("begin")
    return select(status, at, begin, until).where(MILESTONES.c.job_id == job.id, MILESTONES.c.attempt == job.attempt)


def _judged(processor: str, stage: int) -> Select[Any]:
    of_processor = (FORECASTS.c.processor == processor, FORECASTS.c.stage == stage, FORECASTS.c.ended_at.is_not(None))
    return select(FORECASTS).where(*of_processor).order_by(FORECASTS.c.ended_at.desc()).limit(JUDGED_AT_MOST)


def _said(row: Row[Any]) -> SaidForecast:
    return SaidForecast(**row._mapping)
