"""Everything SQL about jobs, videos, results and their history.

Who may see a job is decided here, once: a query takes `owner_id` (None: everybody's jobs, for administrators).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from operator import itemgetter
from sqlite3 import Cursor
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.engine import Row

from backend.clock import to_millis
from backend.errors import Fault, Invalid
from backend.jobs import (
    OUTCOME_MARKS,
    UNFINISHED,
    Cause,
    Job,
    Milestone,
    Outcome,
    Selection,
    Source,
    Status,
    Timeline,
    Times,
    Video,
    VideoStatus,
)
from backend.store import bulk
from backend.store.bulk import insert_into, update_rows
from backend.store.database import Database
from backend.store.tables import METADATA

T = TypeVar("T")
USERS, JOBS, VIDEOS, RESULTS, EVENTS, MILESTONES, KEYS, TOMBSTONES = (
    METADATA.tables[name]
    for name in ("user", "job", "video", "result", "progress_event", "milestone", "idempotency_key", "tombstone")
)
PRUNED_AT_ONCE = 500
ERASED_AT_ONCE = 500
MOST_CAUSES = 200
MOST_MILESTONES = 60
PROBED_AT_ONCE = 1_000
BEFORE_ALL = -(2**63)
SCANNED, HALVINGS = 64, 4
LAST_CHARACTER = "\U0010ffff"
SORTS = ("newest", "oldest", "name", "updated")
_NEWEST_RESULT = and_(
    RESULTS.c.job_id == VIDEOS.c.job_id, RESULTS.c.position == VIDEOS.c.position, RESULTS.c.attempt == VIDEOS.c.attempts
)
_OF_RESULT = ("error", "traceback", "fault", "fingerprint", "tries", "result", "started_at", "duration_seconds")
_JOB_COLUMNS = tuple(name for name in Job.__struct_fields__ if name not in ("owner", "running", "doing"))


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list and where the next part begins (None: this was the last)."""

    items: list[T]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoChange:
    """A video's new status; with a result when an attempt ended."""

    job_id: str
    position: int
    status: VideoStatus
    attempts: int
    started_at: datetime | None = None
    duration_seconds: float | None = None
    error: str | None = None
    traceback: str | None = None
    fault: Fault | None = None
    fingerprint: str | None = None
    job_attempt: int = 1
    tries: int = 1
    result: Mapping[str, Any] | None = None

    @property
    def has_result(self) -> bool:
        return self.duration_seconds is not None


@dataclass(frozen=True, slots=True)
class Reset:
    """Videos of a job that are pending again: those of a retry, or (None) those that ran when it was let go."""

    job_id: str
    selection: Selection | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """What a retry would take: videos, how many of them failed, and the newest error of the failed ones left out."""

    videos: int
    failed: int
    error_left: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job that becomes visible with this tick; its videos are stored already."""

    job: Job
    columns: tuple[str, ...]
    idempotency: tuple[str, str] | None = None
    """(key, request hash)"""


@dataclass(frozen=True, slots=True)
class OldHistory:
    """A part of the history rows that are too old.

    `ends`: (job ID, the seq up to which its rows are too old); `rows`: how many they are; `look_after`: the job ID
    after which to look for more, None when there are no more.
    """

    ends: tuple[tuple[str, int], ...]
    rows: int
    look_after: str | None


class Event(Protocol):
    """An update to be kept in a job's history; the writer's thread asks for its JSON, so that the loop need not."""

    job: Job

    @property
    def body(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What one transaction makes durable; `removed`: (job ID, seq), `deleted`: (job ID, owner ID, seq)."""

    new: Sequence[NewJob]
    jobs: Sequence[Job]
    events: Sequence[Event]
    removed: Sequence[tuple[str, int]]
    videos: Sequence[VideoChange]
    resets: Sequence[Reset] = ()
    deleted: Sequence[tuple[str, str, int]] = ()
    milestones: Sequence[Milestone] = ()


class JobStore:
    """Jobs in the database; every read sees committed data only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def commit(self, tick: Tick) -> None:
        """All of `tick`, or nothing."""
        await self._database.write(lambda connection: _commit(connection, tick))

    async def add_videos(self, videos: Sequence[Video]) -> None:
        """Rows of a job that is not visible yet; `forget_unborn` takes them away when the job never comes."""
        rows = [_video_row(video) for video in videos]
        await self._database.write(lambda connection: connection.execute(insert(VIDEOS), rows))

    async def forget_unborn(self) -> None:
        """Delete the videos of jobs that were never completed, because the server died while they were stored."""
        orphans = delete(VIDEOS).where(~exists().where(JOBS.c.id == VIDEOS.c.job_id))
        await self._database.write(lambda connection: connection.execute(orphans))

    async def take_back_running(self) -> None:
        """Videos that were running when the server died are pending again."""
        running = update(VIDEOS).where(VIDEOS.c.status == VideoStatus.PROCESSING).values(status=VideoStatus.PENDING)
        await self._database.write(lambda connection: connection.execute(running))

    async def unfinished(self) -> list[Job]:
        """Jobs that still have something to do, oldest first."""
        return await self._jobs(
            _select_jobs().where(JOBS.c.status.in_(UNFINISHED)).order_by(JOBS.c.created_at, JOBS.c.id)
        )

    async def on_dashboard(self) -> list[Job]:
        """Jobs that are on somebody's dashboard, in the order of their `seq`."""
        return await self._jobs(_select_jobs().where(JOBS.c.on_dashboard).order_by(JOBS.c.seq))

    async def removals(self, limit: int) -> list[tuple[str, str, int]]:
        """(job ID, owner ID, seq) of the newest jobs that left the dashboard, oldest first."""
        left = select(JOBS.c.id, JOBS.c.owner_id, JOBS.c.removed_seq).where(~JOBS.c.on_dashboard)
        deleted = select(TOMBSTONES.c.job_id, TOMBSTONES.c.owner_id, TOMBSTONES.c.removed_seq)
        found: list[Any] = []
        for query, seq in ((left, JOBS.c.removed_seq), (deleted, TOMBSTONES.c.removed_seq)):
            found += [tuple(row) for row in await self._all(query.order_by(seq.desc()).limit(limit))]
        return sorted(found, key=itemgetter(2))[-limit:]

    async def last_seq(self) -> int:
        """The newest position that was ever stored; 0 in an empty database."""
        newest = select(func.max(JOBS.c.seq).label("changed"), func.max(JOBS.c.removed_seq).label("removed"))
        row = (await self._all(newest))[0]
        deleted = (await self._all(select(func.max(TOMBSTONES.c.removed_seq))))[0]
        return max(row.changed or 0, row.removed or 0, deleted[0] or 0)

    async def find(self, job_id: str, *, owner_id: str | None) -> Job | None:
        """The job, or None when there is none that this reader may see."""
        found = await self._jobs(_visible(_select_jobs().where(JOBS.c.id == job_id), owner_id))
        return found[0] if found else None

    async def columns(self, job_id: str) -> tuple[str, ...]:
        """The header of the job's own list; () without one."""
        rows = await self._all(select(JOBS.c.columns).where(JOBS.c.id == job_id))
        return tuple(rows[0].columns)

    async def jobs(
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
        """A page of jobs; `q`: a job or video ID (whole or its beginning), a part of the name, or of the error."""
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
            query = query.where(_after(key, descending, cursor))
        rows = await self._all(query.order_by(*order).limit(limit + 1))
        items = [_job(row) for row in rows[:limit]]
        more = len(rows) > limit
        return Page(items, _cursor(rows[limit - 1]._mapping[key.name], items[-1].id) if more else None)

    async def with_video(self, q: str, *, owner_id: str | None) -> list[str]:
        """The ids of the jobs on this reader's dashboard with a video whose ID begins so, or whose error says so.

        It looks through the videos of these jobs, whose number is bounded, and not through the index of all IDs, where
        a letter or two begin most of what ever ran.
        """
        begins = func.substr(VIDEOS.c.video_id, 1, len(q)) == q
        on_dashboard = _visible(select(JOBS.c.id).where(JOBS.c.on_dashboard), owner_id)
        found = [exists().where(VIDEOS.c.job_id == JOBS.c.id, wanted) for wanted in (begins, _failed_with(q))]
        rows = await self._all(on_dashboard.where(or_(*found)))
        return [row.id for row in rows]

    async def count(self, *, owner_id: str | None) -> int:
        """How many jobs this reader may see."""
        rows = await self._all(_visible(select(func.count()).select_from(JOBS), owner_id))
        return int(rows[0][0])

    async def videos(
        self, job_id: str, *, status: VideoStatus | None, q: str, limit: int, cursor: str | None, after: int = -1
    ) -> Page[Video]:
        """A page of a job's videos with their newest results, in the order of the list.

        `q`: a video ID, whole or its beginning, or a part of the error.
        """
        query = _select_videos().where(VIDEOS.c.job_id == job_id, VIDEOS.c.position > _position(cursor, after))
        if status is not None:
            query = query.where(VIDEOS.c.status == status)
        if q:
            query = query.where(or_(_begins_with(q), _failed_with(q)))
        rows = await self._all(query.order_by(VIDEOS.c.position).limit(limit + 1))
        items = [_video(row) for row in rows[:limit]]
        return Page(items, str(items[-1].position) if len(rows) > limit else None)

    async def video(self, job_id: str, position: int) -> Video | None:
        """One video of a job."""
        rows = await self._all(_select_videos().where(VIDEOS.c.job_id == job_id, VIDEOS.c.position == position))
        return _video(rows[0]) if rows else None

    async def todo(self, job_id: str, *, after: int, limit: int) -> list[Video]:
        """The next videos without a stored result, by position."""
        page = await self.videos(job_id, status=VideoStatus.PENDING, q="", limit=limit, cursor=None, after=after)
        return page.items

    async def positions(self, job_id: str, video_ids: Collection[str]) -> dict[str, int]:
        """Where these videos stand in the job's list; without those that are not in it."""
        named = select(VIDEOS.c.video_id, VIDEOS.c.position).where(
            VIDEOS.c.job_id == job_id, VIDEOS.c.video_id.in_(video_ids)
        )
        return {row.video_id: row.position for row in await self._all(named)}

    async def failed_positions(self, job_id: str) -> set[int]:
        """The positions of the job's failed videos."""
        failed = VIDEOS.c.status == VideoStatus.FAILED
        rows = await self._all(select(VIDEOS.c.position).where(VIDEOS.c.job_id == job_id, failed))
        return {row.position for row in rows}

    async def selected(self, job_id: str, selection: Selection) -> Selected:
        """What a retry of this selection takes."""
        chosen, failed = _chosen(selection), VIDEOS.c.status == VideoStatus.FAILED
        mine = VIDEOS.c.job_id == job_id
        counts = select(func.count(), func.sum(case((failed, 1), else_=0))).select_from(VIDEOS).where(mine, chosen)
        left = select(RESULTS.c.error).join(VIDEOS, _NEWEST_RESULT).where(mine, failed, ~chosen)
        ended_at = type_coerce(RESULTS.c.started_at, BigInteger) + RESULTS.c.duration_seconds * 1000
        newest = left.order_by(ended_at.desc(), RESULTS.c.position.desc()).limit(1)

        def read(connection: Connection) -> Selected:
            videos, failures = connection.execute(counts).one()
            return Selected(videos, failures or 0, connection.execute(newest).scalar())

        return await self._database.read(read)

    async def causes(self, job_id: str) -> list[Cause]:
        """Why the job's failed videos failed, most videos first; at most `MOST_CAUSES`."""
        failed = (VIDEOS.c.job_id == job_id, VIDEOS.c.status == VideoStatus.FAILED)
        grouped = (
            select(
                RESULTS.c.fingerprint,
                func.count().label("count"),
                func.min(RESULTS.c.started_at).label("first_seen"),
                func.max(RESULTS.c.started_at).label("last_seen"),
                func.min(RESULTS.c.position).label("position"),
            )
            .join(VIDEOS, _NEWEST_RESULT)
            .where(*failed)
            .group_by(RESULTS.c.fingerprint)
            .order_by(func.count().desc(), func.min(RESULTS.c.position))
            .limit(MOST_CAUSES)
            .subquery()
        )
        example = and_(VIDEOS.c.job_id == job_id, VIDEOS.c.position == grouped.c.position)
        query = (
            select(grouped, VIDEOS.c.video_id, RESULTS.c.error, RESULTS.c.traceback, RESULTS.c.fault)
            .join(VIDEOS, example)
            .join(RESULTS, _NEWEST_RESULT)
            .order_by(grouped.c.count.desc(), grouped.c.position)
        )
        return [_cause(row) for row in await self._all(query)]

    async def outcomes_strip(self, job_id: str) -> str:
        """How each of a job's videos stands, a character of `OUTCOME_MARKS` each, in the order of the list."""
        mark = case(OUTCOME_MARKS, value=VIDEOS.c.status).label("mark")
        marks = select(mark).where(VIDEOS.c.job_id == job_id).order_by(VIDEOS.c.position).subquery()
        rows = await self._all(select(func.group_concat(marks.c.mark, "")))  # keeps the order, a scan of the key
        return rows[0][0] or ""

    async def outcomes(self, job_id: str, position: int) -> list[Outcome]:
        """The stored results of one video, oldest first."""
        mine = (RESULTS.c.job_id == job_id, RESULTS.c.position == position)
        rows = await self._all(select(RESULTS).where(*mine).order_by(RESULTS.c.attempt))
        return [_outcome(row) for row in rows]

    async def timeline(self, job_id: str) -> Timeline:
        """The job's newest `MOST_MILESTONES` milestones; also long after its history was pruned."""
        mine = MILESTONES.c.job_id == job_id
        counted = select(func.count()).select_from(MILESTONES).where(mine)
        newest = select(MILESTONES).where(mine).order_by(MILESTONES.c.seq.desc()).limit(MOST_MILESTONES)

        def read(connection: Connection) -> Timeline:
            rows = connection.execute(newest).all()
            earlier = connection.execute(counted).scalar_one() - len(rows)
            return Timeline(tuple(_milestone(row) for row in reversed(rows)), earlier)

        return await self._database.read(read)

    async def seconds_taken(self, job_id: str, limit: int) -> list[float]:
        """How long the newest results took, at most so many; without those whose time nobody told."""
        told = (RESULTS.c.job_id == job_id, RESULTS.c.duration_seconds > 0)
        newest = select(RESULTS.c.duration_seconds).where(*told).order_by(RESULTS.c.started_at.desc()).limit(limit)
        return [row.duration_seconds for row in await self._all(newest)]

    async def times(self, job_id: str, attempt: int) -> Times:
        """How long the videos took by their newest results, and how many have one of this attempt of the job."""
        mine = (RESULTS.c.job_id == job_id, VIDEOS.c.status.in_((VideoStatus.COMPLETED, VideoStatus.FAILED)))
        seconds, known = RESULTS.c.duration_seconds.label("seconds"), func.count().over().label("videos")
        place = func.row_number().over(order_by=seconds).label("place")
        ranked = select(seconds, place, known).join(VIDEOS, _NEWEST_RESULT).where(*mine, seconds > 0).subquery()
        places = [(ranked.c.videos * percent + 99) // 100 for percent in (50, 95)]
        limits = select(ranked).where(ranked.c.place.in_(places)).order_by(ranked.c.place)
        tried = select(func.count()).where(RESULTS.c.job_id == job_id, RESULTS.c.job_attempt == attempt)

        def read(connection: Connection) -> Times:
            number, rows = connection.execute(tried).scalar_one(), connection.execute(limits).all()
            if not rows:
                return Times(tried=number)
            return Times(videos=rows[0].videos, p50=rows[0].seconds, p95=rows[-1].seconds, tried=number)

        return await self._database.read(read)

    async def deleted_jobs(self) -> list[str]:
        """The IDs of deleted jobs of which there are still rows."""
        rows = await self._all(select(TOMBSTONES.c.job_id).where(~TOMBSTONES.c.erased))
        return [row.job_id for row in rows]

    async def erase_some(self, job_id: str) -> bool:
        """Delete some rows of a deleted job in a short transaction; False when none are left."""
        return await self._database.write(lambda connection: _erase_some(connection, job_id))

    async def history(self, job_id: str, *, since: datetime | None, after: int | None, limit: int) -> list[bytes]:
        """Updates of a job as they were sent, encoded, oldest first.

        `since`: inclusive, in whole milliseconds (rounded down, so that none is left out); `after`: a seq, exclusive.
        A page costs the same at any depth.
        """
        moment = BEFORE_ALL if since is None else to_millis(since)
        return await self._database.read_by_cursor(lambda cursor: _history(cursor, job_id, moment, after, limit))

    async def old_history(self, *, before: datetime, after_job: str) -> OldHistory:
        """Up to `PRUNED_AT_ONCE` history rows from before `before`, of jobs whose IDs come after `after_job`."""
        moment = to_millis(before)
        return await self._database.read_by_cursor(lambda cursor: _old_history(cursor, moment, after_job))

    async def forget_history(self, old: OldHistory) -> None:
        """Delete these rows in one short transaction; the jobs stay."""
        ends = [{"b_job_id": job_id, "b_seq": seq} for job_id, seq in old.ends]
        await self._database.write(lambda connection: _execute_many(connection, _FORGET_HISTORY, ends))

    async def repeated(self, user_id: str, key: str) -> tuple[str, str] | None:
        """(job ID, request hash) of the job that this idempotency key made."""
        query = select(KEYS.c.job_id, KEYS.c.request_hash).where(KEYS.c.user_id == user_id, KEYS.c.key == key)
        rows = await self._all(query)
        return (rows[0].job_id, rows[0].request_hash) if rows else None

    async def _jobs(self, query: Select[Any]) -> list[Job]:
        return [_job(row) for row in await self._all(query)]

    async def _all(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return await self._database.read(lambda connection: connection.execute(query).all())


def _commit(connection: Connection, tick: Tick) -> None:
    for new in tick.new:
        connection.execute(insert(JOBS), {**_job_row(new.job), "columns": list(new.columns), "removed_seq": None})
        if new.idempotency is not None:
            key, request_hash = new.idempotency
            row = {
                "user_id": new.job.owner_id,
                "key": key,
                "request_hash": request_hash,
                "job_id": new.job.id,
            }
            connection.execute(insert(KEYS), {**row, "created_at": new.job.created_at})
    newest = {(change.job_id, change.position): change for change in tick.videos}
    _UPDATE_JOBS.execute(connection, [_changed_row(job) for job in tick.jobs])
    _execute_many(connection, _REMOVE_JOB, [{"b_id": job_id, "b_removed_seq": seq} for job_id, seq in tick.removed])
    _UPDATE_VIDEOS.execute(connection, [_changed_video_row(change) for change in newest.values()])
    for reset in tick.resets:
        connection.execute(_reset(reset))
    _execute_many(connection, _COMPLETE_REST, [{"b_job_id": job.id} for job in tick.jobs if _went_well_elsewhere(job)])
    _ADD_RESULTS.execute(connection, [_result_row(change) for change in tick.videos if change.has_result])
    _ADD_EVENTS.execute(connection, [_event_row(event) for event in tick.events])
    _ADD_MILESTONES.execute(connection, [_milestone_row(milestone) for milestone in tick.milestones])
    for job_id, owner_id, seq in tick.deleted:
        connection.execute(delete(JOBS).where(JOBS.c.id == job_id))
        connection.execute(delete(KEYS).where(KEYS.c.job_id == job_id))
        tombstone = {"job_id": job_id, "owner_id": owner_id, "removed_seq": seq, "erased": False}
        connection.execute(insert(TOMBSTONES), tombstone)


def _chosen(selection: Selection) -> Any:
    """The videos that a retry of this selection takes."""
    if selection.everything:
        return true()
    unfinished = VIDEOS.c.status.not_in((VideoStatus.COMPLETED, VideoStatus.FAILED))
    failed = VIDEOS.c.status == VideoStatus.FAILED
    if selection.video_ids is not None:
        return or_(unfinished, VIDEOS.c.video_id.in_(selection.video_ids))
    if selection.groups is not None:
        same = exists().where(_NEWEST_RESULT, RESULTS.c.fingerprint.in_(selection.groups)).correlate(VIDEOS)
        return or_(unfinished, and_(failed, same))
    return or_(unfinished, failed)


def _reset(reset: Reset) -> Any:
    running = VIDEOS.c.status == VideoStatus.PROCESSING
    which = running if reset.selection is None else _chosen(reset.selection)
    return update(VIDEOS).where(VIDEOS.c.job_id == reset.job_id, which).values(status=VideoStatus.PENDING)


def _erase_some(connection: Connection, job_id: str) -> bool:
    for table in (RESULTS, VIDEOS, EVENTS, MILESTONES):
        _, key, *_ = table.primary_key  # of one job: the order in which its rows lie
        some = select(key).where(table.c.job_id == job_id).order_by(key).limit(ERASED_AT_ONCE)
        keys = connection.execute(some).scalars().all()
        if keys:
            connection.execute(delete(table).where(table.c.job_id == job_id, key <= keys[-1]))
            return True
    connection.execute(update(TOMBSTONES).where(TOMBSTONES.c.job_id == job_id).values(erased=True))
    return False


def _execute_many(connection: Connection, statement: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(statement, rows)


_CHANGING = (
    "status",
    "requested",
    "attempt",
    "epoch",
    "reported",
    "current_video",
    "failed",
    "progress",
    "message",
    "video_id",
    "error",
    "updated_at",
    "started_at",
    "finished_at",
    "on_dashboard",
    "kept",
    "priority",
    "trouble",
    "resumed",
    "seq",
)
_UPDATE_JOBS = update_rows("job", ["id"], _CHANGING)
_UPDATE_VIDEOS = update_rows("video", ["job_id", "position"], ["status", "attempts"])
_ADD_RESULTS = insert_into(
    "result",
    [
        "job_id",
        "position",
        "attempt",
        "error",
        "traceback",
        "fault",
        "fingerprint",
        "job_attempt",
        "tries",
        "result",
        "started_at",
        "duration_seconds",
    ],
)
_ADD_EVENTS = insert_into("progress_event", ["job_id", "seq", "at", "body"])
_ADD_MILESTONES = insert_into(
    "milestone",
    ["job_id", "seq", "at", "status", "attempt", "current_video", "resumed", "trouble", "message", "heard_at"],
)
_REMOVE_JOB = (
    update(JOBS)
    .where(JOBS.c.id == bindparam("b_id"))
    .values(on_dashboard=False, kept=False, removed_seq=bindparam("b_removed_seq"))
)
_COMPLETE_REST = (
    update(VIDEOS)
    .where(VIDEOS.c.job_id == bindparam("b_job_id"), VIDEOS.c.status == VideoStatus.PENDING)
    .values(status=VideoStatus.COMPLETED)
)


def _went_well_elsewhere(job: Job) -> bool:
    """Whether its end is the only word that came about those of its videos that nobody reported."""
    return job.is_elsewhere and job.status in (Status.COMPLETED, Status.COMPLETED_WITH_ERRORS)


def _changed_row(job: Job) -> bulk.Row:
    return (
        job.id,
        job.status.value,
        job.requested,
        job.attempt,
        job.epoch,
        job.reported,
        job.current_video,
        job.failed,
        job.progress,
        job.message,
        job.video_id,
        job.error,
        to_millis(job.updated_at),
        _millis(job.started_at),
        _millis(job.finished_at),
        job.on_dashboard,
        job.kept,
        job.priority,
        job.trouble,
        job.resumed,
        job.seq,
    )


def _millis(moment: datetime | None) -> int | None:
    return None if moment is None else to_millis(moment)


def _job_row(job: Job) -> dict[str, Any]:
    return {**{name: getattr(job, name) for name in _JOB_COLUMNS}, "options": dict(job.options)}


def _video_row(video: Video) -> dict[str, Any]:
    return {
        "job_id": video.job_id,
        "position": video.position,
        "video_id": video.video_id,
        "line": video.line,
        "cells": list(video.cells),
        "status": video.status,
        "attempts": video.attempts,
    }


def _changed_video_row(change: VideoChange) -> bulk.Row:
    return change.job_id, change.position, change.status.value, change.attempts


def _result_row(change: VideoChange) -> bulk.Row:
    return (
        change.job_id,
        change.position,
        change.attempts,
        change.error,
        change.traceback,
        None if change.fault is None else change.fault.value,
        change.fingerprint,
        change.job_attempt,
        change.tries,
        None if change.result is None else json.dumps(change.result),
        _millis(change.started_at),
        change.duration_seconds,
    )


def _event_row(event: Event) -> bulk.Row:
    return event.job.id, event.job.seq, to_millis(event.job.updated_at), event.body.decode()


def _milestone_row(milestone: Milestone) -> bulk.Row:
    return (
        milestone.job_id,
        milestone.seq,
        to_millis(milestone.at),
        milestone.status.value,
        milestone.attempt,
        milestone.current_video,
        milestone.resumed,
        milestone.trouble,
        milestone.message,
        _millis(milestone.heard_at),
    )


# Written out for the driver's cursor: a page of history is asked for by each client that comes back. Within a job `at`
# never falls as `seq` rises, so that the key alone finds a moment, and no index on `at` has to be kept.
_FROM = "SELECT seq, at FROM progress_event WHERE job_id = ? AND seq >= ? ORDER BY seq LIMIT 1 OFFSET ?"
_LAST = "SELECT seq FROM progress_event WHERE job_id = ? ORDER BY seq DESC LIMIT 1"
_PAGE = "SELECT body FROM progress_event WHERE job_id = ? AND seq >= ? AND at >= ? ORDER BY seq LIMIT ?"
_OLDEST = "SELECT seq, at FROM progress_event WHERE job_id = ? ORDER BY seq LIMIT ?"
_NEXT_JOB = "SELECT job_id, at FROM progress_event WHERE job_id > ? ORDER BY job_id, seq LIMIT 1"
_FORGET_HISTORY = delete(EVENTS).where(EVENTS.c.job_id == bindparam("b_job_id"), EVENTS.c.seq <= bindparam("b_seq"))


def _history(cursor: Cursor, job_id: str, since: int, after: int | None, limit: int) -> list[bytes]:
    first = 0 if after is None else after + 1
    if since > BEFORE_ALL:
        first = _shortly_before(cursor, job_id, since, first)
    return [body.encode() for (body,) in cursor.execute(_PAGE, (job_id, first, since, limit)).fetchall()]


def _shortly_before(cursor: Cursor, job_id: str, since: int, low: int) -> int:
    """A seq from `low` on, at most `SCANNED` rows before the first one of `since`; found by bisection.

    Most halvings would go into the gaps between a job's positions: now and then it is asked whether it is near enough.
    """
    high: int | None = None
    while (ahead := cursor.execute(_FROM, (job_id, low, SCANNED)).fetchone()) is not None and ahead[1] < since:
        low = ahead[0]
        high = high or cursor.execute(_LAST, (job_id,)).fetchone()[0]
        for _ in range(HALVINGS):
            middle = (low + high) // 2
            seq, at = cursor.execute(_FROM, (job_id, middle, 0)).fetchone()
            low, high = (seq, high) if at < since else (low, middle)
    return low


def _old_history(cursor: Cursor, before: int, after_job: str) -> OldHistory:
    """One probe for each job that has history at all: where everything was pruned before, nothing is looked at."""
    ends: list[tuple[str, int]] = []
    rows = 0
    for _ in range(PROBED_AT_ONCE):
        oldest = cursor.execute(_NEXT_JOB, (after_job,)).fetchone()
        if oldest is None:
            return OldHistory(tuple(ends), rows, None)
        job_id, at = oldest
        if at < before:
            old = _old_rows(cursor, job_id, before, PRUNED_AT_ONCE - rows)
            ends.append((job_id, old[-1]))
            rows += len(old)
        if rows == PRUNED_AT_ONCE:
            break  # this job may have more: the next look begins with it
        after_job = job_id
    return OldHistory(tuple(ends), rows, after_job)


def _old_rows(cursor: Cursor, job_id: str, before: int, limit: int) -> list[int]:
    oldest = cursor.execute(_OLDEST, (job_id, limit))
    return [seq for seq, _ in takewhile(lambda row: row[1] < before, oldest)]


def _select_jobs() -> Select[Any]:
    return select(JOBS, USERS.c.name.label("owner")).join(USERS, USERS.c.id == JOBS.c.owner_id)


def _select_videos() -> Select[Any]:
    ended = VIDEOS.c.status.in_((VideoStatus.COMPLETED, VideoStatus.FAILED))  # else an earlier attempt's result
    return select(VIDEOS, *(RESULTS.c[name] for name in _OF_RESULT)).outerjoin(RESULTS, and_(_NEWEST_RESULT, ended))


def _visible(query: Select[Any], owner_id: str | None) -> Select[Any]:
    return query if owner_id is None else query.where(JOBS.c.owner_id == owner_id)


def _matches(q: str) -> Any:
    video = select(VIDEOS.c.job_id).where(_begins_with(q))
    return or_(
        JOBS.c.id.startswith(q.lower(), autoescape=True),
        JOBS.c.name.icontains(q, autoescape=True),
        JOBS.c.error.icontains(q, autoescape=True),
        JOBS.c.id.in_(video),
    )


def _begins_with(q: str) -> Any:
    """The videos whose IDs do; the index finds them."""
    return and_(VIDEOS.c.video_id >= q, VIDEOS.c.video_id < q + LAST_CHARACTER)


def _failed_with(words: str) -> Any:
    """The failed videos whose error has these words; the results of the others are not looked at."""
    said = exists().where(_NEWEST_RESULT, RESULTS.c.error.icontains(words, autoescape=True)).correlate(VIDEOS)
    return and_(VIDEOS.c.status == VideoStatus.FAILED, said)


def _sort_key(sort: str) -> tuple[Any, bool]:
    keys = {
        "newest": (JOBS.c.created_at, True),
        "oldest": (JOBS.c.created_at, False),
        "name": (JOBS.c.name, False),
        "updated": (JOBS.c.updated_at, True),
    }
    return keys[sort]


def _cursor(value: Any, job_id: str) -> str:
    plain = value.isoformat() if isinstance(value, datetime) else value
    return json.dumps([plain, job_id]).encode().hex()


def _after(key: Any, descending: bool, cursor: str) -> Any:
    try:
        value, job_id = json.loads(bytes.fromhex(cursor))
        value = datetime.fromisoformat(value) if key.name != "name" else str(value)
        position = tuple_(bindparam(None, value, type_=key.type), bindparam(None, str(job_id)))
        str(job_id).encode(), str(value).encode()
    except (ValueError, TypeError, RecursionError):
        raise Invalid("The cursor is not one that this list gave; start again without it.") from None
    here = tuple_(key, JOBS.c.id)
    return here < position if descending else here > position


def _position(cursor: str | None, after: int) -> int:
    if cursor is None:
        return after
    if cursor.isascii() and cursor.isdigit() and len(cursor) < 10:
        return int(cursor)
    raise Invalid("The cursor is not one that this list gave; start again without it.")


def _job(row: Row[Any]) -> Job:
    values = {name: row._mapping[name] for name in (*_JOB_COLUMNS, "owner")}
    return Job(**{**values, "status": Status(row.status), "source": Source(row.source)})


def _video(row: Row[Any]) -> Video:
    names = (
        "job_id",
        "position",
        "video_id",
        "line",
        "attempts",
        "error",
        "traceback",
        "result",
        "started_at",
        "tries",
    )
    values = {name: row._mapping[name] for name in names}
    return Video(
        **values,
        cells=tuple(row.cells),
        status=VideoStatus(row.status),
        fault=_fault(row),
        group=row.fingerprint,
        duration_seconds=row.duration_seconds or None,  # 0 stands for work elsewhere, whose time nobody told
    )


def _outcome(row: Row[Any]) -> Outcome:
    names = ("error", "traceback", "tries", "started_at", "duration_seconds")
    return Outcome(**{name: row._mapping[name] for name in names}, attempt=row.job_attempt, fault=_fault(row))


def _milestone(row: Row[Any]) -> Milestone:
    return Milestone(**{**row._mapping, "status": Status(row.status)})


def _cause(row: Row[Any]) -> Cause:
    names = ("fingerprint", "count", "error", "traceback", "position", "video_id", "first_seen", "last_seen")
    return Cause(**{name: row._mapping[name] for name in names}, fault=_fault(row) or Fault.PERMANENT)


def _fault(row: Row[Any]) -> Fault | None:
    return None if row.fault is None else Fault(row.fault)
