"""When a job counts as stalled."""

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


def stalls_with(clock: VirtualClock, durations: Sequence[float] = ()) -> Stalls:
    """Return a stall detection for jobs whose newest videos took so many seconds; `learn` gives it the states."""

    async def read(job_id: str, limit: int) -> Sequence[float]:
        return durations

    return Stalls(lambda: pytest.fail("the test gives the states"), read, clock)


def running_job(clock: VirtualClock, **given: Any) -> Job:
    usual = {"status": Status.PROCESSING, "running": 1, "current_video": 3, "updated_at": clock.now()}
    return a_job(**{**usual, **given})


async def stalled_since(stalls: Stalls, job: Job) -> datetime | None:
    await stalls.run_once()
    return stalls.of(job)


async def test_a_job_is_stalled_after_a_minute_without_progress(clock: VirtualClock) -> None:
    """Progress ends the stall, also before the detection learns of it."""
    stalls, job = stalls_with(clock), running_job(clock)
    stalls.learn(job)
    await clock.advance(59)
    assert await stalled_since(stalls, job) is None
    await clock.advance(1)
    assert await stalled_since(stalls, job) == job.updated_at
    progressed = job.evolve(updated_at=clock.now(), progress=40)
    assert stalls.of(progressed) is None
    stalls.learn(progressed)
    assert await stalled_since(stalls, progressed) is None


async def test_a_stored_job_is_stalled_like_the_live_one(clock: VirtualClock) -> None:
    """A job that was read from the store, where what runs is unknown, counts like its newest live state."""
    stalls, job = stalls_with(clock), running_job(clock)
    stalls.learn(job)
    await clock.advance(60)
    assert await stalled_since(stalls, job.evolve(running=0)) == job.updated_at


async def test_slow_videos_give_their_job_more_time(clock: VirtualClock) -> None:
    """A job has three times as long as most of its videos took."""
    stalls, job = stalls_with(clock, durations=[100.0] * 30), running_job(clock)
    stalls.learn(job)
    await clock.advance(299)
    assert await stalled_since(stalls, job) is None
    await clock.advance(1)
    assert await stalled_since(stalls, job) == job.updated_at


async def test_progress_below_a_percent_is_progress(clock: VirtualClock) -> None:
    stalls, job = stalls_with(clock), running_job(clock)
    for _ in range(4):
        stalls.learn(job)
        await clock.advance(30)
        job = job.progressed(fractions=0.0, running=1, at=clock.now())
    assert await stalled_since(stalls, job) is None


async def test_an_external_job_is_measured_between_its_videos(clock: VirtualClock) -> None:
    stalls, job = stalls_with(clock), running_job(clock, processor=EXTERNAL, running=0, current_video=0)
    for _ in range(4):
        await clock.advance(50)
        job = job.evolve(current_video=job.current_video + 1, updated_at=clock.now())
        stalls.learn(job)
    await clock.advance(149)
    assert await stalled_since(stalls, job) is None
    await clock.advance(1)
    assert await stalled_since(stalls, job) == job.updated_at


async def test_the_time_without_a_server_is_no_stall(clock: VirtualClock) -> None:
    """The time of an external job starts again when the server does."""
    before = clock.now() - timedelta(minutes=10)
    stalls, job = stalls_with(clock), running_job(clock, processor=EXTERNAL, running=0, updated_at=before)
    restarted_at = clock.now()
    stalls.learn(job)
    await clock.advance(59)
    assert await stalled_since(stalls, job) is None
    await clock.advance(1)
    assert await stalled_since(stalls, job) == restarted_at


@pytest.mark.parametrize(
    "resting",
    [{"running": 0}, {"status": Status.PAUSED}, {"status": Status.COMPLETED}, {"requested": CANCEL}],
    ids=["waits for a slot", "paused", "completed", "is being cancelled"],
)
async def test_a_job_without_expected_progress_is_not_stalled(clock: VirtualClock, resting: dict[str, Any]) -> None:
    stalls, job = stalls_with(clock), running_job(clock)
    stalls.learn(job)
    await clock.advance(60)
    assert await stalled_since(stalls, job)
    job = job.evolve(updated_at=clock.now(), **resting)
    assert stalls.of(job) is None
    stalls.learn(job)
    await clock.advance(60)
    assert await stalled_since(stalls, job) is None


async def test_a_withdrawn_pause_is_no_progress(clock: VirtualClock) -> None:
    stalls, job = stalls_with(clock), running_job(clock)
    stalls.learn(job)
    await clock.advance(60)
    last_progress = await stalled_since(stalls, job)
    for requested in (PAUSE, None):
        await clock.advance(5)
        job = job.with_request(requested, at=clock.now(), message="")
        stalls.learn(job)
    assert stalls.of(job) == last_progress is not None


async def test_progress_while_pausing_is_progress(clock: VirtualClock) -> None:
    stalls, job = stalls_with(clock), running_job(clock)
    stalls.learn(job)
    await clock.advance(50)
    stalls.learn(job := job.with_request(PAUSE, at=clock.now(), message=""))
    await clock.advance(5)
    stalls.learn(job := job.progressed(fractions=0.5, running=1, at=clock.now()))
    stalls.learn(job := job.with_request(None, at=clock.now(), message=""))
    await clock.advance(59)
    assert await stalled_since(stalls, job) is None


def test_the_slowest_twentieth_does_not_count() -> None:
    assert limit_seconds([30.0] * 95 + [9_000.0] * 5) == 90


async def test_videos_that_failed_at_once_do_not_shorten_the_limit(clock: VirtualClock) -> None:
    """Of the newest videos nearly all have no file; the others took 100 s each."""
    stalls, job = stalls_with(clock, durations=[0.01] * 195 + [100.0] * 5), running_job(clock)
    stalls.learn(job)
    await clock.advance(299)
    assert await stalled_since(stalls, job) is None
    await clock.advance(1)
    assert await stalled_since(stalls, job) == job.updated_at


async def test_a_burst_of_reports_does_not_shorten_an_external_jobs_limit(clock: VirtualClock) -> None:
    stalls, job = stalls_with(clock), running_job(clock, processor=EXTERNAL, running=0, current_video=0)
    for seconds in [0.01] * 100 + [50.0] * 4:
        await clock.advance(seconds)
        job = job.evolve(current_video=job.current_video + 1, updated_at=clock.now())
        stalls.learn(job)
    await clock.advance(149)
    assert await stalled_since(stalls, job) is None
