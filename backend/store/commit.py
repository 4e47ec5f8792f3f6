"""Writes a tick: all its changes in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, update

from backend.domain.job import Job
from backend.domain.video import VideoStatus
from backend.store import bulk, forecasts, notifications
from backend.store.changes import NewJob, RemovedJob, Reset, Tick, VideoChange
from backend.store.counting import completes_the_rest, note
from backend.store.problem_tables import JOB_ACTIONS
from backend.store.rows import RowCodec
from backend.store.runs import delete_ended
from backend.store.tables import (
    ARRIVALS,
    EVENTS,
    JOB_COLUMNS,
    JOBS,
    KEYS,
    MILESTONES,
    RESULTS,
    TOMBSTONES,
    TRACES,
    VIDEOS,
)
from backend.store.traces import Trace, shared_trace
from backend.store.videos import selected_videos

UNCHANGING = (
    "owner_id",
    "name",
    "processor",
    "options",
    "source",
    "total_videos",
    "found",
    "skipped_rows",
    "created_at",
)
FOLDED = ("name_folded", "name_key", "error_folded")  # made from the name and the error
_ADD_JOBS = bulk.insert(
    RowCodec[NewJob](
        JOBS, (*JOB_COLUMNS, *FOLDED, "columns"), {name: f"job.{name}" for name in (*JOB_COLUMNS, *FOLDED)}
    )
)
_UPDATE_JOBS = bulk.update(
    RowCodec[Job](JOBS, [name for name in (*JOB_COLUMNS, "error_folded") if name not in UNCHANGING]), keys=["id"]
)
_UPDATE_VIDEOS = bulk.update(
    RowCodec[Any](VIDEOS, ["job_id", "position", "status", "attempts"]), keys=["job_id", "position"]
)
_ADD_RESULTS = bulk.insert(
    RowCodec[Any](
        RESULTS,
        RESULTS.c.keys(),
        {name: f"change.{name}" for name in RESULTS.c.keys() if name != "trace"}  # noqa: SIM118
        | {"attempt": "change.attempts", "trace": "digest"},
    )
)
_ADD_TRACES = bulk.upsert(
    RowCodec[Trace](TRACES, ["digest", "uses", "body"]), key="digest", change="uses = trace.uses + excluded.uses"
)
_ADD_EVENTS = bulk.insert(
    RowCodec[Any](
        EVENTS, ["job_id", "seq", "at", "body"], {"job_id": "job.id", "seq": "job.seq", "at": "job.updated_at"}
    )
)
_ADD_MILESTONES = bulk.insert(RowCodec[Any](MILESTONES, MILESTONES.c.keys()))
_ADD_ACTIONS = bulk.upsert(
    RowCodec[Any](JOB_ACTIONS, JOB_ACTIONS.c.keys()), key="job_id, at", change="action = excluded.action"
)
_ARRIVED = delete(ARRIVALS).where(ARRIVALS.c.job_id == bindparam("b_job_id"))
_REMOVE_JOB = (
    update(JOBS)
    .where(JOBS.c.id == bindparam("b_id"))
    .values(on_dashboard=False, pinned=False, removed_seq=bindparam("b_removed_seq"))
)
_COMPLETE_REST = (
    update(VIDEOS)
    .where(VIDEOS.c.job_id == bindparam("b_job_id"), VIDEOS.c.status == VideoStatus.PENDING)
    .values(status=VideoStatus.COMPLETED)
)


@dataclass(frozen=True, slots=True)
class TracedResult:
    """A change that brings a video's result, and the trace that it shares."""

    change: VideoChange
    trace: Trace | None

    @property
    def digest(self) -> bytes | None:
        return None if self.trace is None else self.trace.digest


def commit(connection: Connection, tick: Tick) -> None:
    """Write all changes of the tick; the order matters: `resets` come after the videos, deletions after everything."""
    _ADD_JOBS.execute(connection, tick.new)
    for new in tick.new:
        _add_key(connection, new)
    _execute_many(connection, _ARRIVED, [{"b_job_id": new.job.id} for new in tick.new])
    _UPDATE_JOBS.execute(connection, tick.jobs)
    _execute_many(connection, _REMOVE_JOB, [{"b_id": gone.job_id, "b_removed_seq": gone.seq} for gone in tick.removed])
    newest = {(change.job_id, change.position): change for change in tick.videos}
    _UPDATE_VIDEOS.execute(connection, newest.values())
    for reset in tick.resets:
        _reset(connection, reset)
    _execute_many(connection, _COMPLETE_REST, [{"b_job_id": job.id} for job in tick.jobs if completes_the_rest(job)])
    _add_results(connection, [change for change in tick.videos if change.has_result])
    _ADD_MILESTONES.execute(connection, tick.milestones)
    judged = forecasts.write(connection, tick)
    note(connection, replace(tick, measures=[*tick.measures, *judged]) if judged else tick)
    if ended := [change.run_id for change in tick.videos if change.run_id is not None]:
        delete_ended(connection, ended)
    _ADD_EVENTS.execute(connection, tick.events)
    _ADD_ACTIONS.execute(connection, tick.actions)
    notifications.write(connection, tick)
    for gone in tick.removed:
        if gone.is_deleted:
            _delete(connection, gone)


def _add_key(connection: Connection, new: NewJob) -> None:
    if new.idempotency is None:
        return
    key, request_hash = new.idempotency
    job = new.job
    row = {"user_id": job.owner_id, "key": key, "request_hash": request_hash, "job_id": job.id}
    connection.execute(insert(KEYS), {**row, "created_at": job.created_at})


def _add_results(connection: Connection, changes: Sequence[VideoChange]) -> None:
    results = [TracedResult(change, shared_trace(change.traceback, change.error)) for change in changes]
    traces = [result.trace for result in results if result.trace is not None]
    uses = Counter(trace.digest for trace in traces)
    distinct = {trace.digest: replace(trace, uses=uses[trace.digest]) for trace in traces}
    _ADD_TRACES.execute(connection, distinct.values())
    _ADD_RESULTS.execute(connection, results)


def _reset(connection: Connection, reset: Reset) -> None:
    running = VIDEOS.c.status == VideoStatus.PROCESSING
    which = running if reset.selection is None else selected_videos(reset.selection)
    pending = update(VIDEOS).where(VIDEOS.c.job_id == reset.job_id, which).values(status=VideoStatus.PENDING)
    connection.execute(pending)


def _delete(connection: Connection, gone: RemovedJob) -> None:
    """Leave a tombstone of the job; its videos and results are erased later, in small steps."""
    connection.execute(delete(JOBS).where(JOBS.c.id == gone.job_id))
    connection.execute(delete(KEYS).where(KEYS.c.job_id == gone.job_id))
    notifications.delete_of_job(connection, gone.job_id)
    tombstone = {"job_id": gone.job_id, "owner_id": gone.owner_id, "removed_seq": gone.seq, "erased": False}
    connection.execute(insert(TOMBSTONES), tombstone)


def _execute_many(connection: Connection, statement: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(statement, rows)
