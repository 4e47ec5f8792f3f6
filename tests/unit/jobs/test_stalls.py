"""When a job counts as standing still."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from backend.domain.job import Job
from backend.jobs.stalls import Stalls, limit_seconds
from progress_dashboard.protocol import CANCEL, EXTERNAL, PAUSE, Status
from tests.support.clock import VirtualClock
from tests.support.jobs import a_job


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def watching(clock: VirtualClock, took: Sequence[float] = ()) -> Stalls:
    async def read(job_id: str, limit: int) -> Sequence[float]:
        return took

    return Stalls(lambda: pytest.fail("states are given by hand"), read, clock)


def at_work(clock: VirtualClock, **facts: Any) -> Job:
    usual = {"status": Status.PROCESSING, "running": 1, "current_video": 3, "updated_at": clock.now()}
    return a_job(**{**usual, **facts})


async def since(stalls: Stalls, job: Job) -> datetime | None:
    await stalls.run_once()
    return stalls.of(job)


async def test_a_job_stands_still_after_a_minute_without_progress_and_no_more_once_it_moves(
    clock: VirtualClock,
) -> None:
    stalls, job = watching(clock), at_work(clock)
    stalls.learn(job)
    await clock.advance(59)
    assert await since(stalls, job) is None
    await clock.advance(1)
    assert await since(stalls, job) == job.updated_at
    moved = job.evolve(updated_at=clock.now(), progress=40)
    assert stalls.of(moved) is None
    stalls.learn(moved)
    assert await since(stalls, moved) is None


async def test_a_job_as_it_is_stored_which_does_not_know_what_runs_stands_still_like_itself(
    clock: VirtualClock,
) -> None:
    stalls, job = watching(clock), at_work(clock)
    stalls.learn(job)
    await clock.advance(60)
    assert await since(stalls, job.evolve(running=0)) == job.updated_at


async def test_a_job_of_slow_videos_has_three_times_as_long_as_most_of_them_took(clock: VirtualClock) -> None:
    stalls, job = watching(clock, took=[100.0] * 30), at_work(clock)
    stalls.learn(job)
    await clock.advance(299)
    assert await since(stalls, job) is None
    await clock.advance(1)
    assert await since(stalls, job) == job.updated_at


async def test_a_job_whose_only_video_gets_on_does_not_stand_still_though_its_percent_does(
    clock: VirtualClock,
) -> None:
    stalls, job = watching(clock), at_work(clock)
    for _ in range(4):
        stalls.learn(job)
        await clock.advance(30)
        job = job.moved(fractions=0.0, running=1, at=clock.now())
    assert await since(stalls, job) is None


async def test_a_job_elsewhere_is_measured_by_the_time_between_its_videos(clock: VirtualClock) -> None:
    stalls, job = watching(clock), at_work(clock, processor=EXTERNAL, running=0, current_video=0)
    for _ in range(4):
        await clock.advance(50)
        job = job.evolve(current_video=job.current_video + 1, updated_at=clock.now())
        stalls.learn(job)
    await clock.advance(149)
    assert await since(stalls, job) is None
    await clock.advance(1)
    assert await since(stalls, job) == job.updated_at


async def test_a_job_elsewhere_has_its_time_again_after_the_server_was_down(clock: VirtualClock) -> None:
    before = clock.now() - timedelta(minutes=10)
    stalls, job = watching(clock), at_work(clock, processor=EXTERNAL, running=0, updated_at=before)
    up_again = clock.now()
    stalls.learn(job)
    await clock.advance(59)
    assert await since(stalls, job) is None
    await clock.advance(1)
    assert await since(stalls, job) == up_again


@pytest.mark.parametrize(
    "resting",
    [{"running": 0}, {"status": Status.PAUSED}, {"status": Status.COMPLETED}, {"requested": CANCEL}],
    ids=["waits for a slot", "paused", "completed", "is being cancelled"],
)
async def test_a_job_of_which_nothing_is_expected_does_not_stand_still(
    clock: VirtualClock, resting: dict[str, Any]
) -> None:
    stalls, job = watching(clock), at_work(clock)
    stalls.learn(job)
    await clock.advance(60)
    assert await since(stalls, job)
    job = job.evolve(updated_at=clock.now(), **resting)
    assert stalls.of(job) is None
    stalls.learn(job)
    await clock.advance(60)
    assert await since(stalls, job) is None


async def test_a_pause_that_is_taken_back_is_no_progress(clock: VirtualClock) -> None:
    stalls, job = watching(clock), at_work(clock)
    stalls.learn(job)
    await clock.advance(60)
    last_progress = await since(stalls, job)
    for requested in (PAUSE, None):
        await clock.advance(5)
        job = job.asked_to(requested, at=clock.now(), message="")
        stalls.learn(job)
    assert stalls.of(job) == last_progress is not None


async def test_what_ran_on_while_a_pause_was_asked_for_is_progress(clock: VirtualClock) -> None:
    stalls, job = watching(clock), at_work(clock)
    stalls.learn(job)
    await clock.advance(50)
    stalls.learn(job := job.asked_to(PAUSE, at=clock.now(), message=""))
    await clock.advance(5)
    stalls.learn(job := job.moved(fractions=0.5, running=1, at=clock.now()))
    stalls.learn(job := job.asked_to(None, at=clock.now(), message=""))
    await clock.advance(59)
    assert await since(stalls, job) is None


def test_the_slowest_twentieth_does_not_count() -> None:
    assert limit_seconds([30.0] * 95 + [9_000.0] * 5) == 90
