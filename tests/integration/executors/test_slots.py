"""The shared slots, and the order in which jobs run."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import Invalid, NotAllowed
from backend.store import Store
from progress_dashboard.protocol import Status
from tests.support.managed_backend import ADMIN, ANA, BEN, Working, open_working


async def test_more_slots_are_used_and_fewer_end_nothing(working: Working) -> None:
    await working.started_job("clip", 10, running=2)
    working.slots.change(4, by=ADMIN)
    await working.processes.until_started(4)
    working.slots.change(1, by=ADMIN)
    for number in range(3):
        working.processes.end(f"clip-{number}")
    await working.journal.durable()
    assert (working.slots.number, list(working.processes.running), working.processes.stopping) == (1, ["clip-3"], [])
    working.processes.end("clip-3")
    await working.processes.until_started(5)
    assert list(working.processes.running) == ["clip-4"]


async def test_changed_slots_are_never_more_than_allowed(working: Working) -> None:
    await working.started_job("clip", 10, running=2)
    for number in (1, 2, 1, 3):
        working.slots.change(number, by=ADMIN)
    await working.processes.until_started(3)
    await working.journal.durable()
    assert len(working.processes.running) == 3


@pytest.mark.parametrize("number", [0, -1, 1025])
def test_an_impossible_number_of_slots_is_refused(working: Working, number: int) -> None:
    with pytest.raises(Invalid, match="from 1 to 1,024"):
        working.slots.change(number, by=ADMIN)


def test_only_an_administrator_changes_the_slots(working: Working) -> None:
    with pytest.raises(NotAllowed):
        working.slots.change(8, by=ANA)
    assert working.slots.number == 2


async def test_fifty_jobs_of_one_user_do_not_hold_up_another(store: Store, tmp_path: Path) -> None:
    async with open_working(store, tmp_path, slots=1, max_running=1) as working:
        await working.started_job("ana-first", 1, running=1)
        for number in range(49):
            await working.new_job(f"ana-{number}", 1)
        await working.new_job("ben", 1, by=BEN)
        working.processes.end("ana-first-0")
        await working.processes.until_started(2)
        assert working.processes.started == ["ana-first-0", "ben-0"]


async def test_waiting_jobs_run_in_the_order_of_their_owner(store: Store, tmp_path: Path) -> None:
    async with open_working(store, tmp_path, slots=1, max_running=1) as working:
        await working.started_job("running", 1, running=1)
        jobs = {name: await working.new_job(name, 1) for name in ("one", "two", "three", "four")}
        await working.manager.run_next(jobs["three"].id, by=ANA)
        await working.manager.run_next(jobs["four"].id, by=ANA)
        await working.manager.run_last(jobs["one"].id, by=ANA)
        for number, name in enumerate(("running", "four", "three", "two", "one"), 1):
            await working.processes.until_started(number)
            working.processes.end(f"{name}-0")
        await working.reaches(jobs["one"], Status.COMPLETED)
        assert working.processes.started == ["running-0", "four-0", "three-0", "two-0", "one-0"]
