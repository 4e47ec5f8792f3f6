"""The stop signal of a lease, and failures in a row."""

from __future__ import annotations

import asyncio

from backend.jobs.active import FailureStreak, StopSignal

TIMEOUT_SECONDS = 10


async def test_drain_wakes_only_those_that_wait_for_it() -> None:
    stop = StopSignal()
    draining, killed = asyncio.create_task(stop.until_draining()), asyncio.create_task(stop.until_killed())
    stop.drain()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await draining
    assert (stop.is_draining, killed.done()) == (True, False)
    killed.cancel()


async def test_kill_also_drains() -> None:
    stop = StopSignal()
    waiting = (stop.until_draining(), stop.until_killed())
    stop.kill()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await asyncio.gather(*waiting)
    assert stop.is_draining


async def test_a_signal_is_given_once_and_stays() -> None:
    stop = StopSignal()
    for _ in range(2):
        stop.kill()
        stop.drain()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await stop.until_killed()
    assert stop.is_draining


def test_a_streak_counts_failures_for_one_cause() -> None:
    streak = FailureStreak()
    for number in (1, 2, 3):
        streak = streak.with_failure("full")
        assert streak.failures == number
    assert streak.with_failure("no process") == FailureStreak("no process", 1)
