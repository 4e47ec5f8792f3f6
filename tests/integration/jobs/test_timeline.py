"""What happened to a job as a whole is kept, through every turn of its life and for as long as the job is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from backend.domain.job import Job, Selection
from backend.domain.timeline import Milestone, Timeline
from backend.errors import Fault
from backend.jobs.manager import TryFailed
from backend.jobs.retention import Pruning
from backend.lists.csv_files import list_of_ids
from backend.settings import Settings
from backend.store import Database, JobStore, open_database
from backend.store.jobs import MAX_MILESTONES
from progress_dashboard.protocol import EXTERNAL, SenderReport, Status
from tests.support.clock import NOON
from tests.support.managed_backend import ANA, PAUSE_AFTER_FAILURES, Managed, open_managed

PENDING, PROCESSING, PAUSED = Status.PENDING, Status.PROCESSING, Status.PAUSED


@pytest.fixture
async def managed(store: JobStore, tmp_path: Path) -> AsyncIterator[Managed]:
    async with open_managed(store, tmp_path) as opened:
        yield opened


async def milestones(managed: Managed, job: Job) -> tuple[Milestone, ...]:
    await managed.hub.durable()
    return (await managed.manager.timeline(job.id, by=ANA)).milestones


async def course(managed: Managed, job: Job) -> list[tuple[Status, int]]:
    """Each status that the job had, and at how many finished videos it began."""
    return [(milestone.status, milestone.current_video) for milestone in await milestones(managed, job)]


async def test_a_job_that_runs_through_has_three_milestones(managed: Managed) -> None:
    job = await managed.submit("one", "two", "three")
    await managed.clock.advance(4)
    claimed = await managed.claim(job)
    await managed.clock.advance(60)
    end = await managed.run_on(claimed, [None, "File is cut off", None])
    found = await milestones(managed, job)
    assert [(one.status, one.current_video, one.attempt) for one in found] == [
        (PENDING, 0, 1),
        (PROCESSING, 0, 1),
        (Status.COMPLETED_WITH_ERRORS, 3, 1),
    ]
    assert [one.at for one in found] == [job.created_at, end.started_at, end.finished_at]
    assert found[-1].message == end.message
    assert found[-1].seq == end.seq


async def test_many_states_in_one_tick_are_all_told(managed: Managed) -> None:
    job = await managed.claim(await managed.submit("one"))
    managed.manager.fail(job.id, job.epoch, "The processor is not there.")
    assert await course(managed, job) == [(PENDING, 0), (PROCESSING, 0), (Status.FAILED, 0)]


async def test_a_pause_and_its_end_are_told(managed: Managed) -> None:
    job = await managed.submit("one", "two")
    claimed = await managed.claim(job)
    await managed.run_on(claimed, [None])
    await managed.manager.pause(job.id, by=ANA)
    await managed.manager.let_go(job.id, claimed.epoch)
    await managed.manager.resume(job.id, by=ANA)
    await managed.run(job, [None])
    assert await course(managed, job) == [
        (PENDING, 0),
        (PROCESSING, 0),
        (PAUSED, 1),
        (PENDING, 1),
        (PROCESSING, 1),
        (Status.COMPLETED, 2),
    ]


async def test_a_job_that_paused_itself_says_why(managed: Managed) -> None:
    job = await managed.submit("one", "two")
    claimed = await managed.claim(job)
    video = await anext(managed.manager.todo(claimed))
    trouble = TryFailed(video, "The disk is full.", Fault.MACHINE, 2.0)
    await managed.report(claimed, *[trouble] * PAUSE_AFTER_FAILURES)
    await managed.manager.let_go(job.id, claimed.epoch)
    paused = (await milestones(managed, job))[-1]
    assert (paused.status, paused.trouble) == (PAUSED, "3 failures in a row: The disk is full.")


async def test_after_a_restart_it_is_known_when_the_job_was_last_heard_of(store: JobStore, tmp_path: Path) -> None:
    async with open_managed(store, tmp_path) as first:
        job = await first.submit("one", "two")
        claimed = await first.claim(job)
        await first.clock.advance(30)
        await first.run_on(claimed, [None])
        heard_at = first.clock.now()
    async with open_managed(store, tmp_path) as second:
        await second.clock.advance((heard_at - NOON).total_seconds() + 11)
        await second.manager.recover()
        await second.claim(job)
        waited, went_on = (await milestones(second, job))[-2:]
    assert (waited.status, waited.resumed, waited.heard_at) == (PENDING, 1, heard_at)
    assert (went_on.status, went_on.current_video, went_on.at) == (PROCESSING, 1, heard_at + timedelta(seconds=11))


async def test_a_retry_begins_an_attempt_also_after_the_job_left_the_dashboard(managed: Managed) -> None:
    job = await managed.submit("one", "two")
    await managed.run(job, ["File is cut off", None])
    await managed.manager.dismiss(job.id, by=ANA)
    await managed.manager.retry(job.id, Selection(), by=ANA)
    end = await managed.run(job, ["File is cut off"])
    found = [(one.status, one.attempt, one.current_video) for one in await milestones(managed, end)]
    assert found[3:] == [(PENDING, 2, 1), (PROCESSING, 2, 1), (Status.COMPLETED_WITH_ERRORS, 2, 2)]


async def test_a_cancelled_job_says_where(managed: Managed) -> None:
    job = await managed.submit("one", "two")
    await managed.run(job, [None])
    await managed.manager.cancel(job.id, by=ANA)
    await managed.manager.let_go(job.id, 1)
    assert (await course(managed, job))[-1] == (Status.CANCELLED, 1)


async def test_to_keep_a_job_or_to_move_it_in_line_is_no_milestone(managed: Managed) -> None:
    job = await managed.submit("one")
    await managed.manager.prioritise(job.id, 5, by=ANA)
    await managed.manager.keep(job.id, by=ANA)
    assert await course(managed, job) == [(PENDING, 0)]


async def test_a_job_elsewhere_starts_with_its_first_report_and_fails_by_silence(managed: Managed) -> None:
    videos = list_of_ids(["one", "two"])
    job = (await managed.manager.submit(videos, by=ANA, name="list", processor=EXTERNAL)).job
    await managed.manager.hear(job.id, [SenderReport(n=0, current_video=1)], by=ANA)
    await managed.clock.advance(300)
    managed.manager.fail_silent(300)
    assert await course(managed, job) == [(PENDING, 0), (PROCESSING, 0), (Status.FAILED, 1)]
    assert (await milestones(managed, job))[-1].message.startswith("No word from the sender for 5 minutes")


async def test_what_the_list_had_besides_is_known(managed: Managed) -> None:
    job = await managed.submit("one", "two", "one", ".hidden")
    assert (await managed.stored(job)).left_out == 2


async def test_when_history_is_pruned_the_timeline_stays(managed: Managed) -> None:
    job = await managed.submit("one")
    await managed.run(job, [None])
    await managed.manager.dismiss(job.id, by=ANA)
    before = await course(managed, job)
    await managed.clock.advance(31 * 86_400)
    await Pruning(managed.store, Settings.model_construct(), managed.clock).run_once()
    assert await managed.store.history(job.id, since=None, after=None, limit=10) == []
    assert await course(managed, job) == before


async def test_of_a_job_that_was_paused_ever_so_often_the_newest_is_read(managed: Managed) -> None:
    job = await managed.submit("one")
    for _ in range(MAX_MILESTONES):
        await managed.manager.pause(job.id, by=ANA)
        await managed.manager.resume(job.id, by=ANA)
    timeline = await managed.manager.timeline(job.id, by=ANA)
    assert (len(timeline.milestones), timeline.earlier) == (MAX_MILESTONES, MAX_MILESTONES + 1)
    assert timeline.milestones[-1].status is PENDING


async def turbulent(managed: Managed) -> Job:
    """A job that was paused and resumed, lived through a restart, failed in part and was retried."""
    job = await managed.submit("one", "two", "three")
    claimed = await managed.claim(job)
    await managed.clock.advance(5)
    await managed.run_on(claimed, [None])
    await managed.manager.pause(job.id, by=ANA)
    await managed.clock.advance(5)
    await managed.manager.let_go(job.id, claimed.epoch)
    await managed.manager.resume(job.id, by=ANA)
    claimed = await managed.claim(job)
    await managed.clock.advance(5)
    managed.manager.drain()
    await managed.manager.let_go(job.id, claimed.epoch)
    return await managed.stored(job)


async def ended_and_retried(managed: Managed, job: Job) -> Job:
    await managed.run(job, ["File is cut off", None])
    await managed.clock.advance(60)
    await managed.manager.retry(job.id, Selection(), by=ANA)
    claimed = await managed.claim(job)
    await managed.clock.advance(5)
    return await managed.run_on(claimed, [None])


async def as_before(database: Database, *changes: str) -> JobStore:
    """The store over the same data in a database of the version before milestones, after these changes."""
    statements = (*changes, "DROP TABLE milestone", "ALTER TABLE job DROP COLUMN left_out")
    for statement in (*statements, "UPDATE alembic_version SET version_num = '0003'"):
        await database.write(partial(Connection.execute, statement=text(statement)))
    open_database(database.path, backups=database.path.parent / "backups").close()
    return JobStore(database)


async def test_an_upgrade_tells_of_earlier_jobs_what_would_have_been_told(
    database: Database, store: JobStore, tmp_path: Path
) -> None:
    async with open_managed(store, tmp_path) as first:
        job = await turbulent(first)
    async with open_managed(store, tmp_path) as second:
        await second.clock.advance(7_200)
        await second.manager.recover()
        await ended_and_retried(second, job)
        other = await second.submit("one")
    before = [await store.timeline(one.id) for one in (job, other)]
    upgraded = await as_before(database)
    assert [shown(await upgraded.timeline(one.id)) for one in (job, other)] == [shown(one) for one in before]
    assert len(before[0].milestones) == 11


@pytest.mark.parametrize("pruned", ["", " AND seq < (SELECT max(seq) FROM progress_event)"])
async def test_an_upgrade_tells_what_the_job_still_knows_where_history_was_pruned(
    database: Database, store: JobStore, managed: Managed, pruned: str
) -> None:
    job = await managed.submit("one", "two")
    await managed.clock.advance(4)
    claimed = await managed.claim(job)
    await managed.clock.advance(60)
    await managed.run_on(claimed, ["File is cut off", None])
    before = await store.timeline(job.id)
    upgraded = await as_before(database, f"DELETE FROM progress_event WHERE job_id = '{job.id}'{pruned}")
    found = (await upgraded.timeline(job.id)).milestones
    assert [(one.status, one.at) for one in found] == [(one.status, one.at) for one in before.milestones]


def shown(timeline: Timeline) -> list[tuple[object, ...]]:
    """What a reader is told of it."""
    return [
        (one.status, one.at, one.attempt, one.current_video, one.trouble, one.heard_at, one.resumed is not None)
        if one.status is PENDING
        else (one.status, one.at, one.attempt, one.current_video, one.trouble)
        for one in timeline.milestones
    ]
