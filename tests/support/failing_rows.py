"""Very many failing videos, written in bulk: as counting would have left them, but not through ticks."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, insert

from backend.store.database import Database
from backend.store.problem_tables import CAUSE_MEMORY, FAILING
from backend.store.tables import JOBS, RESULTS
from tests.support.clock import NOON
from tests.support.jobs import a_job

CAUSES = 40
ROWS_AT_ONCE = 20_000


def add_failing(database: Database, rows: int, *, of_job: int = 50, owners: tuple[str, ...] = ("ana", "ben")) -> None:
    """Add this many failing videos, some of each owner, `of_job` in a job, over the 30 days before noon."""
    for first in range(0, rows, ROWS_AT_ONCE):
        database.write_now(lambda connection, first=first: _add(connection, first, rows, of_job, owners))  # type: ignore[misc]


def _add(connection: Connection, first: int, rows: int, of_job: int, owners: tuple[str, ...]) -> None:
    failing, jobs, results = [], {}, []
    for number in range(first, min(first + ROWS_AT_ONCE, rows)):
        job_number, position = divmod(number, of_job)
        owner, job_id = owners[job_number % len(owners)], f"{job_number:08x}-job"
        at = NOON - timedelta(seconds=number * 30 * 86_400 / rows)
        cause = f"{(number * 7919) % CAUSES:012x}"
        jobs[job_id] = owner
        place = {"job_id": job_id, "position": position, "attempt": 1, "fingerprint": cause}
        failing.append({**place, "owner_id": owner, "video_id": f"v{number}", "at": at})
        error = {"error": f"Cause {cause}", "error_folded": None, "trace": None, "fault": None, "result": None}
        results.append({**place, **error, "started_at": at, "duration_seconds": 0.0})
    connection.execute(insert(JOBS), [_job_row(job_id, owner) for job_id, owner in jobs.items()])
    connection.execute(insert(FAILING), failing)
    connection.execute(insert(RESULTS), results)
    if first == 0:
        seen = {"jobs": 3, "first_seen": NOON, "last_seen": NOON, "retried": 2, "helped": 1}
        keys = [{"fingerprint": f"{cause:012x}", "owner_id": owner} for cause in range(CAUSES) for owner in owners]
        connection.execute(insert(CAUSE_MEMORY), [{**key, **seen} for key in keys])


def _job_row(job_id: str, owner: str) -> dict[str, object]:
    job = a_job(id=job_id, owner_id=owner, owner=owner, name=f"list {job_id}", on_dashboard=False)
    row = {name: getattr(job, name) for name in JOBS.c.keys() if hasattr(job, name)}  # noqa: SIM118
    return {**row, "columns": ()}
