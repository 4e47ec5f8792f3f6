"""Fills the tallies of an older database from its results, before the server serves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, text

from backend.clock import from_millis
from backend.domain.measures import Ledger, job_measures
from backend.store.backlog import Backlog
from backend.store.counting import FILM_SQL, RESULT_SQL, judged_measures, result_of_row
from backend.store.rollups import CauseWords, add, name_causes
from backend.store.transactions import Database
from progress_dashboard.protocol import EXTERNAL, UNFINISHED, Status

LEFT = Backlog("rollup_filling")
VIDEOS_AT_ONCE = 5_000
JOBS_AT_ONCE = 200
_JOBS = text(
    "SELECT number, id, owner_id, processor, created_at, total_videos, current_video, failed FROM job "
    "WHERE number > :after ORDER BY number LIMIT :limit"
)
_RESULTS = (
    f"SELECT {RESULT_SQL} FROM result AS found "  # noqa: S608  our own names
    "WHERE found.job_id = :job_id ORDER BY found.position, found.attempt"
)
_MILESTONES = text("SELECT at, status, attempt, pause_reason FROM milestone WHERE job_id = :job_id ORDER BY seq")
_UNNAMED = text(
    "SELECT result.fingerprint, result.error, video.video_id FROM result "
    "JOIN video ON video.job_id = result.job_id AND video.position = result.position "
    "WHERE result.job_id = :job_id AND result.fingerprint IS NOT NULL "
    "AND result.fingerprint NOT IN (SELECT fingerprint FROM cause)"
)


@dataclass(frozen=True, slots=True)
class PastJob:
    """What counts of a stored job."""

    number: int
    id: str
    owner_id: str
    processor: str
    created_at: datetime
    total_videos: int
    current_video: int
    failed: int


@dataclass(frozen=True, slots=True)
class PastState:
    """What counts of the state of a job at one of its milestones."""

    owner_id: str
    processor: str
    status: Status
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    pause_reason: str | None
    succeeded: int

    @property
    def is_external(self) -> bool:
        return self.processor == EXTERNAL


def finish_filling(database: Database) -> None:
    """Count the results that were there before the tallies; nothing, as a rule.

    Only the server that owns the database calls it. Raises `Interrupted` after Ctrl-C or SIGTERM.
    """
    LEFT.fill(database, _fill_some, "earlier results are counted for the statistics")


def is_left_to_fill(connection: Connection) -> bool:
    """Return True if earlier results are not counted yet."""
    return LEFT.is_left(connection)


def _fill_some(connection: Connection) -> int:
    """Count some jobs, and return the number of the last one."""
    done, last = LEFT.how_far(connection)
    ledger, videos = Ledger(), 0
    jobs = connection.execute(_JOBS, {"after": done, "limit": JOBS_AT_ONCE}).all()
    for row in jobs:
        job = PastJob(**{**row._mapping, "created_at": from_millis(row.created_at)})
        count_job(connection, ledger, job)
        _name_causes_of(connection, job)
        done, videos = job.number, videos + job.total_videos
        if videos >= VIDEOS_AT_ONCE:
            break
    done = done if jobs else last
    add(connection, ledger)
    LEFT.note(connection, done)
    return done


def count_job(connection: Connection, ledger: Ledger, job: PastJob) -> None:
    """Count everything that is stored of a job."""
    query = text(_RESULTS.format(film=FILM_SQL[connection.dialect.name]))
    results = [result_of_row(*row) for row in connection.execute(query, {"job_id": job.id})]
    for _, of_video in groupby(results, key=lambda result: result.position):
        previous = None
        for result in of_video:
            ledger.add_result(result, owner_id=job.owner_id, processor=job.processor, previous=previous)
            previous = result
    earlier: PastState | None = None
    for state in _states(job, connection.execute(_MILESTONES, {"job_id": job.id}).all()):
        for measure in job_measures(earlier, state):
            ledger.add_measure(measure)
        earlier = state
    for measure in judged_measures(connection, job.id, job.owner_id):
        ledger.add_measure(measure)


def _name_causes_of(connection: Connection, job: PastJob) -> None:
    examples = {row.fingerprint: row for row in connection.execute(_UNNAMED, {"job_id": job.id})}
    name_causes(connection, [CauseWords.of(*row) for row in examples.values()])


def _states(job: PastJob, milestones: Sequence[Any]) -> Iterator[PastState]:
    """Yield the states of a job as its milestones tell them. An attempt starts when it is processing first."""
    started_at: datetime | None = None
    attempt = 1
    for number, milestone in enumerate(milestones):
        at, status = from_millis(milestone.at), Status(milestone.status)
        if milestone.attempt != attempt:
            attempt, started_at = milestone.attempt, None
        if status is Status.PROCESSING and started_at is None:
            started_at = at
        is_last = number == len(milestones) - 1
        yield PastState(
            owner_id=job.owner_id,
            processor=job.processor,
            status=status,
            attempt=attempt,
            created_at=job.created_at,
            started_at=started_at,
            finished_at=None if status in UNFINISHED else at,
            updated_at=at,
            pause_reason=milestone.pause_reason,
            succeeded=job.current_video - job.failed if is_last else 0,
        )
