"""The machines as rows: one element whose rows are replaced in place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.clock import iso
from backend.domain.texts import counted
from backend.executors.machines import Machine, MachineState
from backend.settings import MAX_SLOTS
from ui.components.shared import BROWSER_JS
from ui.text import count
from ui.theme import WAITING_ICON, StatusLook

LOOKS: Mapping[MachineState, StatusLook] = {
    MachineState.WORKING: StatusLook("check_circle", MachineState.WORKING.value),
    MachineState.DRAINING: StatusLook("pause_circle", MachineState.DRAINING.value),
    MachineState.RESTING: StatusLook("warning_amber", MachineState.RESTING.value),
    MachineState.AWAY: StatusLook(WAITING_ICON, MachineState.AWAY.value),
}


class MachineTable(Element, component="machine_table.vue", dependencies=[BROWSER_JS]):
    """`on_slots` gets the name of a machine and the typed number, `on_drain` whether it is to drain."""

    def __init__(
        self,
        *,
        on_slots: Callable[[str, int], Awaitable[None]],
        on_drain: Callable[[str, bool], Awaitable[None]],
    ) -> None:
        super().__init__()
        self._props["looks"] = {state.value: asdict(look) for state, look in LOOKS.items()}
        self._props["most"] = MAX_SLOTS
        self._props["rows"] = []

        async def typed(event: GenericEventArguments) -> None:
            match event.args:
                case {"name": str(name), "slots": int() | float() as slots}:
                    await on_slots(name, int(slots))
                    self.run_method("settle", name)

        async def pressed(event: GenericEventArguments) -> None:
            match event.args:
                case {"name": str(name), "drain": bool(drain)}:
                    await on_drain(name, drain)

        self.on("slots", typed)
        self.on("drain", pressed)

    def show(self, machines: Sequence[Machine]) -> None:
        """Show these machines. What the user is typing stays."""
        rows = [row(machine) for machine in machines]
        if rows != self._props["rows"]:
            self._props["rows"] = rows


def row(machine: Machine) -> Mapping[str, Any]:
    """Return the facts of a machine's row. A machine that is connected is seen now, without a time."""
    seen = None if machine.is_connected or machine.last_seen is None else iso(machine.last_seen)
    return {
        "name": machine.name,
        "node": machine.node if machine.node != machine.name else "",
        "state": machine.state.value,
        "note": _note(machine),
        "running": count(machine.running),
        "slots": machine.limit,
        "offers": f"of {count(machine.slots)}" if machine.limit < machine.slots else "",
        "processors": ", ".join(machine.processors),
        "version": machine.version,
        "seen": seen,
        "action": _action(machine),
        "drains": not machine.is_draining,
    }


def headline(machines: Sequence[Machine]) -> str:
    """Return in a sentence how many machines are connected and what they do.

    >>> headline([])
    'No machine is connected.'
    """
    connected = [machine for machine in machines if machine.is_connected]
    if not connected:
        return "No machine is connected."
    taken, slots = sum(machine.running for machine in connected), sum(machine.limit for machine in connected)
    lost = len(machines) - len(connected)
    missing = f", {count(lost)} not connected" if lost else ""
    return f"{counted(len(connected), 'machine')}, {count(taken)} of {counted(slots, 'slot')} taken{missing}."


def ending(machine: Machine) -> str:
    """Return which videos of a machine that drains still run, as the end of a sentence; none: an empty text."""
    if not machine.running:
        return ""
    return f"; {counted(machine.running, 'running video')} end{'s' if machine.running == 1 else ''}"


def _note(machine: Machine) -> str:
    if machine.is_draining and machine.is_connected:
        return f"Starts no further videos{ending(machine)}"
    return machine.resting or ""


def _action(machine: Machine) -> str:
    if not machine.is_connected:
        return ""
    return "Take work again" if machine.is_draining else "Drain"
