"""Further tries at videos, and jobs that pause themselves because of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import Fault, VideoFailed
from backend.processors.settling import FileChanged
from backend.store import Store
from progress_dashboard.protocol import Status
from tests.support.managed_backend import ANA, Working, open_working

BUSY = VideoFailed("The file is busy.", fault=Fault.TRANSIENT)
FULL = VideoFailed("The disk is full.", fault=Fault.MACHINE)
NO_PROCESS = VideoFailed("No process can be started.", fault=Fault.MACHINE)


async def fail_and_wait(working: Working, error: VideoFailed) -> None:
    """Let both tries before the last one at the only video fail."""
    for number, seconds in ((1, 2), (2, 4)):
        working.processes.end("clip-0", error)
        await working.processes.until_known()
        await working.journal.durable()
        await working.waits.advance(seconds)
        await working.processes.until_started(number + 1)


async def test_a_try_that_waits_gives_its_slot_to_others(one_slot: Working) -> None:
    """A failure that may pass is tried again later; another video takes the slot meanwhile."""
    job, processes = await one_slot.started_job("clip", 2, running=1), one_slot.processes
    processes.end("clip-0", BUSY)
    await processes.until_started(2)
    assert list(processes.running) == ["clip-1"]
    assert await one_slot.statuses(job) == ["pending", "processing"]
    processes.end("clip-1")
    await one_slot.waits.advance(1.9)
    assert len(processes.started) == 2
    await one_slot.waits.advance(0.2)
    await processes.until_started(3)
    processes.end("clip-0")
    end = (await one_slot.reaches(job, Status.COMPLETED))[-1]
    assert (end.failed, end.error) == (0, None)
    [outcome] = await one_slot.queries.outcomes(job.id, 0, by=ANA)
    assert (outcome.tries, outcome.error) == (2, None)


async def test_a_lasting_failure_is_stored_once_with_its_tries(one_slot: Working) -> None:
    job = await one_slot.started_job("clip", 1, running=1)
    await fail_and_wait(one_slot, BUSY)
    one_slot.processes.end("clip-0", BUSY)
    await one_slot.reaches(job, Status.FAILED)
    [outcome] = await one_slot.queries.outcomes(job.id, 0, by=ANA)
    assert (outcome.tries, outcome.error, outcome.fault) == (3, "The file is busy.", Fault.TRANSIENT)


@pytest.mark.parametrize(("request_name", "status"), [("pause", Status.PAUSED), ("cancel", Status.CANCELLED)])
async def test_a_stopped_job_does_not_wait_for_the_next_try(
    one_slot: Working, request_name: str, status: Status
) -> None:
    job = await one_slot.started_job("clip", 1, running=1)
    one_slot.processes.end("clip-0", BUSY)
    await one_slot.processes.until_known()
    await one_slot.journal.durable()
    await getattr(one_slot.manager, request_name)(job.id, by=ANA)
    await one_slot.reaches(job, status)
    assert await one_slot.statuses(job) == ["pending"]


async def test_a_try_that_waits_for_a_slot_does_not_start_in_a_pause(one_slot: Working) -> None:
    job, processes = await one_slot.started_job("clip", 2, running=1), one_slot.processes
    processes.end("clip-0", BUSY)
    await processes.until_started(2)
    await one_slot.waits.advance(10)  # now clip-0 waits for the slot of clip-1
    await one_slot.manager.pause(job.id, by=ANA)
    processes.end("clip-1")
    assert (await one_slot.reaches(job, Status.PAUSED))[-1].current_video == 1
    assert processes.started == ["clip-0", "clip-1"]


async def test_failures_of_the_machine_pause_the_job(one_slot: Working) -> None:
    """Three in a row for one cause pause it with the reason, and after a resume all its videos run."""
    job, processes = await one_slot.started_job("clip", 5, running=1), one_slot.processes
    for number in range(3):
        await processes.until_started(number + 1)
        processes.end(f"clip-{number}", FULL)
    paused = (await one_slot.reaches(job, Status.PAUSED))[-1]
    assert (paused.current_video, paused.failed, paused.error) == (0, 0, None)
    assert paused.message == "Paused by itself: 3 failures in a row: The disk is full."
    assert await one_slot.statuses(job) == ["pending"] * 5
    resumed = await one_slot.manager.resume(job.id, by=ANA)
    assert (resumed.status, resumed.pause_reason) == (Status.PENDING, None)
    for number in range(5):
        await processes.until_started(number + 4)
        processes.end(f"clip-{number}")
    assert (await one_slot.reaches(job, Status.COMPLETED))[-1].pause_reason is None


async def test_a_video_never_fails_because_of_the_machine(one_slot: Working) -> None:
    """If the machine spoils every try at one video, its job pauses and the video stays without a result."""
    job = await one_slot.started_job("clip", 1, running=1)
    await fail_and_wait(one_slot, FULL)
    one_slot.processes.end("clip-0", FULL)
    await one_slot.reaches(job, Status.PAUSED)
    assert await one_slot.queries.outcomes(job.id, 0, by=ANA) == []


async def test_missing_and_bad_files_never_pause_a_job(one_slot: Working) -> None:
    one_slot.add_file("bad")
    job = await one_slot.submit("bad", *(f"away-{number}" for number in range(10)))
    await one_slot.processes.until_started(1)
    one_slot.processes.end("bad", VideoFailed("File is cut off"))
    end = (await one_slot.reaches(job, Status.FAILED))[-1]
    assert (end.failed, end.pause_reason) == (11, None)


@pytest.mark.parametrize("between", [None, NO_PROCESS])
async def test_a_success_or_another_cause_ends_a_streak(one_slot: Working, between: VideoFailed | None) -> None:
    job, processes = await one_slot.started_job("clip", 6, running=1), one_slot.processes
    for number, error in enumerate((FULL, FULL, between, FULL, FULL)):
        await processes.until_started(number + 1)
        processes.end(f"clip-{number}", error)
    await processes.until_started(6)
    running = await one_slot.stored(job)
    assert (running.status, running.requested) == (Status.PROCESSING, None)


async def test_a_resume_ends_the_streak_of_a_self_pause(store: Store, tmp_path: Path) -> None:
    """A job that is resumed while it pauses itself counts its failures from zero."""
    async with open_working(store, tmp_path, slots=4) as working:
        job = await working.started_job("clip", 4, running=4)
        for number in range(3):
            working.processes.end(f"clip-{number}", FULL)
        await working.sees(job, lambda state: state.requested == "pause")
        await working.manager.resume(job.id, by=ANA)
        working.processes.end("clip-3", FULL)
        await working.processes.until_started(8)
        now = await working.stored(job)
        assert (now.status, now.requested, now.pause_reason) == (Status.PROCESSING, None, None)


async def test_a_file_that_is_being_copied_is_tried_until_it_is_complete(one_slot: Working) -> None:
    """Far longer than after other failures, and each wait gives the slot to others."""
    job, processes = await one_slot.started_job("clip", 2, running=1), one_slot.processes
    processes.end("clip-0", FileChanged())
    await processes.until_started(2)
    processes.end("clip-1")
    for tries in range(2, 12):
        await processes.until_known()
        await one_slot.journal.durable()
        await one_slot.waits.advance(70)
        await processes.until_started(tries + 1)
        processes.end("clip-0", FileChanged() if tries < 11 else None)
    end = (await one_slot.reaches(job, Status.COMPLETED))[-1]
    assert (end.failed, end.error) == (0, None)
    [outcome] = await one_slot.queries.outcomes(job.id, 0, by=ANA)
    assert (outcome.tries, outcome.error) == (11, None)
