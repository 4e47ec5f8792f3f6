"""The timeline of a job: it has each change of status, and stays for as long as the job."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from backend.domain.job import Job, Selection
from backend.domain.timeline import Milestone, Timeline
from backend.errors import Fault
from backend.jobs.leases import TryFailed
from backend.jobs.retention import Pruning
from backend.settings import Settings
from backend.store import Store
from backend.store.database import Database, open_database
from backend.store.history import MAX_MILESTONES
from progress_dashboard.protocol import EXTERNAL, SenderReport, Status
from tests.support.clock import NOON
from tests.support.databases import FILE
from tests.support.job_states import CUT
from tests.support.managed_backend import ANA, PAUSE_AFTER_FAILURES, Managed, open_managed

PENDING, PROCESSING, PAUSED = Status.PENDING, Status.PROCESSING, Status.PAUSED
BEFORE_MILESTONES = (
    "DROP TABLE milestone",
    *(f"DROP TRIGGER {name}" for name in ("job_was_past", "job_left", "job_returned", "job_deleted")),
    *(f"DROP TABLE {name}" for name in ("job_words", "arrival", "trace")),
    *(f"DROP TABLE {name}" for name in ("rollup", "uncounted", "cause_rollup", "cause", "mark", "forecast")),
    *(f"DROP TABLE {name}" for name in ("notification", "channel", "delivery")),
    *(f"DROP TABLE {name}" for name in ("notification_wish", "notification_settings")),
    *(f"DROP TABLE {name}" for name in ("failing_video", "cause_memory", "cause_note", "job_action")),
    *(f"DROP INDEX {name}" for name in ("ix_idempotency_key_job_id", "ix_job_past_name", "ix_job_past_owner_name")),
    *(f"DROP INDEX {name}" for name in ("ix_job_past_finished", "ix_job_past_owner_finished", "ix_job_present")),
    "ALTER TABLE job DROP COLUMN name_folded",
    "ALTER TABLE job DROP COLUMN name_key",
    "ALTER TABLE job DROP COLUMN error_folded",
    "ALTER TABLE result DROP COLUMN error_folded",
    "ALTER TABLE job DROP COLUMN skipped_rows",
    "ALTER TABLE job RENAME COLUMN lease_id TO epoch",
    "ALTER TABLE job RENAME COLUMN pinned TO kept",
    "ALTER TABLE job RENAME COLUMN pause_reason TO trouble",
    "UPDATE alembic_version SET version_num = '0003'",
)


async def milestones(managed: Managed, job: Job) -> tuple[Milestone, ...]:
    """Return the job's milestones after everything staged so far is stored."""
    await managed.journal.durable()
    return (await managed.queries.timeline(job.id, by=ANA)).milestones


async def statuses(managed: Managed, job: Job) -> list[tuple[Status, int]]:
    """Return each status that the job had, with the number of finished videos when it began."""
    return [(milestone.status, milestone.current_video) for milestone in await milestones(managed, job)]


async def test_a_job_without_interruption_has_three_milestones(managed: Managed) -> None:
    job = await managed.submit("one", "two", "three")
    await managed.clock.advance(4)
    lease = await managed.claim(job)
    await managed.clock.advance(60)
    end = await managed.run_under(lease, [None, CUT, None])
    found = await milestones(managed, job)
    assert [(one.status, one.current_video, one.attempt) for one in found] == [
        (PENDING, 0, 1),
        (PROCESSING, 0, 1),
        (Status.COMPLETED_WITH_ERRORS, 3, 1),
    ]
    assert [one.at for one in found] == [job.created_at, end.started_at, end.finished_at]
    assert found[-1].message == end.message
    assert found[-1].seq == end.seq


async def test_every_status_of_one_tick_is_a_milestone(managed: Managed) -> None:
    lease = await managed.claim(await managed.submit("one"))
    managed.leases.fail(lease, "The processor is not there.")
    assert await statuses(managed, lease.job) == [(PENDING, 0), (PROCESSING, 0), (Status.FAILED, 0)]


async def test_a_pause_and_its_end_are_milestones(managed: Managed) -> None:
    job = await managed.submit("one", "two")
    lease = await managed.claim(job)
    await managed.run_under(lease, [None])
    await managed.manager.pause(job.id, by=ANA)
    await managed.leases.release(lease)
    await managed.manager.resume(job.id, by=ANA)
    await managed.run(job, [None])
    assert await statuses(managed, job) == [
        (PENDING, 0),
        (PROCESSING, 0),
        (PAUSED, 1),
        (PENDING, 1),
        (PROCESSING, 1),
        (Status.COMPLETED, 2),
    ]


async def test_the_milestone_of_a_self_pause_has_its_reason(managed: Managed) -> None:
    lease = await managed.claim(await managed.submit("one", "two"))
    video = await anext(managed.leases.pending_videos(lease))
    failure = TryFailed(video, "The disk is full.", Fault.MACHINE, 2.0)
    await managed.report(lease, *[failure] * PAUSE_AFTER_FAILURES)
    await managed.leases.release(lease)
    paused = (await milestones(managed, lease.job))[-1]
    assert (paused.status, paused.pause_reason) == (PAUSED, "3 failures in a row: The disk is full.")


async def test_a_milestone_has_the_time_of_the_state_before(store: Store, tmp_path: Path) -> None:
    """After a restart, the timeline has the time of the last state before it."""
    async with open_managed(store, tmp_path) as first:
        lease = await first.claim(await first.submit("one", "two"))
        await first.clock.advance(30)
        await first.run_under(lease, [None])
        ended_at = first.clock.now()
    async with open_managed(store, tmp_path) as second:
        await second.clock.advance((ended_at - NOON).total_seconds() + 11)
        await second.manager.recover()
        await second.claim(lease.job)
        waited, continued = (await milestones(second, lease.job))[-2:]
    assert (waited.status, waited.resumed, waited.previous_at) == (PENDING, 1, ended_at)
    assert (continued.status, continued.current_video, continued.at) == (
        PROCESSING,
        1,
        ended_at + timedelta(seconds=11),
    )


async def test_a_retry_begins_an_attempt_in_the_timeline(managed: Managed) -> None:
    """A retry is a milestone of the next attempt, also after the job left the dashboard."""
    job = await managed.submit("one", "two")
    await managed.run(job, [CUT, None])
    await managed.manager.dismiss(job.id, by=ANA)
    await managed.manager.retry(job.id, Selection(), by=ANA)
    end = await managed.run(job, [CUT])
    found = [(one.status, one.attempt, one.current_video) for one in await milestones(managed, end)]
    assert found[3:] == [(PENDING, 2, 1), (PROCESSING, 2, 1), (Status.COMPLETED_WITH_ERRORS, 2, 2)]


async def test_the_milestone_of_a_cancel_has_the_place(managed: Managed) -> None:
    lease = await managed.claim(await managed.submit("one", "two"))
    await managed.run_under(lease, [None])
    await managed.manager.cancel(lease.job.id, by=ANA)
    await managed.leases.release(lease)
    assert (await statuses(managed, lease.job))[-1] == (Status.CANCELLED, 1)


async def test_a_priority_or_a_pin_is_no_milestone(managed: Managed) -> None:
    job = await managed.submit("one")
    await managed.manager.prioritise(job.id, 5, by=ANA)
    await managed.manager.keep(job.id, by=ANA)
    assert await statuses(managed, job) == [(PENDING, 0)]


async def test_an_external_job_starts_with_its_first_report(managed: Managed) -> None:
    """The timeline of an external job has its first report as the start, and a silent sender as the failure."""
    job = await managed.submit("one", "two", processor=EXTERNAL)
    await managed.external.apply_reports(job.id, [SenderReport(n=0, current_video=1)], by=ANA)
    await managed.clock.advance(300)
    managed.external.fail_silent(300)
    assert await statuses(managed, job) == [(PENDING, 0), (PROCESSING, 0), (Status.FAILED, 1)]
    assert (await milestones(managed, job))[-1].message.startswith("No word from the sender for 5 minutes")


async def test_a_job_knows_the_skipped_rows_of_its_list(managed: Managed) -> None:
    job = await managed.submit("one", "two", "one", ".hidden")
    assert (await managed.stored(job)).skipped_rows == 2


async def test_the_timeline_stays_when_history_is_pruned(managed: Managed) -> None:
    job = await managed.submit("one")
    await managed.run(job, [None])
    await managed.manager.dismiss(job.id, by=ANA)
    before = await statuses(managed, job)
    await managed.clock.advance(31 * 86_400)
    await Pruning(managed.store.history, Settings.model_construct(), managed.clock).run_once()
    assert await managed.store.history.page(job.id, since=None, after=None, limit=10) == []
    assert await statuses(managed, job) == before


async def test_a_long_timeline_has_its_newest_milestones(managed: Managed) -> None:
    job = await managed.submit("one")
    for _ in range(MAX_MILESTONES):
        await managed.manager.pause(job.id, by=ANA)
        await managed.manager.resume(job.id, by=ANA)
    timeline = await managed.queries.timeline(job.id, by=ANA)
    assert (len(timeline.milestones), timeline.earlier) == (MAX_MILESTONES, MAX_MILESTONES + 1)
    assert timeline.milestones[-1].status is PENDING


# Databases of the version before milestones.


async def restarted(managed: Managed) -> Job:
    """Return a job that was paused and resumed, and waits to continue after a restart."""
    job = await managed.submit("one", "two", "three")
    lease = await managed.claim(job)
    await managed.clock.advance(5)
    await managed.run_under(lease, [None])
    await managed.manager.pause(job.id, by=ANA)
    await managed.clock.advance(5)
    await managed.leases.release(lease)
    await managed.manager.resume(job.id, by=ANA)
    lease = await managed.claim(job)
    await managed.clock.advance(5)
    managed.leases.drain()
    await managed.leases.release(lease)
    return await managed.stored(job)


async def failed_and_retried(managed: Managed, job: Job) -> Job:
    """Return the job after a failure of one of its videos and the retry of that."""
    await managed.run(job, [CUT, None])
    await managed.clock.advance(60)
    await managed.manager.retry(job.id, Selection(), by=ANA)
    lease = await managed.claim(job)
    await managed.clock.advance(5)
    return await managed.run_under(lease, [None])


async def upgraded_from_before(database: Database, directory: Path, *changes: str) -> Store:
    """Return the store after an upgrade of the same data from the version before milestones, after these changes."""
    for statement in (*changes, *BEFORE_MILESTONES):
        await database.write(partial(Connection.execute, statement=text(statement)))
    open_database(directory / FILE, backups=directory / "backups").close()
    return Store(database)


@pytest.mark.sqlite_only
async def test_an_upgrade_gives_earlier_jobs_their_timeline(database: Database, store: Store, tmp_path: Path) -> None:
    """An upgrade fills the timelines of earlier jobs with the milestones that they would have had."""
    async with open_managed(store, tmp_path) as first:
        job = await restarted(first)
    async with open_managed(store, tmp_path) as second:
        await second.clock.advance(7_200)
        await second.manager.recover()
        await failed_and_retried(second, job)
        other = await second.submit("one")
    before = [await store.history.timeline(one.id) for one in (job, other)]
    upgraded = await upgraded_from_before(database, tmp_path)
    assert [shown(await upgraded.history.timeline(one.id)) for one in (job, other)] == [shown(one) for one in before]
    assert len(before[0].milestones) == 11


@pytest.mark.sqlite_only
@pytest.mark.parametrize("pruned", ["", " AND seq < (SELECT max(seq) FROM progress_event)"])
async def test_an_upgrade_with_pruned_history_reads_the_job(
    database: Database, store: Store, managed: Managed, tmp_path: Path, pruned: str
) -> None:
    """Where history was pruned, an upgrade takes the milestones from the row of the job."""
    job = await managed.submit("one", "two")
    await managed.clock.advance(4)
    lease = await managed.claim(job)
    await managed.clock.advance(60)
    await managed.run_under(lease, [CUT, None])
    before = await store.history.timeline(job.id)
    pruning = f"DELETE FROM progress_event WHERE job_id = '{job.id}'{pruned}"
    upgraded = await upgraded_from_before(database, tmp_path, pruning)
    found = (await upgraded.history.timeline(job.id)).milestones
    assert [(one.status, one.at) for one in found] == [(one.status, one.at) for one in before.milestones]


def shown(timeline: Timeline) -> list[tuple[object, ...]]:
    """Return what readers are shown of the timeline."""
    return [
        (one.status, one.at, one.attempt, one.current_video, one.pause_reason, one.previous_at, one.resumed is not None)
        if one.status is PENDING
        else (one.status, one.at, one.attempt, one.current_video, one.pause_reason)
        for one in timeline.milestones
    ]
