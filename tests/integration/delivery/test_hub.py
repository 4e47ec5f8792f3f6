"""What readers of the hub see, over a real store."""

from __future__ import annotations

import asyncio
import json

from backend.delivery.hub import MAX_BATCHES
from backend.store import Store
from progress_dashboard.protocol import Status
from tests.support.clock import NOON, VirtualClock
from tests.support.delivery import TIMEOUT_SECONDS, Delivery, start_delivery


async def test_a_reader_gets_the_snapshot_and_then_every_change(delivery: Delivery) -> None:
    job = await delivery.add()
    reader = delivery.hub.reader("ana")
    first = await reader.next()
    await delivery.progress(job.evolve(progress=10))
    second = await reader.next()
    assert (first.snapshot, [seen.id for seen in first.updates]) == (True, [job.id])
    assert (second.snapshot, [seen.progress for seen in second.updates]) == (False, [10])
    assert second.prev == first.seq < second.seq


async def test_owners_see_only_their_own_jobs_and_an_admin_all(delivery: Delivery) -> None:
    await delivery.add()
    await delivery.add(id="another", owner_id="ben", owner="ben")
    views = {reader: await delivery.hub.reader(reader).next() for reader in ("ana", "ben", None)}
    seen = {reader: [job.owner_id for job in view.updates] for reader, view in views.items()}
    assert seen == {"ana": ["ana"], "ben": ["ben"], None: ["ana", "ben"]}


async def test_a_reader_is_not_woken_for_the_jobs_of_others(delivery: Delivery) -> None:
    await delivery.add()
    other = await delivery.add(id="another", owner_id="ben", owner="ben")
    reader = delivery.hub.reader("ana")
    await reader.next()
    waiting = asyncio.create_task(reader.next())
    await delivery.progress(other.evolve(progress=50))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_a_reader_far_behind_gets_the_newest_state_of_each_job(delivery: Delivery) -> None:
    job = await delivery.add()
    reader = delivery.hub.reader("ana")
    await reader.next()
    for progress in range(1, MAX_BATCHES + 10):
        await delivery.progress(job.evolve(progress=progress))
    view = await reader.next()
    assert [seen.progress for seen in view.updates] == [MAX_BATCHES + 9]
    assert not view.snapshot


async def test_a_reader_resumes_with_what_changed_and_nothing_else(delivery: Delivery) -> None:
    one, two = await delivery.add(), await delivery.add(id="two")
    position = delivery.hub.seq
    await delivery.progress(two.evolve(progress=7))
    view = await delivery.hub.reader("ana", position).next()
    assert (view.snapshot, view.prev) == (False, position)
    assert [(seen.id, seen.progress) for seen in view.updates] == [("two", 7)]
    assert one.id not in {seen.id for seen in view.updates}


async def test_a_position_from_the_future_gets_the_snapshot(delivery: Delivery) -> None:
    await delivery.add()
    assert (await delivery.hub.reader("ana", delivery.hub.seq + 1).next()).snapshot


async def test_a_removal_is_sent_after_the_last_state(delivery: Delivery) -> None:
    job = await delivery.add()
    position = delivery.hub.seq
    done = job.evolve(status=Status.COMPLETED, progress=100)
    delivery.journal.stage(done)
    await delivery.remove(done)
    live = await delivery.hub.reader("ana", position).next()
    assert live.removed == (job.id,)
    assert (await delivery.hub.reader("ana").next()).updates == ()


async def test_a_removal_never_replaces_the_final_state_before_it(delivery: Delivery) -> None:
    job = await delivery.add()
    position = delivery.hub.seq
    done = job.evolve(status=Status.COMPLETED, progress=100)
    await delivery.publish(done)
    await delivery.remove(done)
    view = await delivery.hub.reader("ana", position).next()
    assert ([seen.status for seen in view.updates], view.removed) == ([Status.COMPLETED], (job.id,))


async def test_a_removal_while_away_is_sent_after_a_restart(delivery: Delivery, store: Store) -> None:
    job = await delivery.add()
    position = delivery.hub.seq
    await delivery.remove(job)
    clock = VirtualClock()
    await clock.advance(10)
    restarted = await start_delivery(store, clock)
    view = await restarted.hub.reader("ana", position).next()
    assert (view.snapshot, view.removed) == (False, (job.id,))


async def test_deleting_a_job_that_left_moves_its_one_removal(store: Store) -> None:
    """A job that leaves and is deleted later takes one place among the remembered removals, that of the deletion."""
    delivery = await start_delivery(store, max_tombstones=2)
    first, second, third = [await delivery.add(id=name) for name in ("first", "second", "third")]
    await delivery.remove(first, second)
    away = delivery.hub.seq
    delivery.journal.stage_removal(first, is_deleted=True)
    await delivery.remove(third)
    view = await delivery.hub.reader("ana", away).next()
    assert (view.snapshot, view.removed) == (False, ("first", "third"))


async def test_batch_frames_chain_by_prev(delivery: Delivery) -> None:
    job = await delivery.add()
    reader = delivery.hub.reader("ana")
    frames = [json.loads((await reader.next()).batch_frame)]
    for progress in (1, 2):
        await delivery.progress(job.evolve(progress=progress))
        frames.append(json.loads((await reader.next()).batch_frame))
    assert [frame["snapshot"] for frame in frames] == [True, False, False]
    assert [frame["prev"] for frame in frames[1:]] == [frame["seq"] for frame in frames[:-1]]


async def test_readers_in_step_share_one_encoding(delivery: Delivery) -> None:
    job = await delivery.add()
    readers = [delivery.hub.reader("ana"), delivery.hub.reader("ana")]
    for reader in readers:
        await reader.next()
    await delivery.progress(job.evolve(progress=1))
    views = [await reader.next() for reader in readers]
    assert views[0] is views[1]


async def test_a_job_reader_begins_with_the_state_as_it_is(delivery: Delivery) -> None:
    job = await delivery.add(progress=30)
    await delivery.add(id="another")
    reader = delivery.hub.job_reader(job.id)
    first = await asyncio.wait_for(reader.next(), TIMEOUT_SECONDS)
    assert first == delivery.hub.job(job.id)
    assert first is not None
    assert (first.id, first.progress) == (job.id, 30)


async def test_a_job_reader_gets_each_change_and_no_other_job(delivery: Delivery) -> None:
    job, other = await delivery.add(), await delivery.add(id="another")
    reader = delivery.hub.job_reader(job.id)
    await reader.next()
    waiting = asyncio.create_task(reader.next())
    await delivery.progress(other.evolve(progress=50))
    await asyncio.sleep(0)
    assert not waiting.done()
    await delivery.progress(job.evolve(progress=60))
    changed = await asyncio.wait_for(waiting, TIMEOUT_SECONDS)
    assert changed is not None
    assert (changed.id, changed.progress) == (job.id, 60)


async def test_a_job_reader_gets_what_it_missed_as_one_state(delivery: Delivery) -> None:
    job = await delivery.add()
    reader = delivery.hub.job_reader(job.id)
    await reader.next()
    for progress in range(1, MAX_BATCHES + 10):
        await delivery.progress(job.evolve(progress=progress))
    newest = await reader.next()
    assert newest is not None
    assert newest.progress == MAX_BATCHES + 9
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_a_job_reader_gets_none_once_when_its_job_leaves(delivery: Delivery) -> None:
    done = (await delivery.add()).evolve(status=Status.COMPLETED)
    await delivery.publish(done)
    reader = delivery.hub.job_reader(done.id)
    await reader.next()
    await delivery.remove(done)
    assert await asyncio.wait_for(reader.next(), TIMEOUT_SECONDS) is None
    waiting = asyncio.create_task(reader.next())
    await delivery.add(id="another")
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_a_job_reader_gets_none_again_when_its_job_is_deleted(delivery: Delivery) -> None:
    job = await delivery.add()
    await delivery.remove(job)
    reader = delivery.hub.job_reader(job.id)
    assert await reader.next() is None
    delivery.journal.stage_removal(job, is_deleted=True)
    await delivery.journal.tick()
    assert await asyncio.wait_for(reader.next(), TIMEOUT_SECONDS) is None


async def test_a_job_reader_of_a_job_that_left_begins_with_none(delivery: Delivery) -> None:
    job = await delivery.add()
    await delivery.remove(job)
    assert await asyncio.wait_for(delivery.hub.job_reader(job.id).next(), TIMEOUT_SECONDS) is None


async def test_a_job_reader_gets_a_job_back_after_its_retry(delivery: Delivery) -> None:
    failed = (await delivery.add()).evolve(status=Status.FAILED, current_video=10, failed=10)
    await delivery.publish(failed)
    await delivery.remove(failed)
    reader = delivery.hub.job_reader(failed.id)
    assert await reader.next() is None
    await delivery.publish(failed.retried(10, failed=0, error=None, at=NOON))
    again = await asyncio.wait_for(reader.next(), TIMEOUT_SECONDS)
    assert again is not None
    assert (again.status, again.attempt) == (Status.PENDING, 2)
