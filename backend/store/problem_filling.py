"""Fills what fails, and the memory of causes, of an older database from its results, before the server serves."""

from __future__ import annotations

from sqlalchemy import Connection, text

from backend.store.backlog import Backlog
from backend.store.counting import count, read_notes
from backend.store.transactions import Database

LEFT = Backlog("problem_filling")
JOBS_AT_ONCE = 20
_ENDED = "CAST(round({0}.started_at + {0}.duration_seconds * 1000) AS BIGINT)"
_JOIN = "JOIN result AS {1} ON {1}.job_id = {0}.job_id AND {1}.position = {0}.position AND {1}.attempt = {0}.attempts"
_SOME_JOBS = "job.number > :after AND job.number <= :last"
_FAILING = text(
    "INSERT INTO failing_video (owner_id, video_id, job_id, position, attempt, fingerprint, at) "  # noqa: S608  our own names
    "SELECT job.owner_id, video.video_id, video.job_id, video.position, result.attempt, result.fingerprint, "
    f"{_ENDED.format('result')} FROM job "
    "JOIN video ON video.job_id = job.id AND video.status <> 'completed' AND video.attempts > 0 "
    f"{_JOIN.format('video', 'result')} WHERE {_SOME_JOBS} AND result.fingerprint IS NOT NULL "
    "AND NOT EXISTS (SELECT 1 FROM video AS other "
    "JOIN job AS its_job ON its_job.id = other.job_id AND its_job.owner_id = job.owner_id "
    f"{_JOIN.format('other', 'newer')} WHERE other.video_id = video.video_id "
    f"AND ({_ENDED.format('newer')} > {_ENDED.format('result')} OR {_ENDED.format('newer')} = "
    f"{_ENDED.format('result')} AND its_job.number > job.number)) ON CONFLICT DO NOTHING"
)
_CAUSES = text(
    "INSERT INTO cause_memory (fingerprint, owner_id, jobs, first_seen, last_seen, retried, helped) "
    "SELECT fingerprint, owner_id, count(DISTINCT job_id), min(at), max(at), 0, 0 FROM cause_rollup "
    "GROUP BY fingerprint, owner_id"
)
_RETRIES = text(
    "INSERT INTO cause_memory (fingerprint, owner_id, jobs, first_seen, last_seen, retried, helped) "  # noqa: S608
    f"SELECT earlier.fingerprint, job.owner_id, 1, min({_ENDED.format('earlier')}), max({_ENDED.format('earlier')}), "
    "count(*), sum(CASE WHEN result.error IS NULL THEN 1 ELSE 0 END) FROM job "
    "JOIN result ON result.job_id = job.id AND result.attempt > 1 "
    "JOIN result AS earlier ON earlier.job_id = result.job_id AND earlier.position = result.position "
    f"AND earlier.attempt = result.attempt - 1 WHERE {_SOME_JOBS} AND earlier.fingerprint IS NOT NULL "
    "GROUP BY earlier.fingerprint, job.owner_id ON CONFLICT (fingerprint, owner_id) DO UPDATE SET "
    "retried = cause_memory.retried + excluded.retried, helped = cause_memory.helped + excluded.helped"
)


def finish_problems(database: Database) -> None:
    """Find what failed before the tables were there; nothing, as a rule.

    Only the server that owns the database calls it, after `finish_filling`. Raises `Interrupted` after Ctrl-C or
    SIGTERM.
    """
    if database.read_now(LEFT.is_left) and database.read_now(LEFT.how_far)[0] == 0:
        _begin(database)
    LEFT.fill(database, _fill_some, "failures are collected for the page Problems")


def _begin(database: Database) -> None:
    """Count what ticks noted, and then begin with nothing but what the tallies know of causes."""
    while (counted := database.read_now(read_notes)) is not None:
        database.write_now(lambda connection, some=counted: count(connection, some))  # type: ignore[misc]
    database.write_now(_begin_now)


def _begin_now(connection: Connection) -> None:
    for table in ("failing_video", "cause_memory"):
        connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608
    connection.execute(_CAUSES)


def _fill_some(connection: Connection) -> int:
    """Look at some jobs, and return the number of the last one."""
    done, last = LEFT.how_far(connection)
    some = text("SELECT number FROM job WHERE number > :after ORDER BY number LIMIT :limit")
    numbers = connection.execute(some, {"after": done, "limit": JOBS_AT_ONCE}).scalars().all()
    until = numbers[-1] if numbers else last
    for statement in (_FAILING, _RETRIES):
        connection.execute(statement, {"after": done, "last": until})
    LEFT.note(connection, until)
    return until
