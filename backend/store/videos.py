"""Reads of videos, their results and the causes of failures."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    or_,
    select,
    true,
    type_coerce,
    update,
)
from sqlalchemy.engine import Row

from backend.domain.job import Selection
from backend.domain.video import (
    MAX_CAUSES,
    MIN_WORK_SECONDS,
    OUTCOME_MARKS,
    Cause,
    ExportedVideo,
    Outcome,
    Video,
    VideoStatus,
    VideoTimes,
)
from backend.domain.words import folded
from backend.errors import Fault, Invalid
from backend.store import bulk
from backend.store.database import Database
from backend.store.pages import Page, position_of
from backend.store.rows import RowCodec, exact_text, rows_at_once
from backend.store.tables import ARRIVALS, RESULTS, TRACES, VIDEOS
from backend.store.traces import whole_trace

LAST_CHARACTER = "\U0010ffff"
DELETED_AT_ONCE = 5_000
EXPORTED_AT_ONCE = 3_000
STATUSES = {status.value: status for status in VideoStatus}
ENDED = (VideoStatus.COMPLETED, VideoStatus.FAILED)
NEWEST_RESULT = and_(
    RESULTS.c.job_id == VIDEOS.c.job_id, RESULTS.c.position == VIDEOS.c.position, RESULTS.c.attempt == VIDEOS.c.attempts
)
HAS_ENDED = VIDEOS.c.status.in_(ENDED)  # else the result is of an earlier attempt
SHARED_TRACE = TRACES.c.digest == RESULTS.c.trace
TRACEBACK = TRACES.c.body.label("traceback")
KNOWN_SECONDS = func.nullif(
    RESULTS.c.duration_seconds, 0
)  # 0 stands for an external video, whose duration was not reported
_NEW_VIDEOS = RowCodec[Video](VIDEOS, VIDEOS.c.keys())
_ALL_POSITIONS = "SELECT video_id, position FROM video WHERE job_id = ?"


@dataclass(frozen=True, slots=True)
class RetryScope:
    """What a retry takes: videos, how many of them failed, and the newest error of the failed ones that it leaves."""

    videos: int
    failed: int
    error_left: str | None


class VideoStore:
    """The videos of jobs in the database. Every read sees committed data only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, videos: Sequence[Video]) -> None:
        """Insert videos of a job that is not visible yet; `delete_orphans` removes them if the job never comes."""
        job_ids = sorted({video.job_id for video in videos})

        def write(connection: Connection) -> None:
            bulk.insert_absent(connection, ARRIVALS, [{"job_id": job_id} for job_id in job_ids])
            bulk.load(connection, _NEW_VIDEOS, videos)

        await self._database.write(write)

    async def delete_orphans(self) -> None:
        """Delete the videos of jobs that never became visible because the server died while they were stored."""
        for row in await self._all(select(ARRIVALS.c.job_id)):
            while await self._database.write(_delete_some_orphans, row.job_id):
                pass

    async def reset_running(self, job_ids: Collection[str]) -> None:
        """Make the videos of these jobs pending again that ran when the server died."""
        running = (VIDEOS.c.job_id == bindparam("b_job_id"), VIDEOS.c.status == VideoStatus.PROCESSING)
        pending = update(VIDEOS).where(*running).values(status=VideoStatus.PENDING)
        rows = [{"b_job_id": job_id} for job_id in job_ids]
        if rows:
            await self._database.write(lambda connection: connection.execute(pending, rows))

    async def page(
        self, job_id: str, *, status: VideoStatus | None = None, q: str = "", limit: int, cursor: str | None = None
    ) -> Page[Video]:
        """Return a page of a job's videos with their newest results, in the order of the list.

        `q` is a video ID, whole or its beginning, or a part of the error.
        """
        query = _select_videos().where(VIDEOS.c.job_id == job_id, VIDEOS.c.position > position_of(cursor))
        if status is not None:
            query = query.where(VIDEOS.c.status == status)
        if q:
            query = query.where(or_(id_begins_with(q), error_contains(q)))
        rows = await self._all(query.order_by(VIDEOS.c.position).limit(limit + 1))
        items = [_video(row) for row in rows[:limit]]
        return Page(items, str(items[-1].position) if len(rows) > limit else None)

    async def lines(self, job_id: str, *, cursor: str | None) -> Page[ExportedVideo]:
        """Return the job's next videos for an export."""
        mine = (VIDEOS.c.job_id == job_id, VIDEOS.c.position > position_of(cursor))
        query = _select_lines().where(*mine).order_by(VIDEOS.c.position).limit(EXPORTED_AT_ONCE)

        def read(connection: Connection) -> Page[ExportedVideo]:
            rows = rows_at_once(connection, query)
            more = len(rows) == EXPORTED_AT_ONCE
            return Page([_line(row) for row in rows], str(rows[-1][0]) if more else None)

        return await self._database.read(read)

    async def find(self, job_id: str, position: int) -> Video | None:
        """Return one video of a job; None if there is none at this position."""
        rows = await self._all(_select_videos().where(VIDEOS.c.job_id == job_id, VIDEOS.c.position == position))
        return _video(rows[0]) if rows else None

    async def pending(self, job_id: str, *, after: int, limit: int) -> list[Video]:
        """Return the next videos without a stored result behind the position `after`, in the order of the list."""
        mine = (VIDEOS.c.job_id == job_id, VIDEOS.c.position > after, VIDEOS.c.status == VideoStatus.PENDING)
        rows = await self._all(_select_videos().where(*mine).order_by(VIDEOS.c.position).limit(limit))
        return [_video(row) for row in rows]

    async def pending_at(self, job_id: str, positions: Collection[int]) -> list[Video]:
        """Return the videos at these positions that have no stored result, in the order of the list."""
        mine = (VIDEOS.c.job_id == job_id, VIDEOS.c.position.in_(positions), VIDEOS.c.status == VideoStatus.PENDING)
        return [_video(row) for row in await self._all(_select_videos().where(*mine).order_by(VIDEOS.c.position))]

    async def positions(self, job_id: str, video_ids: Set[str]) -> dict[str, int]:
        """Return the positions of these videos in the job's list. Raises `Invalid` for one that is not in it."""
        if not video_ids:
            return {}
        named = select(VIDEOS.c.video_id, VIDEOS.c.position).where(
            VIDEOS.c.job_id == job_id, VIDEOS.c.video_id.in_(video_ids)
        )
        positions = {row.video_id: row.position for row in await self._all(named)}
        if unknown := sorted(video_ids - positions.keys()):
            raise Invalid(f'The video "{unknown[0]}" is not in this job.')
        return positions

    async def all_positions(self, job_id: str) -> dict[str, int]:
        """Return the position of each video in the job's list."""
        return await self._database.read_by_cursor(lambda cursor: dict(cursor.execute(_ALL_POSITIONS, (job_id,))))

    async def failed_positions(self, job_id: str) -> set[int]:
        """Return the positions of the job's failed videos."""
        failed = VIDEOS.c.status == VideoStatus.FAILED
        rows = await self._all(select(VIDEOS.c.position).where(VIDEOS.c.job_id == job_id, failed))
        return {row.position for row in rows}

    async def retry_scope(self, job_id: str, selection: Selection) -> RetryScope:
        """Return what a retry of this selection takes."""
        chosen, failed = selected_videos(selection), VIDEOS.c.status == VideoStatus.FAILED
        mine = VIDEOS.c.job_id == job_id
        counts = select(func.count(), func.sum(case((failed, 1), else_=0))).select_from(VIDEOS).where(mine, chosen)
        left = select(RESULTS.c.error).join(VIDEOS, NEWEST_RESULT).where(mine, failed, ~chosen)
        ended_at = type_coerce(RESULTS.c.started_at, BigInteger) + RESULTS.c.duration_seconds * 1000
        newest = left.order_by(ended_at.desc(), RESULTS.c.position.desc()).limit(1)

        def read(connection: Connection) -> RetryScope:
            videos, failures = connection.execute(counts).one()
            return RetryScope(videos, failures or 0, connection.execute(newest).scalar())

        return await self._database.read(read)

    async def causes(self, job_id: str) -> list[Cause]:
        """Return why the job's failed videos failed, most videos first, at most `MAX_CAUSES`."""
        failed = (VIDEOS.c.job_id == job_id, VIDEOS.c.status == VideoStatus.FAILED)
        grouped = (
            select(
                RESULTS.c.fingerprint,
                func.count().label("count"),
                func.min(RESULTS.c.started_at).label("first_seen"),
                func.max(RESULTS.c.started_at).label("last_seen"),
                func.min(RESULTS.c.position).label("position"),
            )
            .join(VIDEOS, NEWEST_RESULT)
            .where(*failed)
            .group_by(RESULTS.c.fingerprint)
            .order_by(func.count().desc(), func.min(RESULTS.c.position))
            .limit(MAX_CAUSES)
            .subquery()
        )
        example = and_(VIDEOS.c.job_id == job_id, VIDEOS.c.position == grouped.c.position)
        fault = func.coalesce(RESULTS.c.fault, Fault.PERMANENT, type_=RESULTS.c.fault.type).label("fault")
        query = (
            select(grouped, VIDEOS.c.video_id, RESULTS.c.error, TRACEBACK, fault)
            .join(VIDEOS, example)
            .join(RESULTS, NEWEST_RESULT)
            .outerjoin(TRACES, SHARED_TRACE)
            .order_by(grouped.c.count.desc(), grouped.c.position)
        )
        return [Cause(**_with_trace(row)) for row in await self._all(query)]

    async def outcome_strip(self, job_id: str) -> str:
        """Return the status of each video, one character of `OUTCOME_MARKS` each, in the order of the list."""
        mark = case({status.value: mark for status, mark in OUTCOME_MARKS.items()}, value=VIDEOS.c.status)
        marks = select(mark.label("mark")).where(VIDEOS.c.job_id == job_id).order_by(VIDEOS.c.position).subquery()
        rows = await self._all(select(func.aggregate_strings(marks.c.mark, "")))  # keeps the order, a scan of the key
        return rows[0][0] or ""

    async def outcomes(self, job_id: str, position: int) -> list[Outcome]:
        """Return the stored results of one video, oldest first."""
        mine = (RESULTS.c.job_id == job_id, RESULTS.c.position == position)
        query = select(
            RESULTS.c.job_attempt.label("attempt"),
            *(RESULTS.c[name] for name in ("error", "fault", "tries", "started_at", "machine")),
            TRACEBACK,
            KNOWN_SECONDS.label("duration_seconds"),
        )
        rows = await self._all(query.outerjoin(TRACES, SHARED_TRACE).where(*mine).order_by(RESULTS.c.attempt))
        return [Outcome(**_with_trace(row)) for row in rows]

    async def recent_durations(self, job_id: str, limit: int) -> list[float]:
        """Return how many seconds the newest results took that were worked on, at most `limit`."""
        worked_on = (RESULTS.c.job_id == job_id, RESULTS.c.duration_seconds >= MIN_WORK_SECONDS)
        newest = select(RESULTS.c.duration_seconds).where(*worked_on).order_by(RESULTS.c.started_at.desc()).limit(limit)
        return [row.duration_seconds for row in await self._all(newest)]

    async def times(self, job_id: str, attempt: int) -> VideoTimes:
        """Return how long the videos took by their newest results, and how many have one of this attempt of the job."""
        mine = (RESULTS.c.job_id == job_id, VIDEOS.c.status.in_(ENDED))
        seconds, known = RESULTS.c.duration_seconds.label("seconds"), func.count().over().label("videos")
        place = func.row_number().over(order_by=seconds).label("place")
        ranked = select(seconds, place, known).join(VIDEOS, NEWEST_RESULT).where(*mine, seconds > 0).subquery()
        places = [(ranked.c.videos * percent + 99) // 100 for percent in (50, 95)]
        limits = select(ranked).where(ranked.c.place.in_(places)).order_by(ranked.c.place)
        tried = select(func.count()).where(RESULTS.c.job_id == job_id, RESULTS.c.job_attempt == attempt)

        def read(connection: Connection) -> VideoTimes:
            number, rows = connection.execute(tried).scalar_one(), connection.execute(limits).all()
            if not rows:
                return VideoTimes(tried=number)
            return VideoTimes(videos=rows[0].videos, p50=rows[0].seconds, p95=rows[-1].seconds, tried=number)

        return await self._database.read(read)

    async def _all(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return await self._database.read(lambda connection: connection.execute(query).all())


def _delete_some_orphans(connection: Connection, job_id: str) -> bool:
    """Delete some videos of a job that never came; False if none are left."""
    mine = VIDEOS.c.job_id == job_id
    some = select(VIDEOS.c.position).where(mine).order_by(VIDEOS.c.position).limit(DELETED_AT_ONCE)
    positions = connection.execute(some).scalars().all()
    if positions:
        connection.execute(delete(VIDEOS).where(mine, VIDEOS.c.position <= positions[-1]))
    else:
        connection.execute(delete(ARRIVALS).where(ARRIVALS.c.job_id == job_id))
    return bool(positions)


def selected_videos(selection: Selection) -> ColumnElement[bool]:
    """Return the condition of the videos that a retry of this selection takes."""
    if selection.everything:
        return true()
    unfinished, failed = VIDEOS.c.status.not_in(ENDED), VIDEOS.c.status == VideoStatus.FAILED
    if selection.video_ids is not None:
        return or_(unfinished, VIDEOS.c.video_id.in_(selection.video_ids))
    if selection.groups is not None:
        same = exists().where(NEWEST_RESULT, RESULTS.c.fingerprint.in_(selection.groups)).correlate(VIDEOS)
        return or_(unfinished, and_(failed, same))
    return or_(unfinished, failed)


def id_begins_with(q: str) -> ColumnElement[bool]:
    """Return the condition of the videos whose ID begins with `q`; the index finds them."""
    return and_(VIDEOS.c.video_id >= q, VIDEOS.c.video_id < q + LAST_CHARACTER)


def error_contains(words: str) -> ColumnElement[bool]:
    """Return the condition of the failed videos whose error contains `words`; other results are not looked at."""
    contained = exists().where(NEWEST_RESULT, contains(RESULTS.c, words)).correlate(VIDEOS)
    return and_(VIDEOS.c.status == VideoStatus.FAILED, contained)


def contains(columns: Any, words: str) -> ColumnElement[bool]:
    """Return the condition of the rows whose error contains `words`. An ASCII error is not stored folded."""
    wanted = folded(words)
    in_folded: ColumnElement[bool] = columns.error_folded.contains(wanted, autoescape=True)
    if not wanted.isascii():
        return in_folded
    in_ascii = and_(columns.error_folded.is_(None), columns.error.icontains(wanted, autoescape=True))
    return or_(in_folded, in_ascii)


def _select_lines() -> Select[Any]:
    own = (VIDEOS.c.position, VIDEOS.c.video_id, cast(VIDEOS.c.cells, Text).label("cells"), VIDEOS.c.status)
    seconds = case((KNOWN_SECONDS.is_not(None), exact_text(RESULTS.c.duration_seconds)))
    query = select(*own, RESULTS.c.error, VIDEOS.c.attempts, seconds.label("seconds"), RESULTS.c.machine)
    return query.outerjoin(RESULTS, and_(NEWEST_RESULT, HAS_ENDED))


def _line(row: Sequence[Any]) -> ExportedVideo:
    _, video_id, cells, status, error, attempts, seconds, machine = row
    return ExportedVideo(
        video_id, msgspec.json.decode(cells), STATUSES[status], error, attempts, seconds and float(seconds), machine
    )


def _select_videos() -> Select[Any]:
    own = ("job_id", "position", "video_id", "line", "cells", "status", "attempts")
    query = select(
        *(VIDEOS.c[name] for name in own),
        *(RESULTS.c[name] for name in ("error", "fault", "tries", "result", "started_at", "machine")),
        TRACEBACK,
        RESULTS.c.fingerprint.label("group"),
        KNOWN_SECONDS.label("duration_seconds"),
    )
    return query.outerjoin(RESULTS, and_(NEWEST_RESULT, HAS_ENDED)).outerjoin(TRACES, SHARED_TRACE)


def _video(row: Row[Any]) -> Video:
    return Video(**_with_trace(row))


def _with_trace(row: Row[Any]) -> dict[str, Any]:
    return {**row._mapping, "traceback": whole_trace(row.traceback, row.error)}
