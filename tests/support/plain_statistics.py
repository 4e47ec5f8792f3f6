"""The statistics counted plainly, from raw rows: the oracle beside which the program's own are put.

It knows nothing of tallies, quarters are its only rounding, and every percentile is exact.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, text

from backend.store.database import Database

QUARTER = 15 * 60 * 1000
FEW = 5
TOLERANCE = 0.05
ENDED = ("completed", "completed_with_errors", "failed")


@dataclass(frozen=True)
class RawJob:
    """A job as it is stored, with all its results and milestones."""

    owner_id: str
    created_at: int
    results: Sequence[Any]
    milestones: Sequence[Any]


@dataclass
class RawNight:
    """The raw rows of all jobs; those of a deleted job as they were before."""

    deleted: dict[str, RawJob] = field(default_factory=dict)

    def remember(self, database: Database, job_id: str) -> None:
        """Keep the rows of a job that is about to be deleted."""
        self.deleted[job_id] = database.read_now(lambda connection: _raw_job(connection, job_id))

    def jobs(self, database: Database) -> dict[str, RawJob]:
        """Return all jobs that ever were."""
        stored = database.read_now(_raw_jobs)
        assert not stored.keys() & self.deleted.keys(), "a deleted job is still there"
        return {**stored, **self.deleted}


def plain_figures(jobs: dict[str, RawJob], begin: int, end: int) -> dict[str, tuple[float | None, int]]:
    """Return each figure of the period with its n: `begin` is a whole quarter, `end` counts with its quarter."""
    end = -(-end // QUARTER) * QUARTER

    def is_inside(moment: float) -> bool:
        return begin <= moment < end

    newest = [row for job in jobs.values() for row in _newest(job.results) if is_inside(_ended_at(row))]
    good = [row for row in newest if not row.has_failed]
    seconds = [row.duration_seconds for row in newest if round(row.duration_seconds * 1000)]
    films = [(row.film, row.duration_seconds) for row in good if row.film]
    retries = [row for job in jobs.values() for row in _retries(job.results) if is_inside(_ended_at(row))]
    waits = [wait for job in jobs.values() for at, wait in _waits(job) if is_inside(at)]
    runs = [run for job in jobs.values() for at, run in _runs(job) if is_inside(at)]
    pauses = [at for job in jobs.values() for at in _self_pauses(job) if is_inside(at)]
    film_seconds = sum(film for film, _ in films)
    return {
        "videos": _known(len(newest), len(newest)),
        "success_rate": _known(len(good) / len(newest) if newest else None, len(newest)),
        "wait_p50": _percentile(waits, 50),
        "wait_p95": _percentile(waits, 95),
        "run_p50": _percentile(runs, 50),
        "run_p95": _percentile(runs, 95),
        "video_p50": _percentile(seconds, 50),
        "video_p95": _percentile(seconds, 95),
        "video_p99": _percentile(seconds, 99),
        "work_per_film_minute": _known(
            60 * sum(work for _, work in films) / film_seconds if film_seconds else None, len(good)
        ),
        "retries": _known(len(retries), len(newest)),
        "retries_helped": _known(sum(not row.has_failed for row in retries), len(retries)),
        "self_pauses": _known(len(pauses), len(runs)),
    }


def plain_work(jobs: dict[str, RawJob], begin: int, end: int) -> float:
    """Return the seconds of work on results within the period."""
    end = -(-end // QUARTER) * QUARTER
    spans = ((row.started_at, _ended_at(row)) for job in jobs.values() for row in job.results)
    return float(sum(max(0, min(end, until) - max(begin, since)) for since, until in spans) / 1000)


def plain_causes(jobs: dict[str, RawJob], begin: int, end: int) -> dict[str, tuple[int, int]]:
    """Return how many videos and jobs each cause has in the period, by its fingerprint."""
    end = -(-end // QUARTER) * QUARTER
    videos: Counter[str] = Counter()
    of_jobs = defaultdict(set)
    for job_id, job in jobs.items():
        for row in _newest(job.results):
            if row.fingerprint is not None and begin <= _ended_at(row) < end:
                videos[row.fingerprint] += 1
                of_jobs[row.fingerprint].add(job_id)
    return {name: (number, len(of_jobs[name])) for name, number in videos.items()}


def assert_agrees(shown: float | None, exact: float | None, name: str) -> None:
    """Assert that a figure is what was counted plainly: a percentile within 5 %, all else exactly."""
    if exact is None or shown is None:
        assert shown is exact, name
    elif name.endswith(("_p50", "_p95", "_p99")):
        assert abs(shown - exact) <= TOLERANCE * exact + 1e-9, f"{name}: {shown}, not {exact}"
    else:
        assert abs(shown - exact) <= 1e-9 * max(1.0, abs(exact)), f"{name}: {shown}, not {exact}"


def _raw_jobs(connection: Connection) -> dict[str, RawJob]:
    ids = [row.id for row in connection.execute(text("SELECT id FROM job"))]
    return {job_id: _raw_job(connection, job_id) for job_id in ids}


def _raw_job(connection: Connection, job_id: str) -> RawJob:
    job = connection.execute(text("SELECT owner_id, created_at FROM job WHERE id = :id"), {"id": job_id}).one()
    of_job = {"id": job_id}
    results = connection.execute(
        text(
            "SELECT position, attempt, started_at, duration_seconds, error IS NOT NULL AS has_failed, fingerprint, "
            "result FROM result WHERE job_id = :id ORDER BY position, attempt"
        ),
        of_job,
    )
    milestones = connection.execute(
        text("SELECT at, status, attempt, pause_reason FROM milestone WHERE job_id = :id ORDER BY seq"), of_job
    )
    return RawJob(job.owner_id, job.created_at, [RawResult.of(row) for row in results], milestones.all())


@dataclass(frozen=True)
class RawResult:
    """A row of a result."""

    position: int
    attempt: int
    started_at: int
    duration_seconds: float
    has_failed: bool
    fingerprint: str | None
    film: float | None

    @classmethod
    def of(cls, row: Any) -> RawResult:
        facts = json.loads(row.result) if isinstance(row.result, str) else row.result or {}
        film = facts.get("duration_seconds") if not row.has_failed else None
        times = (row.started_at, row.duration_seconds)
        return cls(row.position, row.attempt, *times, bool(row.has_failed), row.fingerprint, film)


def _newest(results: Iterable[RawResult]) -> Iterable[RawResult]:
    return {row.position: row for row in results}.values()


def _retries(results: Sequence[RawResult]) -> Iterator[RawResult]:
    for before, row in pairwise(results):
        if before.position == row.position and before.has_failed:
            yield row


def _ended_at(row: RawResult) -> int:
    return row.started_at + round(row.duration_seconds * 1000)


def _waits(job: RawJob) -> Iterator[tuple[int, float]]:
    for milestone in job.milestones:
        if milestone.attempt == 1 and milestone.status == "processing":
            yield milestone.at, (milestone.at - job.created_at) / 1000
            return


def _runs(job: RawJob) -> Iterator[tuple[int, float]]:
    starts: dict[int, int] = {}
    for milestone in job.milestones:
        if milestone.status == "processing":
            starts.setdefault(milestone.attempt, milestone.at)
        elif milestone.status in ENDED and milestone.attempt in starts:
            yield milestone.at, (milestone.at - starts[milestone.attempt]) / 1000


def _self_pauses(job: RawJob) -> Iterator[int]:
    return (row.at for row in job.milestones if row.status == "paused" and row.pause_reason)


def _percentile(values: Sequence[float], percent: int) -> tuple[float | None, int]:
    if len(values) < FEW:
        return None, len(values)
    return sorted(values)[(len(values) * percent + 99) // 100 - 1], len(values)


def _known(value: float | None, n: int) -> tuple[float | None, int]:
    return (None if n < FEW else value), n
