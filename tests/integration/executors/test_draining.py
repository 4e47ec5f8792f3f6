"""The only machine of a server that works alone, while it is drained."""

from __future__ import annotations

from pathlib import Path

from backend.errors import Fault, VideoFailed
from backend.executors.machines import LocalMachine, Machines
from backend.jobs.waits import Waits
from backend.store import Store
from progress_dashboard.protocol import Status
from tests.support.managed_backend import ADMIN, ANA, Working, open_working

NAME = "desk"


def machines_of(working: Working) -> Machines:
    return Machines(LocalMachine(NAME, working.slots, ["probe"], working.clock))


async def test_a_drained_machine_starts_nothing_and_lets_running_videos_end(working: Working) -> None:
    machines = machines_of(working)
    job = await working.started_job("clip", 5, running=2)
    drained = await machines.change(NAME, drain=True, by=ADMIN)
    assert (drained.running, drained.allowed) == (2, 0)
    working.processes.end("clip-0")
    working.processes.end("clip-1")
    await working.sees(job, lambda state: state.current_video == 2)
    assert (working.processes.started, working.processes.stopping) == (["clip-0", "clip-1"], [])
    assert await working.statuses(job) == ["completed", "completed", "pending", "pending", "pending"]
    await machines.change(NAME, drain=False, by=ADMIN)
    await working.processes.until_started(4)
    assert sorted(working.processes.running) == ["clip-2", "clip-3"]


async def test_slots_that_change_while_it_is_drained_count_afterwards(working: Working) -> None:
    machines = machines_of(working)
    await machines.change(NAME, drain=True, by=ADMIN)
    await machines.change(NAME, slots=3, by=ADMIN)
    job = await working.new_job("clip", 5)
    await working.sees(job, lambda state: state.status is Status.PROCESSING)
    assert working.processes.started == []
    await machines.change(NAME, drain=False, by=ADMIN)
    await working.processes.until_started(3)
    assert len(working.processes.running) == 3


async def test_a_job_of_a_drained_machine_says_so_once_its_videos_have_ended(working: Working) -> None:
    machines = machines_of(working)
    waits = Waits(working.active, machines.waiting_reason, working.clock)
    job = await working.started_job("clip", 3, running=2)
    await machines.change(NAME, drain=True, by=ADMIN)
    for number in range(2):
        await waits.run_once()
        working.processes.end(f"clip-{number}")
    seen = await working.sees(job, lambda state: state.current_video == 2)
    assert {state.waiting_reason for state in seen} == {None}
    for _ in range(2):
        await waits.run_once()
    await working.sees(job, lambda state: state.waiting_reason == "Waiting for a worker: desk is draining")
    await machines.change(NAME, drain=False, by=ADMIN)
    await working.processes.until_started(3)
    seen = await working.sees(job, lambda state: state.running == 1)
    assert seen[-1].waiting_reason is None


async def test_a_video_to_be_tried_again_waits_for_the_machine(store: Store, tmp_path: Path) -> None:
    async with open_working(store, tmp_path, slots=1) as working:
        machines = machines_of(working)
        job = await working.started_job("clip", 1, running=1)
        await machines.change(NAME, drain=True, by=ADMIN)
        working.processes.end("clip-0", VideoFailed("It took too long.", fault=Fault.TRANSIENT))
        await working.sees(job, lambda state: state.running == 0)
        await working.waits.advance(60)
        assert working.processes.started == ["clip-0"]
        await machines.change(NAME, drain=False, by=ADMIN)
        await working.processes.until_started(2)
        assert working.processes.started == ["clip-0", "clip-0"]


async def test_a_job_of_a_drained_machine_can_be_cancelled(working: Working) -> None:
    machines = machines_of(working)
    await machines.change(NAME, drain=True, by=ADMIN)
    job = await working.new_job("clip", 2)
    await working.sees(job, lambda state: state.status is Status.PROCESSING)
    await working.manager.cancel(job.id, by=ANA)
    await working.reaches(job, Status.CANCELLED)
    assert working.processes.started == []
