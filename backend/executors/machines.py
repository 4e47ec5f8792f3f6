"""The machines that work on videos, as administrators see and change them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from backend.domain.auth import User

NO_WORKER = "Waiting for a worker: none is connected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine that works on videos.

    `slots` is how many it offers, `cap` how many an administrator allows (None: all of them), `running` how many
    are taken. `resting` is the sentence of the fault for which it rests, `since` when it was started.
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
    def allowed(self) -> int:
        """How many videos it may work on at once, apart from its rest."""
        if self.is_draining:
            return 0
        return self.slots if self.cap is None else min(self.slots, self.cap)


class Machines(Protocol):
    """The machines that are known. Everybody may ask what a job waits for; only administrators see and change them."""

    def list(self) -> Sequence[Machine]:
        """Return all machines, in the order of their names."""

    async def change(self, name: str, *, slots: int | None = None, drain: bool | None = None, by: User) -> Machine:
        """Cap the machine's slots, or let it start no further videos; None leaves that as it is.

        Raises `NotAllowed`, `NotFound` and `Invalid`.
        """

    def waiting_reason(self, processor: str) -> str | None:
        """Return what a job with this processor waits for, if no machine can work on it now."""


def no_processor(processor: str) -> str:
    """Return the reason of a job whose processor no connected machine has."""
    return f"Waiting for a worker: none has the processor {processor}"
