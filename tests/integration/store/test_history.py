"""The history of a job: read to any depth by position or by time, and deleted when it is old."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.app import running
from backend.delivery.batches import Change
from backend.domain.video import Video
from backend.errors import StoreRefused
from backend.jobs.retention import PRUNING_INTERVAL_SECONDS, Pruning
from backend.settings import Settings
from backend.store import Store
from backend.store.changes import NewJob, Tick
from backend.store.database import Database
from backend.store.history import PROBED_AT_ONCE, PRUNED_AT_ONCE, HistoryStore, OldHistory
from tests.support.clock import NOON, QuickClock
from tests.support.jobs import ERA, a_job

JOB = a_job().id
TIMEOUT_SECONDS = 10
THIRTY_DAYS = Settings.model_construct(progress_retention_days=30)
OLD, YOUNG = NOON - timedelta(days=30, milliseconds=1), NOON - timedelta(days=30)


async def add_history(store: Store, rows: Iterable[tuple[int, datetime]], job_id: str = JOB) -> None:
    """Store history rows of a job, each a pair of seq and time."""
    jobs = [a_job(id=job_id, seq=seq, updated_at=at) for seq, at in rows]
    await store.commit(Tick(events=[Change(job) for job in jobs]))


async def history(
    store: Store, job_id: str = JOB, since: datetime | None = None, after: int | None = None, limit: int = 5000
) -> list[int]:
    """Return the `seq` of each update on the page."""
    page = await store.history.page(job_id, since=since, after=after, limit=limit)
    return [json.loads(update)["seq"] for update in page]


def after(milliseconds: float) -> datetime:
    return ERA + timedelta(milliseconds=milliseconds)


async def test_pages_by_position_neither_repeat_nor_leave_out(store: Store) -> None:
    stored = list(range(1, 4000, 3))
    await add_history(store, [(seq, after(seq)) for seq in stored])
    seen: list[int] = []
    for _ in range(len(stored) // 100 + 1):
        seen += await history(store, after=seen[-1] if seen else None, limit=100)
    assert seen == stored


async def test_every_update_of_the_requested_moment_is_there(store: Store) -> None:
    await add_history(store, [(1, after(0)), (2, after(122)), (3, after(123)), (4, after(123)), (5, after(124))])
    assert await history(store, since=after(123)) == [3, 4, 5]


async def test_a_fraction_of_a_millisecond_leaves_nothing_out(store: Store) -> None:
    await add_history(store, [(1, after(122)), (2, after(123)), (3, after(124))])
    assert await history(store, since=after(123.9)) == [2, 3]


async def test_a_moment_after_the_last_update_has_none(store: Store) -> None:
    await add_history(store, [(1, after(0))])
    assert await history(store, since=after(1)) == []
    assert await history(store, "unknown", since=after(0)) == []


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(
        st.tuples(st.integers(1, 80), st.sampled_from([1, 7, 10**12]), st.sampled_from([0, 1, 1000])), max_size=8
    ),
    since=st.none() | st.floats(0, 1),
    position=st.none() | st.floats(0, 1),
    limit=st.integers(1, 50),
)
async def test_time_and_position_together_work_like_a_plain_filter(
    store: Store, runs: list[tuple[int, int, int]], since: float | None, position: float | None, limit: int
) -> None:
    job_id, seq, at = str(uuid.uuid4()), 10**15, 0
    steps = [(step, wait) for length, step, wait in runs for _ in range(length)]
    rows = [(seq, at)] + [(seq := seq + step, at := at + wait) for step, wait in steps]
    await add_history(store, [(seq, after(at)) for seq, at in rows], job_id)
    known = None if position is None else rows[round(position * (len(rows) - 1))][0]
    moment = None if since is None else round(since * (at + 2)) - 1
    expected = [seq for seq, at in rows if (moment is None or at >= moment) and (known is None or seq > known)]
    found = await history(store, job_id, None if moment is None else after(moment), known, limit)
    assert found == expected[:limit]


async def test_old_progress_is_deleted_and_the_job_stays_complete(store: Store) -> None:
    job = a_job()
    await store.videos.add([Video(job_id=JOB, position=0, video_id="v")])
    await store.commit(Tick(new=[NewJob(job=job, columns=())]))
    await add_history(store, [(1, OLD), (2, OLD), (3, YOUNG), (4, NOON)])
    await Pruning(store.history, THIRTY_DAYS, QuickClock()).run_once()
    assert await history(store) == [3, 4]
    assert await store.jobs.find(JOB, owner_id=None) == job
    assert (await store.videos.find(JOB, 0)) is not None


async def test_pruning_finds_the_old_history_of_each_job(store: Store) -> None:
    """Jobs with old history lie between others, and there are more of them than one look probes."""
    ids = [f"job-{number:04}" for number in range(PROBED_AT_ONCE + 100)]
    for number, job_id in enumerate(ids):
        await add_history(store, [(number + 1, OLD if number % 2 else NOON)], job_id)
    await Pruning(store.history, THIRTY_DAYS, QuickClock()).run_once()
    assert [job_id for job_id in ids if await history(store, job_id)] == ids[::2]


class InterruptedClock(QuickClock):
    """A clock that calls `interrupt` during each sleep."""

    def __init__(self, interrupt: Callable[[float], Awaitable[None]]) -> None:
        super().__init__()
        self._interrupt = interrupt

    async def sleep(self, seconds: float) -> None:
        await self._interrupt(seconds)


async def test_ticks_come_between_the_batches_of_a_long_pruning(store: Store) -> None:
    await add_history(store, [(seq, OLD) for seq in range(1, 2 * PRUNED_AT_ONCE + 201)])
    left: list[int] = []

    async def tick(_: float) -> None:
        await add_history(store, [(10**6 + len(left), NOON)])
        left.append(len([seq for seq in await history(store) if seq < 10**6]))

    await Pruning(store.history, THIRTY_DAYS, InterruptedClock(tick)).run_once()
    assert left == [PRUNED_AT_ONCE + 200, 200, 0]
    assert len(await history(store)) == len(left)


class HistoryRefusedOnce(HistoryStore):
    """Refuses the first deletion, as when another program holds the database."""

    refusals = 1

    async def delete_old(self, old: OldHistory) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StoreRefused
        await super().delete_old(old)


async def test_a_refused_pruning_is_tried_again_an_hour_later(database: Database, store: Store) -> None:
    await add_history(store, [(1, OLD), (2, NOON)])
    waits: list[float] = []
    pruned = asyncio.Event()

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) > 1 and seconds == PRUNING_INTERVAL_SECONDS:
            pruned.set()
            await asyncio.Event().wait()

    async with running(Pruning(HistoryRefusedOnce(database), THIRTY_DAYS, InterruptedClock(pause)).run(), "pruning"):
        await asyncio.wait_for(pruned.wait(), TIMEOUT_SECONDS)
    assert waits[0] == PRUNING_INTERVAL_SECONDS
    assert await history(store) == [2]
