"""What is known and changed of machines, with a registry in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from backend.errors import DashboardError, Invalid, NotAllowed, NotFound
from backend.executors.machines import LocalMachine, Machine, Machines, MachineState
from backend.executors.slots import Slots
from tests.support.clock import VirtualClock
from tests.support.managed_backend import ADMIN, ANA


class Registry:
    """Machines in memory."""

    keeps_changes = True

    def __init__(self, *machines: Machine) -> None:
        self.machines = {machine.name: machine for machine in machines}

    def list(self) -> Sequence[Machine]:
        return list(self.machines.values())

    async def change(self, name: str, *, slots: int | None = None, drain: bool | None = None) -> None:
        known = self.machines[name]
        cap, draining = known.cap if slots is None else slots, known.is_draining if drain is None else drain
        self.machines[name] = replace(known, cap=cap, is_draining=draining)


def a_machine(name: str = "alpha", **facts: Any) -> Machine:
    return Machine(**{"name": name, "node": name, "slots": 8, "processors": ("probe",), **facts})


AWAY: Mapping[str, Any] = {"is_connected": False}
DRAINING: Mapping[str, Any] = {"is_draining": True}
RESTING: Mapping[str, Any] = {"resting": "The media directory is missing."}


@pytest.mark.parametrize(
    ("machines", "reason"),
    [
        ([], "none is connected"),
        ([a_machine(**AWAY)], "none is connected"),
        ([a_machine(processors=("other",))], "none has the processor probe"),
        ([a_machine(processors=("other",)), a_machine("beta", **AWAY)], "none has the processor probe"),
        ([a_machine(**DRAINING)], "alpha is draining"),
        ([a_machine(**RESTING)], "alpha is at rest"),
        ([a_machine(**DRAINING), a_machine("beta", **DRAINING)], "all are draining"),
        ([a_machine(**DRAINING), a_machine("beta", **RESTING)], "all are at rest or draining"),
    ],
)
def test_a_job_waits_where_no_machine_takes_its_videos(machines: list[Machine], reason: str) -> None:
    assert Machines(Registry(*machines)).waiting_reason("probe") == f"Waiting for a worker: {reason}"


@pytest.mark.parametrize("others", [[], [a_machine("beta", **AWAY)], [a_machine("beta", **DRAINING)]])
def test_a_job_does_not_wait_while_one_machine_takes_its_videos(others: list[Machine]) -> None:
    busy = a_machine(running=8)
    assert Machines(Registry(busy, *others)).waiting_reason("probe") is None


def test_the_state_of_a_machine_is_one_word() -> None:
    states = [a_machine(**facts).state for facts in ({}, DRAINING, RESTING, AWAY, {**DRAINING, **AWAY})]
    assert states == ["working", "draining", "at rest", "not connected", "not connected"]


def test_an_administrator_allows_fewer_slots_but_never_more_than_there_are() -> None:
    assert [a_machine(cap=cap).limit for cap in (None, 3, 20)] == [8, 3, 8]
    assert a_machine(cap=3, is_draining=True).allowed == 0


async def test_only_administrators_see_and_change_machines() -> None:
    registry = Registry(a_machine())
    machines = Machines(registry)
    with pytest.raises(NotAllowed, match="Only an administrator can see the machines"):
        machines.list(by=ANA)
    for name in ("alpha", "never-was"):
        with pytest.raises(NotAllowed, match="Only an administrator can change the machines"):
            await machines.change(name, drain=True, by=ANA)
    assert machines.list(by=ADMIN) == [a_machine()]


async def test_everybody_who_is_signed_in_may_know_what_machines_do() -> None:
    assert Machines(Registry(a_machine(), a_machine("beta", **AWAY))).states() == {
        "alpha": MachineState.WORKING,
        "beta": MachineState.AWAY,
    }


async def test_a_change_leaves_what_it_does_not_name() -> None:
    machines = Machines(Registry(a_machine(cap=2)))
    assert await machines.change("alpha", drain=True, by=ADMIN) == a_machine(cap=2, is_draining=True)
    assert await machines.change("alpha", slots=5, by=ADMIN) == a_machine(cap=5, is_draining=True)
    assert await machines.change("alpha", drain=False, by=ADMIN) == a_machine(cap=5)


@pytest.mark.parametrize(
    ("name", "slots", "error", "words"),
    [
        ("beta", 4, NotFound, "There is no machine of this name"),
        ("alpha", 0, Invalid, "slots must be from 1 to 1,024"),
        ("alpha", -1, Invalid, "slots must be from 1 to 1,024"),
        ("alpha", 1_025, Invalid, "slots must be from 1 to 1,024"),
    ],
)
async def test_an_impossible_change_is_refused_in_words(
    name: str, slots: int, error: type[DashboardError], words: str
) -> None:
    registry = Registry(a_machine())
    with pytest.raises(error, match=words):
        await Machines(registry).change(name, slots=slots, by=ADMIN)
    assert registry.list() == [a_machine()]


async def test_a_server_that_works_alone_is_one_machine() -> None:
    clock, slots = VirtualClock(), Slots(4)
    machines = Machines(LocalMachine("desk", slots, ["probe"], clock))
    [machine] = machines.list(by=ADMIN)
    assert (machine.name, machine.slots, machine.running, machine.processors) == ("desk", 4, 0, ("probe",))
    assert (machine.state, machine.last_seen, machine.is_connected) == (MachineState.WORKING, clock.now(), True)
    assert machines.waiting_reason("probe") is None
    assert (await machines.change("desk", slots=6, by=ADMIN)).limit == slots.number == 6
    assert (await machines.change("desk", drain=True, by=ADMIN)).state is MachineState.DRAINING
    assert machines.waiting_reason("probe") == "Waiting for a worker: desk is draining"
