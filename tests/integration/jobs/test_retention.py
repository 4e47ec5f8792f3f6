"""Jobs leave the dashboard, and deleted jobs leave the records."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from backend.domain.job import Job
from backend.errors import JobNotFound
from backend.jobs.outputs import Outputs
from backend.jobs.retention import Erasure, leaves
from backend.settings import Settings
from backend.store import Store
from backend.store.database import Database
from progress_dashboard.protocol import Status
from tests.support.job_states import job_in
from tests.support.managed_backend import ANA, BEN, Managed, finished, open_managed

SETTINGS = Settings.model_construct()
TABLES = ("video", "result", "progress_event", "milestone", "idempotency_key")


async def test_a_finished_job_leaves_the_dashboard_for_history(managed: Managed) -> None:
    job, waiting = await managed.submit("one"), await managed.submit("one")
    await managed.run(job, [None])
    reader = managed.queries.watch(by=ANA)
    await reader.next()
    managed.manager.remove_from_dashboard(lambda _, now: now == managed.clock.now())
    assert (await reader.next()).removed == (job.id,)
    shown, recorded = [(await managed.queries.jobs(by=ANA, dashboard=only)).items for only in (True, None)]
    assert ({one.id for one in shown}, {one.id for one in recorded}) == ({waiting.id}, {job.id, waiting.id})


async def test_a_job_dismissed_at_its_end_is_seen_to_end(managed: Managed) -> None:
    """Readers see the end of a job before its removal, even if both come in one tick."""
    lease = await managed.claim(await managed.submit("one"))
    [video] = await managed.videos(lease.job)
    reader = managed.queries.watch(by=ANA)
    await reader.next()
    managed.leases.record(lease, finished(video))
    await managed.manager.dismiss(lease.job.id, by=ANA)
    views = [await reader.next()]
    while not views[-1].removed:
        views.append(await reader.next())
    seen = [job.status for view in views for job in view.updates]
    assert (seen[-1], views[-1].removed) == (Status.COMPLETED, (lease.job.id,))


async def test_a_pinned_job_stays_until_it_is_dismissed(managed: Managed) -> None:
    pinned, other = await job_in(managed, "completed"), await job_in(managed, "completed")
    assert (await managed.manager.keep(pinned.id, by=ANA)).pinned
    await managed.clock.advance(10 * 86_400)
    managed.manager.remove_from_dashboard(lambda job, now: leaves(job, now, SETTINGS))
    shown = [(await managed.stored(job)).on_dashboard for job in (pinned, other)]
    assert shown == [True, False]
    assert not (await managed.manager.dismiss(pinned.id, by=ANA)).on_dashboard


async def test_a_pinned_job_is_pinned_after_a_restart(store: Store, tmp_path: Path) -> None:
    async with open_managed(store, tmp_path) as first:
        job = await job_in(first, "completed")
        await first.manager.keep(job.id, by=ANA)
    async with open_managed(store, tmp_path) as second:
        await second.manager.recover()
        second.manager.remove_from_dashboard(lambda job, _: not job.pinned)
        assert (await second.stored(job)).on_dashboard


# Deletion.


def rows_of(database: Database, job: Job) -> int:
    """Return the number of the job's rows in all tables but that of tombstones."""
    counts = " + ".join(f"(SELECT count(*) FROM {table} WHERE job_id = :job)" for table in TABLES)
    query = text(f"SELECT {counts} + (SELECT count(*) FROM job WHERE id = :job)")
    return database.read_now(lambda connection: connection.execute(query, {"job": job.id}).scalar()) or 0


def erasure(managed: Managed, outputs: Path) -> Erasure:
    return Erasure(managed.store, Outputs(outputs), SETTINGS, managed.clock)


async def test_a_deleted_job_is_gone_at_once_and_erased_soon(
    managed: Managed, database: Database, tmp_path: Path
) -> None:
    """A deleted job disappears at once; erasure then removes its rows and files, and no others."""
    deleted, other = await job_in(managed, "failed"), await job_in(managed, "failed")
    outputs = tmp_path / "outputs"
    for job in (deleted, other):
        (outputs / job.id / "0").mkdir(parents=True)
        (outputs / job.id / "0" / "poster.jpg").touch()
    reader = managed.queries.watch(by=ANA)
    await reader.next()
    await managed.manager.delete(deleted.id, by=ANA)
    assert (await reader.next()).removed == (deleted.id,)
    assert [job.id for job in (await managed.queries.jobs(by=ANA)).items] == [other.id]
    with pytest.raises(JobNotFound):
        await managed.queries.history(deleted.id, by=ANA)
    await erasure(managed, outputs).run_once()
    assert rows_of(database, deleted) == 0 < rows_of(database, other)
    assert [path.name for path in outputs.iterdir()] == [other.id]
    assert await managed.store.jobs.deleted() == []


async def test_a_deletion_is_logged_as_such_only(managed: Managed, caplog: pytest.LogCaptureFixture) -> None:
    """A deletion is not also logged as a removal from the dashboard."""
    dismissed, deleted = await job_in(managed, "failed"), await job_in(managed, "failed")
    caplog.set_level("INFO", "backend.jobs")
    await managed.manager.dismiss(dismissed.id, by=ANA)
    await managed.manager.delete(deleted.id, by=ANA)
    logged = [(vars(record)["action"], vars(record)["job_id"]) for record in caplog.records]
    removals = [entry for entry in logged if entry[0] in ("job_removed", "job_deleted")]
    assert removals == [("job_removed", dismissed.id), ("job_deleted", deleted.id)]


async def test_an_interrupted_erasure_continues_after_a_restart(
    database: Database, store: Store, tmp_path: Path
) -> None:
    async with open_managed(store, tmp_path) as first:
        job = await job_in(first, "failed")
        await first.manager.delete(job.id, by=ANA)
        assert await store.jobs.erase_some(job.id)
        assert rows_of(database, job) > 0
    async with open_managed(store, tmp_path) as second:
        await second.manager.recover()
        await erasure(second, tmp_path / "outputs").run_once()
        assert rows_of(database, job) == 0


async def test_a_returning_reader_learns_of_deleted_jobs(store: Store, tmp_path: Path) -> None:
    """A reader that was away while jobs were deleted learns of it, also after a restart of the server."""
    async with open_managed(store, tmp_path) as first:
        dismissed, deleted = await job_in(first, "failed"), await job_in(first, "completed")
        away = first.queries.position
        await first.manager.dismiss(dismissed.id, by=ANA)
        await first.manager.delete(dismissed.id, by=ANA)
        await first.manager.delete(deleted.id, by=ANA)
        last = first.queries.position
    async with open_managed(store, tmp_path) as second:
        assert await store.jobs.last_seq() == last <= second.queries.position
        view = await second.queries.watch(by=ANA, after=away).next()
        assert (view.snapshot, set(view.removed), view.updates) == (False, {dismissed.id, deleted.id}, ())
        assert (await second.queries.watch(by=BEN).next()).removed == ()
