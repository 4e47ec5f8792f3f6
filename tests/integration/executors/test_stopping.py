"""How a running job is stopped: a pause drains it, a cancel kills its processes, a shutdown does both in turn."""

from __future__ import annotations

import asyncio

import pytest

from backend.domain.job import Action, Selection
from backend.errors import Conflict
from progress_dashboard.protocol import Status
from tests.support.managed_backend import ANA, Working


async def test_a_job_is_cancelled_after_its_processes_exited(working: Working) -> None:
    """Until then, everybody sees that it is being cancelled."""
    job = await working.started_job("clip", 4, running=2)
    working.processes.may_exit.clear()
    requested = await working.manager.cancel(job.id, by=ANA)
    await working.processes.until_stopping(2)
    seen = (await working.queries.watch(by=ANA).next()).updates
    assert [(state.status, state.requested, state.message) for state in (requested, *seen)] == [
        (Status.PROCESSING, "cancel", "Cancelling...")
    ] * 2
    assert await working.manager.cancel(job.id, by=ANA) == requested
    working.processes.may_exit.set()
    await working.reaches(job, Status.CANCELLED)
    assert (working.processes.running, sorted(working.processes.started)) == ({}, ["clip-0", "clip-1"])
    assert sorted(working.processes.stopping) == ["clip-0", "clip-1"]
    end = await working.stored(job)
    assert (end.requested, end.running, end.message) == (None, 0, "Cancelled at 0/4")
    assert await working.statuses(job) == ["pending"] * 4


async def test_a_shutdown_waits_for_a_cancel_that_began_before(working: Working) -> None:
    """A shutdown while a job is being cancelled interrupts nothing: its processes exit first."""
    job = await working.started_job("clip", 4, running=2)
    working.processes.may_exit.clear()
    await working.manager.cancel(job.id, by=ANA)
    await working.processes.until_stopping(2)
    working.leases.drain()
    shutdown = asyncio.create_task(working.executor.shutdown(0))
    await working.journal.durable()
    assert not shutdown.done()
    assert (await working.stored(job)).status is Status.PROCESSING
    working.processes.may_exit.set()
    await shutdown
    assert (working.processes.running, len(working.processes.stopping)) == ({}, 2)
    assert (await working.stored(job)).status is Status.CANCELLED


async def test_a_cancel_during_a_shutdown_is_applied(working: Working) -> None:
    """A cancel that comes while the shutdown already ends the processes is applied when they have exited."""
    job = await working.started_job("clip", 4, running=2)
    working.processes.may_exit.clear()
    working.leases.drain()
    shutdown = asyncio.create_task(working.executor.shutdown(0))
    await working.processes.until_stopping(2)
    assert (await working.manager.cancel(job.id, by=ANA)).requested == "cancel"
    working.processes.may_exit.set()
    await shutdown
    assert len(working.processes.stopping) == 2
    assert (await working.stored(job)).status is Status.CANCELLED


async def test_a_shutdown_ends_the_processes_after_the_grace(working: Working) -> None:
    job = await working.started_job("clip", 4, running=2)
    working.leases.drain()
    await working.executor.shutdown(0)
    assert sorted(working.processes.stopping) == ["clip-0", "clip-1"]
    assert (await working.stored(job)).status is Status.PENDING
    assert await working.statuses(job) == ["pending"] * 4


async def test_a_paused_job_drains_and_continues_there(one_slot: Working) -> None:
    """A paused job finishes what runs, starts nothing more, and continues with the next video."""
    job = await one_slot.started_job("clip", 3, running=1)
    requested = await one_slot.manager.pause(job.id, by=ANA)
    assert (requested.status, requested.requested) == (Status.PROCESSING, "pause")
    assert requested.message == "Pausing after 1 running video"
    one_slot.processes.end("clip-0")
    paused = (await one_slot.reaches(job, Status.PAUSED))[-1]
    assert (paused.current_video, paused.requested, paused.message) == (1, None, "Paused at 1/3")
    assert one_slot.processes.stopping == []
    assert (await one_slot.manager.resume(job.id, by=ANA)).message == "Waiting to continue"
    for number in (2, 3):
        await one_slot.processes.until_started(number)
        one_slot.processes.end(f"clip-{number - 1}")
    await one_slot.reaches(job, Status.COMPLETED)
    assert one_slot.processes.started == ["clip-0", "clip-1", "clip-2"]


@pytest.mark.parametrize(("action", "status"), [(Action.PAUSE, Status.PAUSED), (Action.CANCEL, Status.CANCELLED)])
async def test_a_job_that_waits_for_a_slot_stops_at_once(one_slot: Working, action: Action, status: Status) -> None:
    await one_slot.started_job("first", 1, running=1)
    job = await one_slot.new_job("second", 2)
    await one_slot.sees(job, lambda state: state.status is Status.PROCESSING)
    await one_slot.manager.act(job.id, action, by=ANA)
    await one_slot.reaches(job, status)
    assert (list(one_slot.processes.running), one_slot.processes.started) == (["first-0"], ["first-0"])


async def test_a_job_cancelled_while_pausing_is_cancelled(one_slot: Working) -> None:
    job = await one_slot.started_job("clip", 2, running=1)
    await one_slot.manager.pause(job.id, by=ANA)
    await one_slot.manager.cancel(job.id, by=ANA)
    await one_slot.reaches(job, Status.CANCELLED)
    assert one_slot.processes.stopping == ["clip-0"]


async def test_a_job_resumed_while_pausing_does_nothing_twice(one_slot: Working) -> None:
    """It continues, and each of its videos runs once."""
    job = await one_slot.started_job("clip", 3, running=1)
    await one_slot.manager.pause(job.id, by=ANA)
    resumed = await one_slot.manager.resume(job.id, by=ANA)
    assert (resumed.status, resumed.requested) == (Status.PROCESSING, None)
    for number in range(3):
        await one_slot.processes.until_started(number + 1)
        one_slot.processes.end(f"clip-{number}")
    await one_slot.reaches(job, Status.COMPLETED)
    assert one_slot.processes.started == ["clip-0", "clip-1", "clip-2"]


async def test_a_job_paused_at_its_last_video_completes(one_slot: Working) -> None:
    job = await one_slot.started_job("clip", 1, running=1)
    await one_slot.manager.pause(job.id, by=ANA)
    one_slot.processes.end("clip-0")
    assert (await one_slot.reaches(job, Status.COMPLETED))[-1].requested is None


async def test_a_cancelled_job_is_retried_with_its_rest(one_slot: Working) -> None:
    """It can be retried as soon as it is cancelled, and no earlier."""
    job = await one_slot.started_job("clip", 3, running=1)
    one_slot.processes.end("clip-0")
    await one_slot.processes.until_started(2)
    one_slot.processes.may_exit.clear()
    await one_slot.manager.cancel(job.id, by=ANA)
    with pytest.raises(Conflict, match="not ended yet"):
        await one_slot.manager.retry(job.id, Selection(), by=ANA)
    one_slot.processes.may_exit.set()
    await one_slot.reaches(job, Status.CANCELLED)
    again = await one_slot.manager.retry(job.id, Selection(), by=ANA)
    assert (again.attempt, again.current_video) == (2, 1)
    for number in (3, 4):
        await one_slot.processes.until_started(number)
        one_slot.processes.end(one_slot.processes.started[-1])
    await one_slot.reaches(job, Status.COMPLETED)
    assert one_slot.processes.started == ["clip-0", "clip-1", "clip-1", "clip-2"]


async def test_many_cancels_pauses_and_retries_lose_no_slot(working: Working) -> None:
    job, processes = await working.started_job("clip", 4, running=2), working.processes
    for _ in range(10):
        await working.manager.pause(job.id, by=ANA)
        await working.manager.resume(job.id, by=ANA)
        await working.manager.cancel(job.id, by=ANA)
        await working.reaches(job, Status.CANCELLED)
        started = len(processes.started)
        await working.manager.retry(job.id, Selection(), by=ANA)
        await processes.until_started(started + 2)
        assert len(processes.running) == 2
