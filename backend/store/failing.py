"""Keeps up to date what fails now, and what is remembered of causes, in the transaction that counts the results.

A video of an owner fails while its newest result, of all the owner's jobs, is a failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from backend.clock import from_millis
from backend.domain.measures import VideoResult
from backend.store import bulk
from backend.store.problem_tables import CAUSE_MEMORY, FAILING
from backend.store.rows import RowCodec
from backend.store.tables import CAUSE_ROLLUPS

VALUES = ("job_id", "position", "attempt", "fingerprint", "at")


@dataclass(frozen=True, slots=True)
class VideoKey:
    """A video of an owner, whatever its jobs are."""

    owner_id: str
    video_id: str


@dataclass(frozen=True, slots=True)
class FailingVideo:
    """A video, and the failure that is its newest result."""

    owner_id: str
    video_id: str
    job_id: str
    position: int
    attempt: int
    fingerprint: str
    at: datetime


@dataclass(slots=True)
class Memory:
    """What some results add to the memory of a cause. Times are in milliseconds."""

    first: int
    last: int
    jobs: set[str] = field(default_factory=set)
    retried: int = 0
    helped: int = 0

    def see(self, at: int) -> None:
        """Take a moment at which the cause was met."""
        self.first, self.last = min(self.first, at), max(self.last, at)


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """The same as a row."""

    fingerprint: str
    owner_id: str
    jobs: int
    first_seen: datetime
    last_seen: datetime
    retried: int
    helped: int


@dataclass(frozen=True, slots=True)
class JobOfCause:
    """A job that met a cause."""

    fingerprint: str
    job_id: str


_PUT = bulk.upsert(
    RowCodec[FailingVideo](FAILING, ["owner_id", "video_id", *VALUES]),
    key="owner_id, video_id",
    change=", ".join(f"{name} = excluded.{name}" for name in VALUES),
)
_MEND = bulk.Bulk(
    RowCodec[VideoKey](FAILING, ["owner_id", "video_id"]),
    "WITH mended (owner_id, video_id) AS ({rows}) DELETE FROM failing_video "
    "WHERE (owner_id, video_id) IN (SELECT owner_id, video_id FROM mended)",
)
_REMEMBER = bulk.upsert(
    RowCodec[MemoryRow](CAUSE_MEMORY, CAUSE_MEMORY.c.keys()),
    key="fingerprint, owner_id",
    change=", ".join(
        (
            *(f"{name} = cause_memory.{name} + excluded.{name}" for name in ("jobs", "retried", "helped")),
            "first_seen = CASE WHEN excluded.first_seen < cause_memory.first_seen "
            "THEN excluded.first_seen ELSE cause_memory.first_seen END",
            "last_seen = CASE WHEN excluded.last_seen > cause_memory.last_seen "
            "THEN excluded.last_seen ELSE cause_memory.last_seen END",
        )
    ),
)
_KNOWN_JOBS = bulk.select(
    RowCodec[JobOfCause](CAUSE_ROLLUPS, ["fingerprint", "job_id"]), "found.fingerprint, found.job_id"
)
_MEND_COMPLETED = text(
    "DELETE FROM failing_video WHERE owner_id = :owner_id AND at <= :at AND video_id IN "
    "(SELECT video_id FROM video WHERE job_id = :job_id AND status = 'completed')"
)


class Outcomes:
    """What some results, in the order in which they came, change of what fails and is remembered."""

    def __init__(self) -> None:
        self.newest: dict[tuple[str, str], FailingVideo | None] = {}
        self.memories: dict[tuple[str, str], Memory] = {}
        self.completed: list[tuple[str, str, int]] = []

    def add(
        self, result: VideoResult, *, owner_id: str, video_id: str | None, previous: VideoResult | None = None
    ) -> None:
        """Take the next result of a video; `previous` is the one before in its job."""
        at = result.started_at + result.millis
        if video_id is not None:  # else its job was erased
            self.newest[owner_id, video_id] = _failing(result, owner_id, video_id, at)
        if result.fingerprint is not None:
            memory = self._memory(result.fingerprint, owner_id, at)
            memory.jobs.add(result.job_id)
        if previous is not None and previous.fingerprint is not None:
            memory = self._memory(previous.fingerprint, owner_id, previous.started_at + previous.millis)
            memory.retried += 1
            memory.helped += not result.has_failed

    def _memory(self, fingerprint: str, owner_id: str, at: int) -> Memory:
        memory = self.memories.setdefault((fingerprint, owner_id), Memory(at, at))
        memory.see(at)
        return memory


def tell_new_jobs(connection: Connection, outcomes: Outcomes) -> None:
    """Leave the jobs in the memories that meet their cause for the first time."""
    pairs = [JobOfCause(name, job_id) for (name, _), memory in outcomes.memories.items() for job_id in memory.jobs]
    known: set[tuple[Any, ...]] = {tuple(row) for row in _KNOWN_JOBS.fetch(connection, pairs)}
    for (fingerprint, _), memory in outcomes.memories.items():
        memory.jobs = {job_id for job_id in memory.jobs if (fingerprint, job_id) not in known}


def write(connection: Connection, outcomes: Outcomes) -> None:
    """Store what fails since these results, and what is remembered of them."""
    _PUT.execute(connection, [video for video in outcomes.newest.values() if video is not None])
    _MEND.execute(connection, [VideoKey(*key) for key, video in outcomes.newest.items() if video is None])
    _REMEMBER.execute(connection, _rows(outcomes))
    for owner_id, job_id, at in outcomes.completed:
        connection.execute(_MEND_COMPLETED, {"owner_id": owner_id, "job_id": job_id, "at": at})


def _rows(outcomes: Outcomes) -> Iterable[MemoryRow]:
    for (fingerprint, owner_id), memory in outcomes.memories.items():
        seen = from_millis(memory.first), from_millis(memory.last)
        yield MemoryRow(fingerprint, owner_id, len(memory.jobs), *seen, memory.retried, memory.helped)


def _failing(result: VideoResult, owner_id: str, video_id: str, at: int) -> FailingVideo | None:
    if not result.has_failed or result.fingerprint is None:
        return None
    place = result.job_id, result.position, result.attempt
    return FailingVideo(owner_id, video_id, *place, result.fingerprint, from_millis(at))
