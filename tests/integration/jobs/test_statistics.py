"""The statistics over a real store: who sees what, what is counted when, what an older database brings along."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from backend.accounts.accounts import Accounts
from backend.domain.auth import User
from backend.domain.job import Action
from backend.domain.statistics import Figure
from backend.errors import Fault, Invalid, NotAllowed, UserNotFound
from backend.jobs.outputs import Outputs
from backend.jobs.retention import Erasure
from backend.jobs.statistics import Counting, Question, StatisticsQueries
from backend.settings import load_settings
from backend.store import Store
from backend.store.database import Database
from backend.store.filling import LEFT, finish_filling
from progress_dashboard.protocol import Status
from tests.support.accounts import accounts_over
from tests.support.databases import settings_of
from tests.support.managed_backend import ADMIN, ANA, BEN, PAUSE_AFTER_FAILURES, Managed, finished, open_managed

CUT_OFF, UNKNOWN = "The file is cut off.", 'The codec "abc" is unknown.'


class Asking:
    """The statistics over the parts of a test; `slots` is what the test says."""

    def __init__(self, managed: Managed, accounts: Accounts) -> None:
        self.slots = 2
        settings = load_settings(time_zone="UTC")
        self.queries = StatisticsQueries(
            managed.store.statistics, managed.hub, accounts, settings, managed.clock, slots=lambda: self.slots
        )

    async def figures(self, by: User = ADMIN, **asked: Any) -> dict[str, Figure]:
        """Return the figures of the last 24 hours."""
        return dict((await self.queries.of(Question(period="24h", **asked), by=by)).figures)


@pytest.fixture
async def asking(managed: Managed, database: Database, tmp_path: Path) -> Asking:
    settings = settings_of(tmp_path / "accounts")
    settings.data_dir.mkdir()
    return Asking(managed, accounts_over(database, managed.clock, settings))


async def run_job(managed: Managed, *errors: str | None, by: User = ANA, name: str = "nightly.csv") -> str:
    """Run a job with these outcomes to its end, and return its ID."""
    job = await managed.new_job(name, len(errors), by=by)
    await managed.run(job, errors)
    return job.id


async def test_users_see_their_own_statistics_and_administrators_all(managed: Managed, asking: Asking) -> None:
    await run_job(managed, *[None] * 6, by=ANA)
    await run_job(managed, *[None] * 7, by=BEN)
    assert (await asking.figures(ANA))["videos"].value == 6
    assert (await asking.figures(BEN))["videos"].value == 7
    assert (await asking.figures(ADMIN))["videos"].value == 13
    assert (await asking.figures(ADMIN, owner="Ben"))["videos"].value == 7
    assert (await asking.figures(ANA, owner="ana"))["videos"].value == 6


async def test_nobody_else_sees_the_statistics_of_a_user(asking: Asking) -> None:
    with pytest.raises(NotAllowed, match="administrator"):
        await asking.figures(ANA, owner="ben")
    with pytest.raises(NotAllowed, match="administrator"):
        await asking.figures(ANA, owner="nobody")
    with pytest.raises(UserNotFound):
        await asking.figures(ADMIN, owner="nobody")


async def test_the_processor_and_the_name_of_a_list_narrow(managed: Managed, asking: Asking) -> None:
    await run_job(managed, *[None] * 6, name="nightly.csv")
    await run_job(managed, *[CUT_OFF] * 9, name="other.csv")
    assert (await asking.figures(processor="probe"))["videos"].n == 15
    assert (await asking.figures(processor="poster"))["videos"].n == 0
    named = await asking.figures(name="nightly.csv")
    assert (named["videos"].n, named["success_rate"].value) == (6, 1.0)
    assert (await asking.figures(ANA, name="other.csv"))["success_rate"].value == 0.0
    assert (await asking.figures(BEN, name="other.csv"))["videos"].n == 0


async def test_the_name_of_a_list_says_what_the_tallies_say(managed: Managed, asking: Asking) -> None:
    job_id = await run_job(managed, *[None] * 6, *[CUT_OFF] * 4)
    await managed.manager.act(job_id, Action.RETRY, by=ANA)
    await managed.run(await managed.queries.find(job_id, by=ANA), [None, None, UNKNOWN, None])
    whole = await asking.queries.of(Question(period="24h"), by=ANA)
    named = await asking.queries.of(Question(period="24h", name="nightly.csv"), by=ANA)
    assert named.figures == whole.figures
    assert named.bins == whole.bins
    assert named.causes == whole.causes


async def test_a_retry_that_helps_mends_the_success_rate(managed: Managed, asking: Asking) -> None:
    job_id = await run_job(managed, *[None] * 4, *[CUT_OFF] * 6)
    before = await asking.figures()
    assert (before["success_rate"].value, before["videos"].value) == (0.4, 10)
    await managed.manager.act(job_id, Action.RETRY, by=ANA)
    await managed.run(await managed.queries.find(job_id, by=ANA), [None] * 5 + [CUT_OFF])
    after = await asking.figures()
    assert (after["success_rate"].value, after["videos"].value) == (0.9, 10)
    assert (after["retries"].value, after["retries_helped"].value) == (6, 5)


async def test_causes_are_counted_by_video_and_job_in_words_without_names(managed: Managed, asking: Asking) -> None:
    await run_job(managed, CUT_OFF, CUT_OFF, 'The codec "abc" is unknown.')
    await run_job(managed, CUT_OFF, 'The codec "xyz" is unknown.')
    found = await asking.queries.of(Question(), by=ANA)
    assert [(cause.error, cause.videos, cause.jobs) for cause in found.causes] == [
        (CUT_OFF, 3, 2),
        ("The codec … is unknown.", 2, 2),
    ]


async def test_deleting_a_job_does_not_rewrite_the_past(managed: Managed, asking: Asking, tmp_path: Path) -> None:
    job_id = await run_job(managed, *[None] * 5, CUT_OFF)
    await managed.manager.act(job_id, Action.DELETE, by=ANA)
    await managed.journal.durable()
    await Erasure(managed.store, Outputs(tmp_path / "outputs"), load_settings(), managed.clock).run_once()
    assert await managed.store.jobs.deleted() == []
    found = await asking.queries.of(Question(), by=ANA)
    assert found.figures["videos"].value == 6
    assert [cause.error for cause in found.causes] == [CUT_OFF]


async def test_waits_runs_and_self_pauses_are_counted(managed: Managed, asking: Asking) -> None:
    for number in range(5):
        job = await managed.new_job(f"list-{number}", 1)
        await managed.clock.advance(600)
        lease = await managed.claim(job)
        await managed.clock.advance(60)
        await managed.run_under(lease, [None])
    job = await managed.new_job("full-disk", 5)
    lease = await managed.claim(job)
    for _ in range(PAUSE_AFTER_FAILURES):
        video = await anext(managed.leases.pending_videos(lease))
        await managed.report(lease, finished(video, "The disk is full.", fault=Fault.MACHINE))
    await managed.leases.release(lease)
    assert (await managed.stored(job)).status is Status.PAUSED
    found = await asking.figures()
    assert found["wait_p95"].value == pytest.approx(600, rel=0.05)
    assert found["wait_p50"].n == 6
    assert found["run_p50"].value == pytest.approx(60, rel=0.05)
    assert (found["self_pauses"].value, found["self_pauses"].n) == (1, 5)


async def test_a_stuck_queue_shows_in_the_age_of_its_oldest_job(managed: Managed, asking: Asking) -> None:
    await managed.new_job("first", 1)
    await managed.clock.advance(5400)
    await managed.new_job("second", 1, by=BEN)
    found = (await asking.figures())["oldest_waiting_seconds"]
    assert found.n == 2
    assert found.value == pytest.approx(5460)  # with the minute in which the second one's file was found
    assert (await asking.figures(BEN))["oldest_waiting_seconds"].n == 1


async def test_what_ticks_noted_is_counted_by_a_timer_and_goes(managed: Managed, database: Database) -> None:
    await run_job(managed, *[None] * 6)
    assert noted(database) > 0
    await Counting(managed.store.statistics, managed.clock).run_once()
    assert noted(database) == 0


async def test_two_countings_at_once_count_nothing_twice(managed: Managed, asking: Asking, database: Database) -> None:
    await run_job(managed, *[None] * 8)
    await asyncio.gather(*(managed.store.statistics.count() for _ in range(4)))
    assert (await asking.figures())["videos"].value == 8


async def test_old_quarters_become_hours_with_the_same_sums(managed: Managed, asking: Asking) -> None:
    for _ in range(4):
        await run_job(managed, *[None] * 5)
        await managed.clock.advance(901)
    begin = managed.clock.now() - timedelta(hours=6)
    await managed.store.statistics.count()
    question = Question(begin=begin, end=begin + timedelta(days=2))
    await managed.clock.advance(9 * 86_400)
    before = await asking.queries.of(question, by=ANA)
    await Counting(managed.store.statistics, managed.clock).run_once()
    after = await asking.queries.of(question, by=ANA)
    assert after.figures == before.figures
    assert after.bins == before.bins
    assert await managed.store.statistics.fold(before=managed.clock.now()) == 0


async def test_starts_and_changes_of_slots_are_marked_once(managed: Managed, asking: Asking) -> None:
    await asking.queries.mark()
    await asking.queries.mark()
    await managed.clock.advance(60)
    asking.slots = 4
    await asking.queries.mark()
    found = await asking.queries.of(Question(period="24h"), by=ANA)
    await managed.clock.advance(60)
    found = await asking.queries.of(Question(period="24h"), by=ANA)
    assert [(mark.kind, mark.slots) for mark in found.marks] == [("start", 2), ("slots", 4)]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"period": "fortnight"}, "night, 24h, 7d, 30d, 90d"),
        ({"period": "7d", "begin": "now"}, "either period"),
        ({"end": "now"}, "needs from"),
        ({"name": "a\x00b"}, "name"),
    ],
)
async def test_a_question_without_sense_is_refused_in_words(
    managed: Managed, asking: Asking, asked: dict[str, str], words: str
) -> None:
    moments = {key: managed.clock.now().astimezone(UTC) for key, value in asked.items() if value == "now"}
    with pytest.raises(Invalid, match=words):
        await asking.queries.of(Question(**{**asked, **moments}), by=ADMIN)  # type: ignore[arg-type]


async def test_an_older_database_is_filled_from_its_results(store: Store, database: Database, tmp_path: Path) -> None:
    async with open_managed(store, tmp_path) as managed:
        for errors in ([None] * 6 + [CUT_OFF] * 3, [UNKNOWN, None], [None] * 5):
            await run_job(managed, *errors)
        ended = (await managed.queries.jobs(by=ANA)).items[-1]
        await managed.manager.act(ended.id, Action.RETRY, by=ANA)
        await managed.run(await managed.queries.find(ended.id, by=ANA), [None, CUT_OFF, None])
        await store.statistics.count()
        counted = database.read_now(stored_tallies)
        database.write_now(forget_tallies)
        assert database.read_now(stored_tallies) != counted
        finish_filling(database)
        assert database.read_now(stored_tallies) == counted
        finish_filling(database)  # nothing is left to do
        assert database.read_now(stored_tallies) == counted


def noted(database: Database) -> int:
    """Return the number of notes that are not counted."""
    return int(
        database.read_now(lambda connection: connection.execute(text("SELECT count(*) FROM uncounted")).scalar_one())
    )


def stored_tallies(connection: object) -> list[list[tuple[object, ...]]]:
    """Return all rows of the tallies that count something."""
    queries = (
        "SELECT * FROM rollup WHERE count <> 0 OR work_millis <> 0 ORDER BY at, owner_id, processor, kind",
        "SELECT * FROM cause_rollup WHERE videos <> 0 ORDER BY at, fingerprint, job_id",
        "SELECT * FROM cause ORDER BY fingerprint",
    )
    return [[tuple(row) for row in connection.execute(text(query))] for query in queries]  # type: ignore[attr-defined]


def forget_tallies(connection: object) -> None:
    """Leave the database as the migration of an older one does."""
    for table in ("rollup", "cause_rollup", "cause"):
        connection.execute(text(f"DELETE FROM {table}"))  # type: ignore[attr-defined]
    connection.execute(text(f"CREATE TABLE {LEFT.table} (number BIGINT NOT NULL)"))  # type: ignore[attr-defined]
    connection.execute(text(f"INSERT INTO {LEFT.table} (number) VALUES (0)"))  # type: ignore[attr-defined]
