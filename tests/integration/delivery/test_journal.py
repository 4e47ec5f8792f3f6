"""What the journal stores with a tick, and what becomes visible then, over a real store."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from backend.app import running
from backend.delivery.batches import Change
from backend.delivery.journal import AWAY_SECONDS, CHECK_SECONDS, GROUP_SECONDS, INTERVAL_SECONDS, LEAD_SECONDS
from backend.domain.job import Job
from backend.errors import LeadLost, StoreRefused
from backend.store import Store
from backend.store.changes import NewJob, Tick
from backend.store.database import Database
from progress_dashboard.protocol import Status
from tests.support.clock import QuickClock, VirtualClock
from tests.support.delivery import TIMEOUT_SECONDS, Delivery, Progress, start_delivery
from tests.support.jobs import a_job
from tests.support.managed_backend import RefusingStore


class HeldStore(Store):
    """Holds up each commit until `may_commit` is set."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.has_begun, self.may_commit = asyncio.Event(), asyncio.Event()

    async def commit(self, tick: Tick) -> None:
        self.has_begun.set()
        await self.may_commit.wait()
        await super().commit(tick)


async def test_nothing_is_visible_before_it_is_stored(delivery: Delivery) -> None:
    job = await delivery.add()
    reader = delivery.hub.reader("ana")
    await reader.next()
    delivery.journal.stage_progress(Progress(job.evolve(progress=10)))
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    await delivery.journal.tick()
    view = await asyncio.wait_for(waiting, TIMEOUT_SECONDS)
    stored = await delivery.store.jobs.find(job.id, owner_id="ana")
    assert stored is not None
    assert (stored.progress, stored.seq) == (10, view.updates[0].seq)


async def test_nothing_is_published_before_the_commit_has_ended(database: Database) -> None:
    store = HeldStore(database)
    delivery = await start_delivery(store)
    job, position, reader = a_job(), delivery.hub.seq, delivery.hub.reader("ana")
    reader.take()
    delivery.journal.stage_new(NewJob(job=job, columns=()))
    ticking = asyncio.create_task(delivery.journal.tick())
    await asyncio.wait_for(store.has_begun.wait(), TIMEOUT_SECONDS)
    assert (delivery.hub.job(job.id), delivery.hub.seq, reader.take()) == (None, position, None)
    store.may_commit.set()
    await ticking
    view = reader.take()
    assert view is not None
    assert [seen.id for seen in view.updates] == [job.id]
    assert delivery.hub.seq > position


async def test_a_tick_is_published_only_once_the_database_takes_it(database: Database) -> None:
    store = RefusingStore(database)
    delivery = await start_delivery(store, QuickClock())
    store.refuse()
    delivery.journal.stage_new(NewJob(job=a_job(), columns=()))
    durable = asyncio.create_task(delivery.journal.durable())
    ticking = asyncio.create_task(delivery.journal.tick())
    with pytest.raises(StoreRefused):
        await delivery.journal.durable(patient=False)
    assert (delivery.hub.job(a_job().id), durable.done()) == (None, False)
    store.accept()
    await asyncio.wait_for(ticking, TIMEOUT_SECONDS)
    await asyncio.wait_for(durable, TIMEOUT_SECONDS)
    stored = await delivery.store.jobs.find(a_job().id, owner_id="ana")
    assert stored is not None
    assert stored == delivery.hub.job(a_job().id)


async def test_status_changes_are_sent_in_order_and_only_the_newest_percent(delivery: Delivery) -> None:
    job = await delivery.add()
    reader = delivery.hub.reader("ana")
    await reader.next()
    processing, journal = job.claimed(at=job.created_at), delivery.journal
    journal.stage(processing)
    for progress in (1, 2, 3):
        journal.stage_progress(Progress(processing.evolve(progress=progress)))
    journal.stage(processing.evolve(progress=4, failed=1, error="cut off"))
    journal.stage_progress(Progress(processing.evolve(progress=5, failed=1)))
    await journal.tick()
    view = await reader.next()
    assert [seen.progress for seen in view.updates] == [0, 4, 5]
    assert [seen.seq for seen in view.updates] == sorted(seen.seq for seen in view.updates)


async def test_a_tick_takes_the_newest_snapshot_and_makes_it_once(delivery: Delivery) -> None:
    job = await delivery.add()
    working = Progress(job)
    for progress in (1, 2, 3):
        delivery.journal.stage_progress(working)
        working.job = job.evolve(progress=progress)
    await delivery.journal.tick()
    shown = delivery.hub.job(job.id)
    assert shown is not None
    assert (shown.progress, working.snapshots) == (3, 1)
    assert await delivery.store.jobs.find(job.id, owner_id="ana") == shown


async def test_a_lossless_state_discards_the_earlier_percent_of_its_job(delivery: Delivery) -> None:
    job, other = await delivery.add(), await delivery.add(id="another")
    reader = delivery.hub.reader("ana")
    await reader.next()
    overtaken, untouched = Progress(job.evolve(progress=1)), Progress(other.evolve(progress=2))
    delivery.journal.stage_progress(overtaken)
    delivery.journal.stage_progress(untouched)
    await delivery.publish(job.evolve(progress=3, failed=1, error="cut off"))
    view = await reader.next()
    assert [(seen.id, seen.progress) for seen in view.updates] == [(job.id, 3), ("another", 2)]
    assert (overtaken.snapshots, untouched.snapshots) == (0, 1)


async def test_a_removal_discards_the_earlier_percent_of_its_job(delivery: Delivery) -> None:
    job = await delivery.add()
    reader = delivery.hub.reader("ana")
    await reader.next()
    delivery.journal.stage_progress(Progress(job.evolve(progress=1)))
    await delivery.remove(job)
    view = await reader.next()
    assert (view.updates, view.removed) == ((), (job.id,))
    assert delivery.hub.job(job.id) is None


async def test_each_run_of_the_server_counts_above_all_earlier_ones(delivery: Delivery, store: Store) -> None:
    await delivery.add()
    behind = VirtualClock(VirtualClock().now() - timedelta(days=1))
    restarted = await start_delivery(store, behind)
    assert restarted.hub.seq == delivery.hub.seq
    await restarted.progress(a_job(progress=1))
    assert restarted.hub.seq > delivery.hub.seq


async def test_history_has_every_status_change_and_thinned_percents(delivery: Delivery) -> None:
    job = await delivery.add()
    processing = job.claimed(at=job.created_at)
    await delivery.publish(processing)
    for _ in range(5):
        await delivery.progress(processing.evolve(progress=3))
    later = job.created_at + timedelta(seconds=2)
    await delivery.progress(processing.evolve(progress=3, updated_at=later))
    bodies = await delivery.store.history.page(job.id, since=None, after=None, limit=100)
    updates = [json.loads(body) for body in bodies]
    assert [(update["status"], update["progress"]) for update in updates] == [
        ("pending", 0),
        ("processing", 0),
        ("processing", 3),
        ("processing", 3),
    ]
    assert [update["seq"] for update in updates] == sorted({update["seq"] for update in updates})


async def test_a_deleted_job_leaves_only_its_id_and_owner(delivery: Delivery, store: Store) -> None:
    done = (await delivery.add()).evolve(status=Status.COMPLETED)
    await delivery.publish(done)
    delivery.journal.stage_removal(done, is_deleted=True)
    await delivery.journal.tick()
    assert await store.jobs.find(done.id, owner_id=None) is None
    assert await store.jobs.removals(10) == [(done.id, done.owner_id, delivery.hub.seq)]
    assert await store.jobs.deleted() == [done.id]


async def test_a_tick_that_can_never_be_stored_raises_and_is_never_shown(delivery: Delivery) -> None:
    job = await delivery.add()
    reader = delivery.hub.reader("ana")
    await reader.next()
    delivery.journal.stage_new(NewJob(job=job, columns=()))
    waiting = asyncio.create_task(delivery.journal.durable())
    await asyncio.sleep(0)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await delivery.journal.tick()
    with pytest.raises(StoreRefused):
        await waiting
    with pytest.raises(StoreRefused):
        await delivery.journal.durable()
    assert not delivery.journal.is_storing
    assert reader.take() is None


async def test_a_failed_tick_also_fails_those_who_wait_for_the_next(delivery: Delivery) -> None:
    job = await delivery.add()
    delivery.journal.stage_new(NewJob(job=job, columns=()))
    ticking = asyncio.create_task(delivery.journal.tick())
    await asyncio.sleep(0)
    late = asyncio.create_task(delivery.journal.durable(patient=False))
    with pytest.raises(Exception, match=r"(?i)unique"):
        await ticking
    with pytest.raises(StoreRefused):
        await asyncio.wait_for(late, TIMEOUT_SECONDS)


async def test_closing_while_the_database_refuses_ends_and_fails_waiters(database: Database) -> None:
    store = RefusingStore(database)
    journal = (await start_delivery(store, QuickClock())).journal
    ticking = asyncio.create_task(journal.run())
    store.refuse()
    journal.stage_new(NewJob(job=a_job(), columns=()))
    with pytest.raises(StoreRefused):
        await journal.durable(patient=False)
    patient = asyncio.create_task(journal.durable())
    await asyncio.sleep(0)
    journal.close()
    for waiting in (ticking, patient):
        with pytest.raises(StoreRefused):
            await asyncio.wait_for(waiting, TIMEOUT_SECONDS)


async def test_work_waits_until_the_database_takes_changes_again(database: Database) -> None:
    store = RefusingStore(database)
    journal = (await start_delivery(store, QuickClock())).journal
    ticking = asyncio.create_task(journal.run())
    store.refuse()
    with pytest.raises(StoreRefused):
        await journal.durable(patient=False)
    waiting = asyncio.create_task(journal.until_storing())
    await asyncio.sleep(0)
    assert (waiting.done(), journal.is_storing) == (False, False)
    store.accept()
    await asyncio.wait_for(waiting, TIMEOUT_SECONDS)
    journal.close()
    await ticking


class DistantStore(Store):
    """A store whose database is there or away, as the test says."""

    answer: Exception | None = None

    async def check(self) -> None:
        if self.answer is not None:
            raise self.answer


async def test_an_idle_server_notices_that_the_database_is_away_and_back(database: Database) -> None:
    store, clock = DistantStore(database), VirtualClock()
    journal = (await start_delivery(store, clock)).journal
    async with running(journal.watch(), "watch"):
        await clock.advance(CHECK_SECONDS)
        before = journal.refusal
        store.answer = StoreRefused("The data cannot be reached right now; try again in a moment.")
        await clock.advance(CHECK_SECONDS)
        away = (journal.is_storing, journal.refusal)
        with pytest.raises(StoreRefused, match="cannot be reached"):
            await journal.durable(patient=False)
        store.answer = None
        await clock.advance(AWAY_SECONDS)
        assert (before, away) == (None, (False, "The data cannot be reached right now; try again in a moment."))
        assert (journal.is_storing, journal.refusal) == (True, None)


async def test_a_tick_is_tried_again_as_soon_as_the_database_is_back(database: Database) -> None:
    refusing, clock = RefusingStore(database), VirtualClock()
    delivery = await start_delivery(refusing, clock)
    refusing.refuse()
    delivery.journal.stage_new(NewJob(job=a_job(), columns=()))
    ticking = asyncio.create_task(delivery.journal.tick())
    await asyncio.wait_for(delivery.journal.until_refusing(), TIMEOUT_SECONDS)
    refusing.accept()
    async with running(delivery.journal.watch(), "watch"):  # it finds the database there, long before the retry
        await asyncio.wait_for(ticking, TIMEOUT_SECONDS)
    assert [job.id for job in await delivery.store.jobs.on_dashboard()] == [a_job().id]


async def test_a_lost_lead_ends_the_watch_and_those_who_wait(database: Database) -> None:
    store = DistantStore(database)
    journal = (await start_delivery(store, VirtualClock())).journal
    waiting = asyncio.create_task(journal.durable())
    await asyncio.sleep(0)
    store.answer = LeadLost()
    with pytest.raises(LeadLost):
        await journal.watch()
    with pytest.raises(StoreRefused):
        await waiting


async def test_a_caller_that_waits_is_answered_before_the_next_tick(store: Store) -> None:
    """What it waits for is stored within a few milliseconds; readers get it with the next tick."""
    clock = VirtualClock()
    delivery = await start_delivery(store, clock)
    job, reader = await delivery.add(), delivery.hub.reader("ana")
    reader.take()
    async with running(delivery.journal.run(), "journal"):
        await _stored_after(clock, LEAD_SECONDS, delivery, job.evolve(progress=1))
        assert reader.take() is not None
        await _stored_after(clock, GROUP_SECONDS, delivery, job.evolve(progress=2))
        stored, early = delivery.hub.job(job.id), reader.take()
        await clock.advance(INTERVAL_SECONDS + LEAD_SECONDS)
        view = await asyncio.wait_for(reader.next(), TIMEOUT_SECONDS)
    assert (stored and stored.progress, early) == (2, None)
    assert [one.progress for one in view.updates] == [2]


async def _stored_after(clock: VirtualClock, seconds: float, delivery: Delivery, job: Job) -> None:
    delivery.journal.stage(job)
    durable = asyncio.create_task(delivery.journal.durable())
    await clock.advance(seconds)
    await asyncio.wait_for(durable, TIMEOUT_SECONDS)


async def test_a_percent_that_was_stored_early_is_replaced_before_readers_get_it(delivery: Delivery) -> None:
    job = await delivery.add()
    reader = delivery.hub.reader("ana")
    reader.take()
    states = [Change(job.evolve(progress=progress, seq=delivery.hub.seq + progress)) for progress in (1, 2, 3, 4)]
    failed = Change(states[-1].job.evolve(failed=1, seq=delivery.hub.seq + 5))
    delivery.hub.take((), states[:1])
    delivery.hub.take((), states[1:2])
    delivery.hub.take([failed], ())
    assert (delivery.hub.job(job.id), reader.take()) == (failed.job, None)
    delivery.hub.publish()
    view = reader.take()
    assert view is not None
    assert view.updates == (failed.job,)


async def test_a_new_reader_begins_with_all_that_is_stored(delivery: Delivery) -> None:
    """What was not published yet is in its snapshot, and does not follow it a second time."""
    job = await delivery.add()
    early = Change(job.evolve(progress=50, seq=delivery.hub.seq + 1))
    delivery.hub.take([early])
    reader = delivery.hub.reader("ana")
    view = await reader.next()
    delivery.hub.publish()
    assert ([one.progress for one in view.updates], view.seq, reader.take()) == ([50], early.seq, None)
