"""What fails and is remembered of causes: the indexes that a list walks, many rows, an older database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select, text

from backend.domain.problem import Problem
from backend.store import Store
from backend.store.cause_memory import CauseMemoryStore, ProblemScope
from backend.store.database import Database
from backend.store.problem_filling import LEFT, finish_problems
from backend.store.problem_tables import CAUSE_MEMORY, FAILING
from backend.store.tables import TOMBSTONES
from tests.support.clock import NOON
from tests.support.failing_rows import CAUSES, add_failing
from tests.support.job_states import CUT, SLOW
from tests.support.managed_backend import BEN, open_managed
from tests.support.problem_desk import Desk
from tests.support.query_plans import executed_statements, scans, steps

WEEK = NOON - timedelta(days=7)
ROWS = 4_000


@pytest.fixture
def causes(database: Database) -> CauseMemoryStore:
    add_failing(database, ROWS)
    return CauseMemoryStore(database)


@pytest.mark.parametrize(
    ("scope", "index"),
    [
        (ProblemScope("ana", WEEK), "ix_failing_video_owner"),
        (ProblemScope("ana", WEEK, NOON), "ix_failing_video_owner"),
        (ProblemScope(None, WEEK), "ix_failing_video_at"),
    ],
)
async def test_a_list_walks_the_index_of_its_time(
    database: Database, causes: CauseMemoryStore, scope: ProblemScope, index: str
) -> None:
    with executed_statements() as executed:
        await causes.problems(scope)
    plan = steps(database, executed)
    assert any("failing_video" in step and index in step and step.startswith("SEARCH") for step in plan), plan
    assert scans(database, executed, "failing_video", "result", "job", "video", "cause_memory", "trace") == []


async def test_a_list_of_all_times_walks_an_index_only(database: Database, causes: CauseMemoryStore) -> None:
    with executed_statements() as executed:
        await causes.problems(ProblemScope("ana"))
        await causes.problems(ProblemScope())
    touched = [step for step in steps(database, executed) if "failing_video" in step or " found " in step]
    assert all("INDEX" in step for step in touched), touched
    assert scans(database, executed, "result", "job", "video", "cause_memory", "trace") == []


async def test_the_jobs_of_a_cause_are_found_by_its_index(database: Database, causes: CauseMemoryStore) -> None:
    with executed_statements() as executed:
        found = await causes.jobs(f"{3:012x}", ProblemScope("ana", WEEK))
        await causes.job_ids(f"{3:012x}", ProblemScope(None, WEEK))
        await causes.has_met(f"{3:012x}", owner_id="ana")
        await causes.known({f"{3:012x}"}, at=NOON)
    assert found
    assert any("ix_failing_video_cause" in step for step in steps(database, executed))
    assert scans(database, executed, "failing_video", "job", "cause_memory", "cause_note") == []


async def test_many_rows_are_counted_as_a_plain_count_does(database: Database, causes: CauseMemoryStore) -> None:
    for scope in (ProblemScope("ana"), ProblemScope("ben", WEEK), ProblemScope(None, WEEK, NOON), ProblemScope()):
        rows = database.read_now(lambda connection: connection.execute(select(FAILING)).all())
        wanted = [
            row
            for row in rows
            if scope.owner_id in (None, row.owner_id)
            and (scope.begin is None or row.at >= scope.begin)
            and (scope.end is None or row.at < scope.end)
        ]
        problems = (await causes.problems(scope)).items
        assert sum(problem.videos for problem in problems) == len(wanted)
        for problem in problems:
            mine = [row for row in wanted if row.fingerprint == problem.fingerprint]
            assert (problem.videos, problem.jobs) == (len(mine), len({row.job_id for row in mine}))
            assert (problem.first_seen, problem.last_seen) == (
                min(row.at for row in mine),
                max(row.at for row in mine),
            )
            assert problem.example.job_id in {row.job_id for row in mine if row.at == problem.last_seen}
    assert len((await causes.problems(ProblemScope())).items) == CAUSES


async def test_rows_of_a_job_that_is_being_erased_do_not_count(database: Database, causes: CauseMemoryStore) -> None:
    before = (await causes.problems(ProblemScope("ana"))).items
    gone = before[0].example.job_id

    def delete_job(connection: Connection) -> None:
        tombstone = {"job_id": gone, "owner_id": "ana", "removed_seq": 1, "erased": False}
        connection.execute(insert(TOMBSTONES), tombstone)
        connection.execute(text("DELETE FROM job WHERE id = :gone"), {"gone": gone})

    database.write_now(delete_job)
    after = {problem.fingerprint: problem for problem in (await causes.problems(ProblemScope("ana"))).items}
    assert after[before[0].fingerprint].jobs == before[0].jobs - 1
    assert all(problem.example.job_id != gone for problem in after.values())


async def test_an_older_database_is_filled_from_its_results(store: Store, database: Database, tmp_path: Path) -> None:
    """What the results tell is what counting would have left, also after an interruption."""
    async with open_managed(store, tmp_path) as managed:
        desk = Desk.over(managed, tmp_path)
        first = await desk.ended({"a": CUT, "b": CUT, "c": SLOW})
        await desk.retried(first, None, CUT, SLOW)
        await managed.clock.advance(60)
        await desk.ended({"c": None, "d": CUT})
        await desk.ended({"b": SLOW}, by=BEN)
        expected, users = await desk.causes(), await desk.causes(BEN)
        assert {name: problem.videos for name, problem in expected.items()}
        database.write_now(_forget)
        finish_problems(database)
        assert _counted(await desk.causes()) == _counted(expected)
        assert _counted(await desk.causes(BEN)) == _counted(users)
        finish_problems(database)  # nothing is left to do


def _counted(problems: Mapping[str, Problem]) -> dict[str, tuple[object, ...]]:
    """Return what does not depend on which of two equal moments was the newer one, and on quarters of an hour."""
    return {
        name: (problem.videos, problem.jobs, problem.history.jobs, problem.history.retried, problem.history.helped)
        for name, problem in problems.items()
    }


def _forget(connection: Connection) -> None:
    """Leave the tables as the migration of an older database makes them."""
    for table in (FAILING, CAUSE_MEMORY):
        connection.execute(table.delete())
    connection.execute(text(f"CREATE TABLE {LEFT.table} (number BIGINT NOT NULL)"))
    connection.execute(text(f"INSERT INTO {LEFT.table} (number) VALUES (0)"))
