"""How jobs are run and what becomes of them, with processes that end when the test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backend.domain.job import Job, Selection
from backend.domain.video import VideoStatus
from backend.errors import Conflict, Fault, Invalid, NotAllowed, StoreRefused, VideoFailed
from backend.store import Database, JobStore
from progress_dashboard.protocol import Status
from tests.support.managed_backend import ADMIN, ANA, BEN, RefusingStore, Working, open_working

BUSY = VideoFailed("The file is busy.", fault=Fault.TRANSIENT)
FULL = VideoFailed("The disk is full.", fault=Fault.MACHINE)
NO_PROCESS = VideoFailed("No process can be started.", fault=Fault.MACHINE)


@pytest.fixture
async def working(store: JobStore, tmp_path: Path) -> AsyncIterator[Working]:
    """With two slots."""
    async with open_working(store, tmp_path) as opened:
        yield opened


@pytest.fixture
async def one_slot(store: JobStore, tmp_path: Path) -> AsyncIterator[Working]:
    async with open_working(store, tmp_path, slots=1) as opened:
        yield opened


@pytest.fixture
async def refusing(database: Database, tmp_path: Path) -> AsyncIterator[tuple[Working, RefusingStore]]:
    """With one slot, over a database that refuses when it is told to."""
    store = RefusingStore(database)
    async with open_working(store, tmp_path, slots=1) as opened:
        yield opened, store
        store.accept()


async def started(working: Working, name: str, videos: int, *, running: int) -> Job:
    """A job over so many videos, of which so many run by now."""
    job = await working.new_job(name, videos)
    await working.processes.until_started(running)
    return job


async def statuses(working: Working, job: Job) -> list[str]:
    return [video.status.value for video in await working.videos(job)]


async def test_two_jobs_share_the_slots_evenly(working: Working) -> None:
    processes, videos = working.processes, 40
    await started(working, "first", videos, running=2)
    second = await working.new_job("second", videos)
    for number in range(3, 2 * videos + 1):
        await working.stored(second)  # time enough for the second one to read its list
        processes.end(next(iter(processes.running)))
        await processes.until_started(number)
        assert len(processes.running) == 2
    names = [video_id.partition("-")[0] for video_id in processes.started]
    together = names[names.index("second") : names.index("second") + 40]
    assert together == ["second", "first"] * 20


async def test_a_video_that_fails_does_not_hold_up_the_others(working: Working) -> None:
    job = await started(working, "clip", 3, running=2)
    working.processes.end("clip-1", VideoFailed("File is cut off", traceback="Traceback: here"))
    working.processes.end("clip-0")
    await working.processes.until_started(3)
    working.processes.end("clip-2")
    end = (await working.reaches(job, Status.COMPLETED_WITH_ERRORS))[-1]
    assert (end.failed, end.current_video) == (1, 3)
    assert [(video.status, video.error, video.traceback) for video in await working.videos(job)] == [
        (VideoStatus.COMPLETED, None, None),
        (VideoStatus.FAILED, "File is cut off", "Traceback: here"),
        (VideoStatus.COMPLETED, None, None),
    ]


async def test_a_fault_of_our_own_fails_only_its_video_and_names_its_kind(working: Working) -> None:
    working.add_file("one")
    job = await working.submit("one", "away")
    await working.processes.until_started(1)
    working.processes.running["one"].set_exception(KeyError("a mistake of ours"))
    await working.reaches(job, Status.FAILED)
    one, away = await working.videos(job)
    assert one.error == "The server had a problem with this video (KeyError); its log has the details."
    assert away.error == "No file for this ID in the media directory"


async def test_a_stop_of_the_server_leaves_the_rest_in_line_and_the_next_life_does_only_that(
    store: JobStore, tmp_path: Path
) -> None:
    async with open_working(store, tmp_path, slots=1) as first:
        job = await started(first, "clip", 3, running=1)
        first.processes.end("clip-0")
        await first.processes.until_started(2)
    left = await store.find(job.id, owner_id=None)
    assert left is not None
    assert (left.status, left.current_video, left.failed, left.message) == (Status.PENDING, 1, 0, "Waiting to go on")
    assert first.processes.running == {}
    async with open_working(store, tmp_path, slots=1) as second:
        await second.manager.recover()
        for number, video_id in ((1, "clip-1"), (2, "clip-2")):
            await second.processes.until_started(number)
            second.processes.end(video_id)
        seen = await second.reaches(job, Status.COMPLETED)
        assert second.processes.started == ["clip-1", "clip-2"]
        assert "Resumed at 1/3 after a restart" in {state.message for state in seen} | {seen[-1].message}


async def test_a_server_that_stops_begins_no_more_videos(one_slot: Working) -> None:
    first = await started(one_slot, "first", 2, running=1)
    paused = await one_slot.new_job("paused", 1)
    await one_slot.manager.pause(paused.id, by=ANA)
    one_slot.manager.drain()
    await one_slot.manager.resume(paused.id, by=ANA)
    one_slot.processes.end("first-0")
    assert (await one_slot.reaches(first, Status.PENDING))[-1].current_video == 1
    await one_slot.executor.shutdown(10)
    assert one_slot.processes.started == ["first-0"]
    assert (await one_slot.stored(paused)).status is Status.PENDING


# Cancel and pause.


async def test_a_job_is_cancelled_only_when_its_processes_are_dead_and_everybody_sees_that_it_will_be(
    working: Working,
) -> None:
    job = await started(working, "clip", 4, running=2)
    working.processes.may_die.clear()
    asked = await working.manager.cancel(job.id, by=ANA)
    await working.processes.until_dying(2)
    seen = (await working.manager.watch(by=ANA).next()).updates
    assert [(state.status, state.requested, state.message) for state in (asked, *seen)] == [
        (Status.PROCESSING, "cancel", "Cancelling...")
    ] * 2
    assert await working.manager.cancel(job.id, by=ANA) == asked
    working.processes.may_die.set()
    await working.reaches(job, Status.CANCELLED)
    assert (working.processes.running, sorted(working.processes.started)) == ({}, ["clip-0", "clip-1"])
    end = await working.stored(job)
    assert (end.requested, end.running, end.message) == (None, 0, "Cancelled at 0/4")
    assert await statuses(working, job) == ["pending"] * 4


async def test_a_paused_job_finishes_what_runs_begins_nothing_more_and_goes_on_there(one_slot: Working) -> None:
    job = await started(one_slot, "clip", 3, running=1)
    asked = await one_slot.manager.pause(job.id, by=ANA)
    assert (asked.status, asked.requested, asked.message) == (
        Status.PROCESSING,
        "pause",
        "Pausing after 1 running video",
    )
    one_slot.processes.end("clip-0")
    paused = (await one_slot.reaches(job, Status.PAUSED))[-1]
    assert (paused.current_video, paused.requested, paused.message) == (1, None, "Paused at 1/3")
    assert (await one_slot.manager.resume(job.id, by=ANA)).message == "Waiting to go on"
    for number in (2, 3):
        await one_slot.processes.until_started(number)
        one_slot.processes.end(f"clip-{number - 1}")
    await one_slot.reaches(job, Status.COMPLETED)
    assert one_slot.processes.started == ["clip-0", "clip-1", "clip-2"]


async def test_a_job_that_is_cancelled_while_it_pauses_is_cancelled(one_slot: Working) -> None:
    job = await started(one_slot, "clip", 2, running=1)
    await one_slot.manager.pause(job.id, by=ANA)
    await one_slot.manager.cancel(job.id, by=ANA)
    await one_slot.reaches(job, Status.CANCELLED)
    assert one_slot.processes.dying == ["clip-0"]


async def test_a_job_that_is_resumed_while_it_pauses_goes_on_and_does_nothing_twice(one_slot: Working) -> None:
    job = await started(one_slot, "clip", 3, running=1)
    await one_slot.manager.pause(job.id, by=ANA)
    taken_back = await one_slot.manager.resume(job.id, by=ANA)
    assert (taken_back.status, taken_back.requested) == (Status.PROCESSING, None)
    for number in range(3):
        await one_slot.processes.until_started(number + 1)
        one_slot.processes.end(f"clip-{number}")
    await one_slot.reaches(job, Status.COMPLETED)
    assert one_slot.processes.started == ["clip-0", "clip-1", "clip-2"]


async def test_a_pause_after_the_last_video_began_lets_the_job_end(one_slot: Working) -> None:
    job = await started(one_slot, "clip", 1, running=1)
    await one_slot.manager.pause(job.id, by=ANA)
    one_slot.processes.end("clip-0")
    assert (await one_slot.reaches(job, Status.COMPLETED))[-1].requested is None


async def test_a_job_is_retried_right_after_its_cancel_and_does_what_was_left(one_slot: Working) -> None:
    job = await started(one_slot, "clip", 3, running=1)
    one_slot.processes.end("clip-0")
    await one_slot.processes.until_started(2)
    one_slot.processes.may_die.clear()
    await one_slot.manager.cancel(job.id, by=ANA)
    with pytest.raises(Conflict, match="not ended yet"):
        await one_slot.manager.retry(job.id, Selection(), by=ANA)
    one_slot.processes.may_die.set()
    await one_slot.reaches(job, Status.CANCELLED)
    again = await one_slot.manager.retry(job.id, Selection(), by=ANA)
    assert (again.attempt, again.current_video) == (2, 1)
    for number in (3, 4):
        await one_slot.processes.until_started(number)
        one_slot.processes.end(one_slot.processes.started[-1])
    await one_slot.reaches(job, Status.COMPLETED)
    assert one_slot.processes.started == ["clip-0", "clip-1", "clip-1", "clip-2"]


async def test_many_cancels_pauses_and_retries_lose_no_slot(working: Working) -> None:
    job, processes = await started(working, "clip", 4, running=2), working.processes
    for _ in range(10):
        await working.manager.pause(job.id, by=ANA)
        await working.manager.resume(job.id, by=ANA)
        await working.manager.cancel(job.id, by=ANA)
        await working.reaches(job, Status.CANCELLED)
        begun = len(processes.started)
        await working.manager.retry(job.id, Selection(), by=ANA)
        await processes.until_started(begun + 2)
        assert len(processes.running) == 2


# What is tried again.


async def test_a_failure_that_may_pass_is_tried_again_later_and_gives_its_slot_back_meanwhile(
    one_slot: Working,
) -> None:
    job, processes = await started(one_slot, "clip", 2, running=1), one_slot.processes
    processes.end("clip-0", BUSY)
    await processes.until_started(2)
    assert list(processes.running) == ["clip-1"]
    assert await statuses(one_slot, job) == ["pending", "processing"]
    processes.end("clip-1")
    await one_slot.waits.advance(1.9)
    assert len(processes.started) == 2
    await one_slot.waits.advance(0.2)
    await processes.until_started(3)
    processes.end("clip-0")
    end = (await one_slot.reaches(job, Status.COMPLETED))[-1]
    assert (end.failed, end.error) == (0, None)
    [outcome] = await one_slot.manager.outcomes(job.id, 0, by=ANA)
    assert (outcome.tries, outcome.error) == (2, None)


async def test_a_failure_that_does_not_pass_is_stored_once_with_its_tries(one_slot: Working) -> None:
    job = await started(one_slot, "clip", 1, running=1)
    for number, seconds in ((1, 2), (2, 4)):
        one_slot.processes.end("clip-0", BUSY)
        await one_slot.hub.durable()
        await one_slot.waits.advance(seconds)
        await one_slot.processes.until_started(number + 1)
    one_slot.processes.end("clip-0", BUSY)
    await one_slot.reaches(job, Status.FAILED)
    [outcome] = await one_slot.manager.outcomes(job.id, 0, by=ANA)
    assert (outcome.tries, outcome.error, outcome.fault) == (3, "The file is busy.", Fault.TRANSIENT)


@pytest.mark.parametrize(("ask", "status"), [("pause", Status.PAUSED), ("cancel", Status.CANCELLED)])
async def test_nobody_waits_for_a_video_that_only_waits_for_its_next_try(
    one_slot: Working, ask: str, status: Status
) -> None:
    job = await started(one_slot, "clip", 1, running=1)
    one_slot.processes.end("clip-0", BUSY)
    await one_slot.hub.durable()
    await getattr(one_slot.manager, ask)(job.id, by=ANA)
    await one_slot.reaches(job, status)
    assert await statuses(one_slot, job) == ["pending"]


async def test_a_video_whose_next_try_waits_for_a_slot_does_not_begin_in_a_job_that_pauses(one_slot: Working) -> None:
    job, processes = await started(one_slot, "clip", 2, running=1), one_slot.processes
    processes.end("clip-0", BUSY)
    await processes.until_started(2)
    await one_slot.waits.advance(10)  # clip-0 is in line for the slot of clip-1
    await one_slot.manager.pause(job.id, by=ANA)
    processes.end("clip-1")
    assert (await one_slot.reaches(job, Status.PAUSED))[-1].current_video == 1
    assert processes.started == ["clip-0", "clip-1"]


async def test_failures_of_the_machine_in_a_row_pause_the_job_which_says_why_and_resume_goes_on(
    one_slot: Working,
) -> None:
    job, processes = await started(one_slot, "clip", 5, running=1), one_slot.processes
    for number in range(3):
        await processes.until_started(number + 1)
        processes.end(f"clip-{number}", FULL)
    paused = (await one_slot.reaches(job, Status.PAUSED))[-1]
    assert (paused.current_video, paused.failed, paused.error) == (0, 0, None)
    assert paused.message == "Paused by itself: 3 failures in a row: The disk is full."
    assert await statuses(one_slot, job) == ["pending"] * 5
    resumed = await one_slot.manager.resume(job.id, by=ANA)
    assert (resumed.status, resumed.trouble) == (Status.PENDING, None)
    for number in range(5):
        await processes.until_started(number + 4)
        processes.end(f"clip-{number}")
    assert (await one_slot.reaches(job, Status.COMPLETED))[-1].trouble is None


async def test_one_video_that_the_machine_spoils_each_time_pauses_its_job_and_is_never_failed(
    one_slot: Working,
) -> None:
    job = await started(one_slot, "clip", 1, running=1)
    for number, seconds in ((1, 2), (2, 4)):
        one_slot.processes.end("clip-0", FULL)
        await one_slot.hub.durable()
        await one_slot.waits.advance(seconds)
        await one_slot.processes.until_started(number + 1)
    one_slot.processes.end("clip-0", FULL)
    await one_slot.reaches(job, Status.PAUSED)
    assert await one_slot.manager.outcomes(job.id, 0, by=ANA) == []


async def test_missing_and_broken_files_never_pause_a_job(one_slot: Working) -> None:
    one_slot.add_file("broken")
    job = await one_slot.submit("broken", *(f"away-{number}" for number in range(10)))
    await one_slot.processes.until_started(1)
    one_slot.processes.end("broken", VideoFailed("File is cut off"))
    end = (await one_slot.reaches(job, Status.FAILED))[-1]
    assert (end.failed, end.trouble) == (11, None)


@pytest.mark.parametrize("between", [None, NO_PROCESS])
async def test_a_success_or_another_cause_in_between_begins_the_count_anew(
    one_slot: Working, between: VideoFailed | None
) -> None:
    job, processes = await started(one_slot, "clip", 6, running=1), one_slot.processes
    for number, error in enumerate((FULL, FULL, between, FULL, FULL)):
        await processes.until_started(number + 1)
        processes.end(f"clip-{number}", error)
    await processes.until_started(6)
    running = await one_slot.stored(job)
    assert (running.status, running.requested) == (Status.PROCESSING, None)


async def test_a_job_that_is_resumed_while_it_pauses_by_itself_counts_failures_anew(
    store: JobStore, tmp_path: Path
) -> None:
    async with open_working(store, tmp_path, slots=4) as working:
        job = await started(working, "clip", 4, running=4)
        for number in range(3):
            working.processes.end(f"clip-{number}", FULL)
        await working.sees(job, lambda state: state.requested == "pause")
        await working.manager.resume(job.id, by=ANA)
        working.processes.end("clip-3", FULL)
        await working.processes.until_started(8)
        now = await working.stored(job)
        assert (now.status, now.requested, now.trouble) == (Status.PROCESSING, None, None)


# Slots and turns.


async def test_more_slots_are_used_at_once_and_fewer_end_nothing(working: Working) -> None:
    await started(working, "clip", 10, running=2)
    working.work.change_slots(4, by=ADMIN)
    await working.processes.until_started(4)
    working.work.change_slots(1, by=ADMIN)
    for number in range(3):
        working.processes.end(f"clip-{number}")
    await working.hub.durable()
    assert (working.work.slots, list(working.processes.running), working.processes.dying) == (1, ["clip-3"], [])
    working.processes.end("clip-3")
    await working.processes.until_started(5)
    assert list(working.processes.running) == ["clip-4"]


async def test_slots_that_go_down_and_up_again_are_never_more_than_allowed(working: Working) -> None:
    await started(working, "clip", 10, running=2)
    for slots in (1, 2, 1, 3):
        working.work.change_slots(slots, by=ADMIN)
    await working.processes.until_started(3)
    await working.hub.durable()
    assert len(working.processes.running) == 3


@pytest.mark.parametrize("slots", [0, -1, 1025])
def test_slots_that_make_no_sense_are_refused(working: Working, slots: int) -> None:
    with pytest.raises(Invalid, match="from 1 to 1,024"):
        working.work.change_slots(slots, by=ADMIN)


def test_only_an_administrator_changes_the_slots(working: Working) -> None:
    with pytest.raises(NotAllowed):
        working.work.change_slots(8, by=ANA)
    assert working.work.slots == 2


async def test_a_user_with_fifty_jobs_does_not_hold_up_one_with_a_single_job(store: JobStore, tmp_path: Path) -> None:
    async with open_working(store, tmp_path, slots=1, max_running=1) as working:
        await started(working, "ana-first", 1, running=1)
        for number in range(49):
            await working.new_job(f"ana-{number}", 1)
        await working.new_job("ben", 1, by=BEN)
        working.processes.end("ana-first-0")
        await working.processes.until_started(2)
        assert working.processes.started == ["ana-first-0", "ben-0"]


async def test_waiting_jobs_run_in_the_order_that_their_owner_wants(store: JobStore, tmp_path: Path) -> None:
    async with open_working(store, tmp_path, slots=1, max_running=1) as working:
        await started(working, "running", 1, running=1)
        jobs = {name: await working.new_job(name, 1) for name in ("one", "two", "three", "four")}
        await working.manager.run_next(jobs["three"].id, by=ANA)
        await working.manager.run_next(jobs["four"].id, by=ANA)
        await working.manager.run_last(jobs["one"].id, by=ANA)
        for number, name in enumerate(("running", "four", "three", "two", "one"), 1):
            await working.processes.until_started(number)
            working.processes.end(f"{name}-0")
        await working.reaches(jobs["one"], Status.COMPLETED)


# A database that refuses.


async def test_while_nothing_can_be_stored_what_runs_goes_on_and_nothing_begins(
    refusing: tuple[Working, RefusingStore],
) -> None:
    working, store = refusing
    job = await started(working, "clip", 3, running=1)
    await working.hub.durable()
    store.refuse()
    with pytest.raises(StoreRefused):
        await working.manager.keep(job.id, by=ANA)
    working.processes.end("clip-0")
    await working.processes.until_idle()
    for _ in range(3):  # refusals
        with pytest.raises(StoreRefused):
            await working.manager.keep(job.id, by=ANA)
    assert working.processes.started == ["clip-0"]
    store.accept()
    await working.processes.until_started(2)
    now = await working.stored(job)
    assert (now.status, now.current_video, now.kept) == (Status.PROCESSING, 1, True)


@pytest.mark.parametrize(
    ("ask", "status"), [("cancel", Status.CANCELLED), ("pause", Status.PAUSED), (None, Status.PENDING)]
)
async def test_a_job_stops_at_once_although_nothing_can_be_stored(
    refusing: tuple[Working, RefusingStore], ask: str | None, status: Status
) -> None:
    working, store = refusing
    job = await started(working, "clip", 3, running=1)
    store.refuse()
    with pytest.raises(StoreRefused):
        await working.manager.keep(job.id, by=ANA)
    if ask is not None:
        with pytest.raises(StoreRefused):
            await getattr(working.manager, ask)(job.id, by=ANA)
    if ask != "cancel":
        working.processes.end("clip-0")
    if ask is None:
        working.manager.drain()
        await working.executor.shutdown(10)
    await working.processes.until_idle()
    store.accept()
    await working.reaches(job, status)
    assert working.processes.started == ["clip-0"]


async def test_a_job_whose_birth_could_not_be_stored_starts_as_soon_as_it_can(
    refusing: tuple[Working, RefusingStore],
) -> None:
    working, store = refusing
    store.refuse()
    with pytest.raises(StoreRefused, match="appears and starts as soon as it can"):
        await working.new_job("clip", 1)
    store.accept()
    await working.processes.until_started(1)
    await working.hub.durable()
    assert [job.status for job in (await working.manager.jobs(by=ANA)).items] == [Status.PROCESSING]
