"""The history of jobs: the updates as they were sent, and the milestones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from sqlalchemy import Connection, bindparam, delete, func, select

from backend.clock import to_millis
from backend.domain.timeline import Milestone, SharedAction, Timeline
from backend.store.database import Cursor, Database
from backend.store.problem_tables import JOB_ACTIONS
from backend.store.tables import EVENTS, MILESTONES

MAX_MILESTONES = 60
PRUNED_AT_ONCE = 500
PROBED_AT_ONCE = 1_000
BEFORE_ALL = -(2**63)
SCANNED_ROWS, HALVINGS = 64, 4

# Written out for the driver's cursor: every client that comes back asks for a page of history. Within a job `at` never
# falls as `seq` rises, so that the key alone finds a moment, and no index on `at` has to be kept.
_FROM = "SELECT seq, at FROM progress_event WHERE job_id = ? AND seq >= ? ORDER BY seq LIMIT 1 OFFSET ?"
_LAST = "SELECT seq FROM progress_event WHERE job_id = ? ORDER BY seq DESC LIMIT 1"
_PAGE = "SELECT body FROM progress_event WHERE job_id = ? AND seq >= ? AND at >= ? ORDER BY seq LIMIT ?"
# The same as `_shortly_before` and the page behind it in one statement: each question of its own is a round trip there.
_PAGE_SINCE_ON_POSTGRESQL = (
    "WITH RECURSIVE half (low, high) AS (SELECT ?::BIGINT, "
    "(SELECT seq FROM progress_event WHERE job_id = ? ORDER BY seq DESC LIMIT 1) "
    "UNION ALL SELECT CASE WHEN probe.at < ? THEN probe.seq ELSE low END, "
    "CASE WHEN probe.at < ? THEN high ELSE middle END "
    "FROM (SELECT low, high, (low + high) / 2 AS middle FROM half WHERE high - low > 1) AS wide, "
    "LATERAL (SELECT seq, at FROM progress_event WHERE job_id = ? AND seq >= middle ORDER BY seq LIMIT 1) AS probe) "
    "SELECT body FROM progress_event WHERE job_id = ? AND seq >= (SELECT max(low) FROM half) AND at >= ? "
    "ORDER BY seq LIMIT ?"
)
_OLDEST = "SELECT seq, at FROM progress_event WHERE job_id = ? ORDER BY seq LIMIT ?"
_NEXT_JOB = "SELECT job_id, at FROM progress_event WHERE job_id > ? ORDER BY job_id, seq LIMIT 1"
_DELETE = delete(EVENTS).where(EVENTS.c.job_id == bindparam("b_job_id"), EVENTS.c.seq <= bindparam("b_seq"))


@dataclass(frozen=True, slots=True)
class OldHistory:
    """A part of the history rows that are too old.

    `ends` are pairs of a job ID and the seq up to which its rows are too old; `rows` is their number. `next_after` is
    the job ID behind which to look for more, None at the end.
    """

    ends: tuple[tuple[str, int], ...]
    rows: int
    next_after: str | None


class HistoryStore:
    """The history of jobs in the database. Every read sees committed data only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, job_id: str, *, since: datetime | None, after: int | None, limit: int) -> list[bytes]:
        """Return updates of a job as they were sent, encoded, oldest first.

        `since` is inclusive, in whole milliseconds (rounded down, so that none is left out); `after` is a seq and
        exclusive. A page costs the same at any depth.
        """
        moment = BEFORE_ALL if since is None else to_millis(since)
        first = 0 if after is None else after + 1
        in_one = since is not None and self._database.dialect == "postgresql"
        page = _page_in_one if in_one else _page
        return await self._database.read_by_cursor(lambda cursor: page(cursor, job_id, moment, first, limit))

    async def timeline(self, job_id: str) -> Timeline:
        """Return the job's newest `MAX_MILESTONES` milestones, also long after its history was pruned."""
        mine = MILESTONES.c.job_id == job_id
        counted = select(func.count()).select_from(MILESTONES).where(mine)
        newest = select(MILESTONES).where(mine).order_by(MILESTONES.c.seq.desc()).limit(MAX_MILESTONES)
        shared = select(JOB_ACTIONS).where(JOB_ACTIONS.c.job_id == job_id).order_by(JOB_ACTIONS.c.at.desc())

        def read(connection: Connection) -> Timeline:
            rows = connection.execute(newest).all()
            earlier = connection.execute(counted).scalar_one() - len(rows)
            actions = [SharedAction(**row._mapping) for row in connection.execute(shared.limit(MAX_MILESTONES))]
            return Timeline(tuple(Milestone(**row._mapping) for row in reversed(rows)), earlier, tuple(actions[::-1]))

        return await self._database.read(read)

    async def old(self, *, before: datetime, after_job: str) -> OldHistory:
        """Return up to `PRUNED_AT_ONCE` history rows from before `before`, of jobs with IDs behind `after_job`."""
        moment = to_millis(before)
        return await self._database.read_by_cursor(lambda cursor: _old(cursor, moment, after_job))

    async def delete_old(self, old: OldHistory) -> None:
        """Delete these rows in one short transaction; the jobs stay."""
        ends = [{"b_job_id": job_id, "b_seq": seq} for job_id, seq in old.ends]
        await self._database.write(lambda connection: connection.execute(_DELETE, ends))


def _page(cursor: Cursor, job_id: str, since: int, first: int, limit: int) -> list[bytes]:
    if since > BEFORE_ALL:
        first = _shortly_before(cursor, job_id, since, first)
    return [body.encode() for (body,) in cursor.execute(_PAGE, (job_id, first, since, limit)).fetchall()]


def _page_in_one(cursor: Cursor, job_id: str, since: int, first: int, limit: int) -> list[bytes]:
    values = (first, job_id, since, since, job_id, job_id, since, limit)
    return [body.encode() for (body,) in cursor.execute(_PAGE_SINCE_ON_POSTGRESQL, values).fetchall()]


def _shortly_before(cursor: Cursor, job_id: str, since: int, low: int) -> int:
    """Return a seq from `low` on, at most `SCANNED_ROWS` rows before the first row of `since`; found by bisection.

    Most halvings would go into the gaps between a job's positions, so every few of them check if it is near enough.
    """
    high: int | None = None
    while (ahead := cursor.execute(_FROM, (job_id, low, SCANNED_ROWS)).fetchone()) is not None and ahead[1] < since:
        low = ahead[0]
        high = high or cursor.execute(_LAST, (job_id,)).fetchone()[0]
        for _ in range(HALVINGS):
            middle = (low + high) // 2
            seq, at = cursor.execute(_FROM, (job_id, middle, 0)).fetchone()
            low, high = (seq, high) if at < since else (low, middle)
    return low


def _old(cursor: Cursor, before: int, after_job: str) -> OldHistory:
    """Probe once for each job that has history at all; jobs without any are not looked at."""
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
