"""The tick and what readers see, over a real store."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from backend.delivery.hub import MAX_BATCHES, ProgressHub
from backend.domain.job import Job
from backend.errors import StoreRefused
from backend.store import Database, JobStore, NewJob
from progress_dashboard.protocol import Status
from tests.support.clock import QuickClock, VirtualClock
from tests.support.jobs import a_job
from tests.support.managed_backend import RefusingStore

WAIT = 10


@pytest.fixture
async def hub(store: JobStore) -> ProgressHub:
    loaded = ProgressHub(store, VirtualClock())
    await loaded.load()
    return loaded


async def born(hub: ProgressHub, **given: object) -> Job:
    job = a_job(**given)
    hub.stage_new(NewJob(job=job, columns=("video_id",)))
    await hub.tick()
    return job


async def told(hub: ProgressHub, job: Job, *, kept: bool = False) -> None:
    hub.stage(job, kept=kept)
    await hub.tick()


async def test_a_reader_gets_the_snapshot_and_then_every_change(hub: ProgressHub) -> None:
    job = await born(hub)
    reader = hub.reader("ana")
    first = await reader.next()
    await told(hub, job.evolve(progress=10))
    second = await reader.next()
    assert (first.snapshot, [seen.id for seen in first.updates]) == (True, [job.id])
    assert (second.snapshot, [seen.progress for seen in second.updates]) == (False, [10])
    assert second.prev == first.seq < second.seq


async def test_nothing_is_visible_before_it_is_stored(hub: ProgressHub, store: JobStore) -> None:
    job = await born(hub)
    reader = hub.reader("ana")
    await reader.next()
    hub.stage(job.evolve(progress=10), kept=False)
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    await hub.tick()
    view = await asyncio.wait_for(waiting, WAIT)
    stored = await store.find(job.id, owner_id="ana")
    assert stored is not None
    assert (stored.progress, stored.seq) == (10, view.updates[0].seq)


async def test_status_changes_are_all_sent_in_order_and_percents_only_newest(hub: ProgressHub) -> None:
    job = await born(hub)
    reader = hub.reader("ana")
    await reader.next()
    processing = job.claimed(at=job.created_at)
    hub.stage(processing, kept=True)
    for progress in (1, 2, 3):
        hub.stage(processing.evolve(progress=progress), kept=False)
    hub.stage(processing.evolve(progress=4, failed=1, error="cut off"), kept=True)
    hub.stage(processing.evolve(progress=5, failed=1), kept=False)
    await hub.tick()
    view = await reader.next()
    assert [seen.progress for seen in view.updates] == [0, 4, 5]
    assert [seen.seq for seen in view.updates] == sorted(seen.seq for seen in view.updates)


async def test_each_owner_sees_only_their_own_and_an_admin_all(hub: ProgressHub) -> None:
    await born(hub)
    await born(hub, id="another", owner_id="ben", owner="ben")
    seen = {who: [job.owner_id for job in (await hub.reader(who).next()).updates] for who in ("ana", "ben", None)}
    assert seen == {"ana": ["ana"], "ben": ["ben"], None: ["ana", "ben"]}


async def test_a_reader_is_not_woken_for_the_jobs_of_others(hub: ProgressHub) -> None:
    await born(hub)
    other = await born(hub, id="another", owner_id="ben", owner="ben")
    reader = hub.reader("ana")
    await reader.next()
    waiting = asyncio.create_task(reader.next())
    await told(hub, other.evolve(progress=50))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_a_reader_far_behind_gets_the_newest_state_of_each_job(hub: ProgressHub) -> None:
    job = await born(hub)
    reader = hub.reader("ana")
    await reader.next()
    for progress in range(1, MAX_BATCHES + 10):
        await told(hub, job.evolve(progress=progress))
    view = await reader.next()
    assert [seen.progress for seen in view.updates] == [MAX_BATCHES + 9]
    assert not view.snapshot


async def test_a_position_is_resumed_with_what_changed_since_and_nothing_else(hub: ProgressHub) -> None:
    one, two = await born(hub), await born(hub, id="two")
    position = hub.seq
    await told(hub, two.evolve(progress=7))
    view = await hub.reader("ana", position).next()
    assert (view.snapshot, view.prev) == (False, position)
    assert [(seen.id, seen.progress) for seen in view.updates] == [("two", 7)]
    assert one.id not in {seen.id for seen in view.updates}


async def test_a_position_from_the_future_gets_the_snapshot(hub: ProgressHub) -> None:
    await born(hub)
    assert (await hub.reader("ana", hub.seq + 1).next()).snapshot


async def test_a_removal_is_told_after_the_last_state(hub: ProgressHub) -> None:
    job = await born(hub)
    position = hub.seq
    done = job.evolve(status=Status.COMPLETED, progress=100)
    hub.stage(done, kept=True)
    hub.stage_removal(done)
    await hub.tick()
    live = await hub.reader("ana", position).next()
    assert live.removed == (job.id,)
    assert (await hub.reader("ana").next()).updates == ()


async def test_a_removal_never_replaces_the_end_before_it(hub: ProgressHub) -> None:
    job = await born(hub)
    position = hub.seq
    done = job.evolve(status=Status.COMPLETED, progress=100)
    await told(hub, done, kept=True)
    hub.stage_removal(done)
    await hub.tick()
    view = await hub.reader("ana", position).next()
    assert ([seen.status for seen in view.updates], view.removed) == ([Status.COMPLETED], (job.id,))


async def test_a_removal_while_away_is_told_after_a_restart(hub: ProgressHub, store: JobStore) -> None:
    job = await born(hub)
    position = hub.seq
    hub.stage_removal(job)
    await hub.tick()
    clock = VirtualClock()
    await clock.advance(10)
    restarted = ProgressHub(store, clock)
    await restarted.load()
    view = await restarted.reader("ana", position).next()
    assert (view.snapshot, view.removed) == (False, (job.id,))


async def test_each_life_of_the_server_counts_above_all_earlier_ones(hub: ProgressHub, store: JobStore) -> None:
    await born(hub)
    behind = VirtualClock(VirtualClock().now() - timedelta(days=1))
    restarted = ProgressHub(store, behind)
    await restarted.load()
    assert restarted.seq == hub.seq
    await told(restarted, a_job(progress=1))
    assert restarted.seq > hub.seq


async def test_history_has_every_status_change_and_thinned_percents(hub: ProgressHub, store: JobStore) -> None:
    job = await born(hub)
    processing = job.claimed(at=job.created_at)
    await told(hub, processing, kept=True)
    for _ in range(5):
        await told(hub, processing.evolve(progress=3))
    later = job.created_at + timedelta(seconds=2)
    await told(hub, processing.evolve(progress=3, updated_at=later))
    bodies = await store.history(job.id, since=None, after=None, limit=100)
    updates = [json.loads(body) for body in bodies]
    assert [(update["status"], update["progress"]) for update in updates] == [
        ("pending", 0),
        ("processing", 0),
        ("processing", 3),
        ("processing", 3),
    ]
    assert [update["seq"] for update in updates] == sorted({update["seq"] for update in updates})


async def test_batch_frames_chain_by_prev(hub: ProgressHub) -> None:
    job = await born(hub)
    reader = hub.reader("ana")
    frames = [json.loads((await reader.next()).batch_frame)]
    for progress in (1, 2):
        await told(hub, job.evolve(progress=progress))
        frames.append(json.loads((await reader.next()).batch_frame))
    assert [frame["snapshot"] for frame in frames] == [True, False, False]
    assert [frame["prev"] for frame in frames[1:]] == [frame["seq"] for frame in frames[:-1]]


async def test_readers_in_step_share_one_encoding(hub: ProgressHub) -> None:
    job = await born(hub)
    readers = [hub.reader("ana"), hub.reader("ana")]
    for reader in readers:
        await reader.next()
    await told(hub, job.evolve(progress=1))
    views = [await reader.next() for reader in readers]
    assert views[0] is views[1]


async def test_a_tick_that_can_never_be_stored_is_said_and_never_shown(hub: ProgressHub, store: JobStore) -> None:
    job = await born(hub)
    reader = hub.reader("ana")
    await reader.next()
    hub.stage_new(NewJob(job=job, columns=()))
    waiting = asyncio.create_task(hub.durable())
    await asyncio.sleep(0)
    with pytest.raises(Exception, match="UNIQUE"):
        await hub.tick()
    with pytest.raises(StoreRefused):
        await waiting
    with pytest.raises(StoreRefused):
        await hub.durable()
    assert not hub.is_storing


async def test_whoever_waits_for_the_tick_after_one_that_can_never_be_stored_is_told_too(hub: ProgressHub) -> None:
    job = await born(hub)
    hub.stage_new(NewJob(job=job, columns=()))
    ticking = asyncio.create_task(hub.tick())
    await asyncio.sleep(0)
    late = asyncio.create_task(hub.durable(patient=False))
    with pytest.raises(Exception, match="UNIQUE"):
        await ticking
    with pytest.raises(StoreRefused):
        await asyncio.wait_for(late, WAIT)


async def test_a_job_that_left_and_is_deleted_then_counts_as_one_removal_and_the_newer_one(store: JobStore) -> None:
    hub = ProgressHub(store, VirtualClock(), kept_removals=2)
    await hub.load()
    jobs = [await born(hub, id=name) for name in ("first", "second", "third")]
    hub.stage_removal(jobs[0])
    hub.stage_removal(jobs[1])
    await hub.tick()
    away = hub.seq
    hub.stage_deletion(jobs[0])
    hub.stage_removal(jobs[2])
    await hub.tick()
    view = await hub.reader("ana", away).next()
    assert (view.snapshot, view.removed) == (False, ("first", "third"))


async def test_a_hub_that_is_closed_while_the_database_refuses_ends_and_tells_who_waits(database: Database) -> None:
    store = RefusingStore(database)
    hub = ProgressHub(store, QuickClock())
    await hub.load()
    ticking = asyncio.create_task(hub.run())
    store.refuse()
    hub.stage_new(NewJob(job=a_job(), columns=()))
    with pytest.raises(StoreRefused):
        await hub.durable(patient=False)
    patient = asyncio.create_task(hub.durable())
    await asyncio.sleep(0)
    hub.close()
    for waiting in (ticking, patient):
        with pytest.raises(StoreRefused):
            await asyncio.wait_for(waiting, WAIT)


async def test_work_waits_until_the_database_takes_things_again(database: Database) -> None:
    store = RefusingStore(database)
    hub = ProgressHub(store, QuickClock())
    await hub.load()
    ticking = asyncio.create_task(hub.run())
    store.refuse()
    with pytest.raises(StoreRefused):
        await hub.durable(patient=False)
    waiting = asyncio.create_task(hub.until_storing())
    await asyncio.sleep(0)
    assert (waiting.done(), hub.is_storing) == (False, False)
    store.accept()
    await asyncio.wait_for(waiting, WAIT)
    hub.close()
    await ticking
