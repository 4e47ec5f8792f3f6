"""The machines that work through videos: what is known of each, and what administrators change about them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from backend.clock import Clock
from backend.domain import messages
from backend.domain.auth import User
from backend.errors import Invalid, NotAllowed, NotFound
from backend.executors.slots import Slots
from backend.settings import MAX_SLOTS
from progress_dashboard.version import VERSION

log = logging.getLogger(__name__)
NONE_CONNECTED = "none is connected"


class MachineState(StrEnum):
    """What a machine does, in a word."""

    WORKING = "working"
    DRAINING = "draining"
    RESTING = "at rest"
    AWAY = "not connected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine that works on videos, as it was seen last.

    `slots` is how many it offers, `cap` how many an administrator allows (None: all of them), `running` how many are
    taken. `resting` is the sentence of the fault for which it rests, `since` when it was started.
    """

    name: str
    node: str
    slots: int
    cap: int | None = None
    running: int = 0
    version: str = ""
    processors: tuple[str, ...] = ()
    last_seen: datetime | None = None
    since: datetime | None = None
    resting: str | None = None
    is_draining: bool = False
    is_connected: bool = True

    @property
    def limit(self) -> int:
        """How many videos it may work on at once while it takes any."""
        return self.slots if self.cap is None else min(self.slots, self.cap)

    @property
    def allowed(self) -> int:
        """How many videos it may work on at once, apart from its rest."""
        return 0 if self.is_draining else self.limit

    @property
    def state(self) -> MachineState:
        """What it does now."""
        if not self.is_connected:
            return MachineState.AWAY
        if self.is_draining:
            return MachineState.DRAINING
        return MachineState.RESTING if self.resting else MachineState.WORKING


class MachineRegistry(Protocol):
    """Where machines are known and changed. It checks no rights: `Machines` does."""

    @property
    def keeps_changes(self) -> bool:
        """True if changes outlast the server, and machines come and go."""

    def list(self) -> Sequence[Machine]:
        """Return the machines in the order of their names, as they were seen last."""

    async def change(self, name: str, *, slots: int | None = None, drain: bool | None = None) -> None:
        """Let the machine use so many of its slots, or start no further videos; None leaves that as it is."""


class Machines:
    """What users may know and change of the machines."""

    def __init__(self, registry: MachineRegistry) -> None:
        self._registry = registry

    @property
    def keeps_changes(self) -> bool:
        """True if changes outlast the server, and machines come and go."""
        return self._registry.keeps_changes

    def list(self, *, by: User) -> Sequence[Machine]:
        """Return all machines in the order of their names. Raises `NotAllowed` unless an administrator asks."""
        _require_administrator(by, "see")
        return self._registry.list()

    async def change(self, name: str, *, slots: int | None = None, drain: bool | None = None, by: User) -> Machine:
        """Cap the machine's slots, or let it start no further videos; None leaves that. Running ones are not stopped.

        Returns the machine as it is then. Raises `NotAllowed`, `NotFound` and `Invalid`.
        """
        _require_administrator(by, "change")
        if slots is not None and not 1 <= slots <= MAX_SLOTS:
            raise Invalid(f"slots must be from 1 to {MAX_SLOTS:,}.")
        self._find(name)
        await self._registry.change(name, slots=slots, drain=drain)
        extra = {"action": "machine_changed", "machine": name, "slots": slots, "drain": drain, "user": by.name}
        log.info("machine changed", extra=extra)
        return self._find(name)

    def states(self) -> dict[str, MachineState]:
        """Return what each machine does, by its name: everybody who is signed in may know that."""
        return {machine.name: machine.state for machine in self._registry.list()}

    def waiting_reason(self, processor: str) -> str | None:
        """Return why no machine takes the videos of this processor; None if one does, be it a busy one."""
        why = why_waiting(self._registry.list(), processor)
        return None if why is None else messages.waiting_for_worker(why)

    def _find(self, name: str) -> Machine:
        for machine in self._registry.list():
            if machine.name == name:
                return machine
        raise NotFound("There is no machine of this name; it may have been removed.")


class LocalMachine:
    """The only machine of a server that works alone: itself."""

    keeps_changes = False

    def __init__(self, name: str, slots: Slots, processors: Sequence[str], clock: Clock) -> None:
        self._name = name
        self._slots = slots
        self._processors = tuple(processors)
        self._clock = clock
        self._since = clock.now()

    def list(self) -> Sequence[Machine]:
        return [
            Machine(
                name=self._name,
                node=self._name,
                slots=self._slots.number,
                running=self._slots.taken,
                version=VERSION,
                processors=self._processors,
                last_seen=self._clock.now(),
                since=self._since,
                is_draining=self._slots.is_closed,
            )
        ]

    async def change(self, name: str, *, slots: int | None = None, drain: bool | None = None) -> None:
        if slots is not None:
            self._slots.set(slots)
        if drain is not None:
            self._slots.close(is_closed=drain)


def why_waiting(machines: Sequence[Machine], processor: str) -> str | None:
    """Return in a few words why none of these machines takes videos of this processor; None if one does."""
    connected = [machine for machine in machines if machine.is_connected]
    if not connected:
        return NONE_CONNECTED
    able = [machine for machine in connected if processor in machine.processors]
    if not able:
        return f"none has the processor {processor}"
    states = {machine.state for machine in able}
    if MachineState.WORKING in states:
        return None
    what = " or ".join(state.value for state in sorted(states))
    return f"{able[0].name} is {what}" if len(able) == 1 else f"all are {what}"


def _require_administrator(by: User, verb: str) -> None:
    if not by.is_admin:
        raise NotAllowed(f"Only an administrator can {verb} the machines.")
