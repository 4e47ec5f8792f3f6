"""A job's history: read to any depth by position or by time, and forgotten when it is old."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.app import running
from backend.delivery.hub import Change
from backend.domain.video import Video
from backend.errors import StoreRefused
from backend.jobs.retention import PRUNING_INTERVAL_SECONDS, Pruning
from backend.settings import Settings
from backend.store import Database, JobStore, NewJob, Tick
from backend.store.jobs import PROBED_AT_ONCE, PRUNED_AT_ONCE, OldHistory
from tests.support.clock import NOON, QuickClock
from tests.support.jobs import ERA, a_job

JOB = a_job().id
WAIT = 10
THIRTY_DAYS = Settings.model_construct(progress_retention_days=30)
OLD, YOUNG = NOON - timedelta(days=30, milliseconds=1), NOON - timedelta(days=30)


def a_tick(**given: object) -> Tick:
    return Tick(**{"new": [], "jobs": [], "events": [], "removed": [], "videos": [], **given})  # type: ignore[arg-type]


async def told(store: JobStore, rows: Iterable[tuple[int, datetime]], job_id: str = JOB) -> None:
    """History rows of a job: (seq, at) each."""
    jobs = [a_job(id=job_id, seq=seq, updated_at=at) for seq, at in rows]
    await store.commit(a_tick(events=[Change(job) for job in jobs]))


async def history(
    store: JobStore, job_id: str = JOB, since: datetime | None = None, after: int | None = None, limit: int = 5000
) -> list[int]:
    """The `seq` of each update on the page."""
    page = await store.history(job_id, since=since, after=after, limit=limit)
    return [json.loads(update)["seq"] for update in page]


def after(milliseconds: float) -> datetime:
    return ERA + timedelta(milliseconds=milliseconds)


async def test_pages_by_position_neither_repeat_nor_leave_out(store: JobStore) -> None:
    made = list(range(1, 4000, 3))
    await told(store, [(seq, after(seq)) for seq in made])
    seen: list[int] = []
    for _ in range(len(made) // 100 + 1):
        seen += await history(store, after=seen[-1] if seen else None, limit=100)
    assert seen == made


async def test_every_update_of_the_moment_asked_for_is_there(store: JobStore) -> None:
    await told(store, [(1, after(0)), (2, after(122)), (3, after(123)), (4, after(123)), (5, after(124))])
    assert await history(store, since=after(123)) == [3, 4, 5]


async def test_a_fraction_of_a_millisecond_leaves_nothing_out(store: JobStore) -> None:
    await told(store, [(1, after(122)), (2, after(123)), (3, after(124))])
    assert await history(store, since=after(123.9)) == [2, 3]


async def test_a_moment_after_the_last_update_has_none(store: JobStore) -> None:
    await told(store, [(1, after(0))])
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
async def test_time_and_position_together_choose_what_a_plain_filter_would(
    store: JobStore, runs: list[tuple[int, int, int]], since: float | None, position: float | None, limit: int
) -> None:
    job_id, seq, at = str(uuid.uuid4()), 10**15, 0
    steps = [(step, wait) for length, step, wait in runs for _ in range(length)]
    rows = [(seq, at)] + [(seq := seq + step, at := at + wait) for step, wait in steps]
    await told(store, [(seq, after(at)) for seq, at in rows], job_id)
    known = None if position is None else rows[round(position * (len(rows) - 1))][0]
    moment = None if since is None else round(since * (at + 2)) - 1
    expected = [seq for seq, at in rows if (moment is None or at >= moment) and (known is None or seq > known)]
    asked = None if moment is None else after(moment)
    assert await history(store, job_id, asked, known, limit) == expected[:limit]


async def test_old_progress_goes_and_the_job_stays_whole(store: JobStore) -> None:
    job = a_job()
    await store.add_videos([Video(job_id=JOB, position=0, video_id="v")])
    await store.commit(a_tick(new=[NewJob(job=job, columns=())]))
    await told(store, [(1, OLD), (2, OLD), (3, YOUNG), (4, NOON)])
    await Pruning(store, THIRTY_DAYS, QuickClock()).run_once()
    assert await history(store) == [3, 4]
    assert await store.find(JOB, owner_id=None) == job
    assert (await store.video(JOB, 0)) is not None


async def test_jobs_between_which_others_ended_lose_what_is_theirs(store: JobStore) -> None:
    ids = [f"job-{number:04}" for number in range(PROBED_AT_ONCE + 100)]
    for number, job_id in enumerate(ids):
        await told(store, [(number + 1, OLD if number % 2 else NOON)], job_id)
    await Pruning(store, THIRTY_DAYS, QuickClock()).run_once()
    assert [job_id for job_id in ids if await history(store, job_id)] == ids[::2]


class Interrupted(QuickClock):
    """A clock in whose pauses something happens."""

    def __init__(self, happens: Callable[[float], Awaitable[None]]) -> None:
        super().__init__()
        self._happens = happens

    async def sleep(self, seconds: float) -> None:
        await self._happens(seconds)


async def test_ticks_come_between_the_batches_of_a_long_pruning(store: JobStore) -> None:
    await told(store, [(seq, OLD) for seq in range(1, 2 * PRUNED_AT_ONCE + 201)])
    left: list[int] = []

    async def tick(_: float) -> None:
        await told(store, [(10**6 + len(left), NOON)])
        left.append(len([seq for seq in await history(store) if seq < 10**6]))

    await Pruning(store, THIRTY_DAYS, Interrupted(tick)).run_once()
    assert left == [PRUNED_AT_ONCE + 200, 200, 0]
    assert len(await history(store)) == len(left)


class RefusedOnce(JobStore):
    """Takes no deletion at first, as when another program holds the database."""

    refusals = 1

    async def forget_history(self, old: OldHistory) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StoreRefused
        await super().forget_history(old)


async def test_a_database_that_refuses_a_pruning_is_asked_again_an_hour_later(database: Database) -> None:
    store = RefusedOnce(database)
    await told(store, [(1, OLD), (2, NOON)])
    waits: list[float] = []
    pruned = asyncio.Event()

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) > 1 and seconds == PRUNING_INTERVAL_SECONDS:
            pruned.set()
            await asyncio.Event().wait()

    async with running(Pruning(store, THIRTY_DAYS, Interrupted(pause)).run(), "pruning"):
        await asyncio.wait_for(pruned.wait(), WAIT)
    assert waits[0] == PRUNING_INTERVAL_SECONDS
    assert await history(store) == [2]
