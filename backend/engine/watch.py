"""What the server knows of its workers: who is connected, who is lost, who rests, what each may run. Pure values.

A worker is lost when this server has itself looked for a while, with a database that answered, and has seen no beat. So
no clock of another machine counts, and an absence of PostgreSQL loses nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from backend.store.workers import WorkerRow

MARGIN_SECONDS = 5.0  # after its lease, in which a worker without PostgreSQL ends its processes
CONNECTED_SECONDS = 5.0  # without a beat, after which nothing is handed over to a worker
MAX_STEP_SECONDS = 2.0  # that one look counts: a server that was frozen has not looked in between
FORGOTTEN_SECONDS = 86_400.0
FIRST_REST_SECONDS, MAX_REST_SECONDS = 30.0, 900.0
MEMORY_SECONDS = 600.0  # for which a machine's fault is remembered


@dataclass(slots=True)
class Rest:
    """The rest of a worker after a fault of its machine; then it is tried with one run."""

    sentence: str
    seconds: float
    left: float


@dataclass(slots=True)
class Watched:
    """A worker, or the name of one that has left with runs. `silent` counts the seconds without a beat."""

    row: WorkerRow | None
    beats: int
    is_alive: bool
    silent: float = 0.0
    rest: Rest | None = None
    causes: dict[str, float] = field(default_factory=dict)


class Watch:
    """Follows the workers of one look after the other."""

    def __init__(self, lease_seconds: float) -> None:
        self._lost_after = lease_seconds + MARGIN_SECONDS
        self._connected_for = min(CONNECTED_SECONDS, lease_seconds)
        self._watched: dict[str, Watched] = {}
        self._looked_at: float | None = None
        self._now = 0.0
        self._has_looked = False

    def look(self, rows: Collection[WorkerRow], holders: Collection[str], now: float) -> None:
        """Take what is there at the monotonic time `now`; `holders` are the names at which runs are at work."""
        step = 0.0 if self._looked_at is None else min(MAX_STEP_SECONDS, now - self._looked_at)
        self._looked_at = now
        self._now += step
        present = {row.name: row for row in rows}
        for name in {*present, *holders}:
            self._follow(name, present.get(name), step)
        for name in self._watched.keys() - present.keys() - set(holders):
            del self._watched[name]
        self._has_looked = True

    def take(self, row: WorkerRow) -> None:
        """Take a worker as an administrator has changed it."""
        if watched := self._watched.get(row.name):
            watched.row = row

    def look_away(self) -> None:
        """Count no time until the next look: the database does not answer."""
        self._looked_at = None

    def rows(self) -> list[WorkerRow]:
        """Return the workers as they were seen last, in the order of their names."""
        return [watched.row for _, watched in sorted(self._watched.items()) if watched.row is not None]

    def is_connected(self, name: str) -> bool:
        """Return True if a beat of this worker was seen a moment ago."""
        watched = self._watched.get(name)
        return watched is not None and watched.is_alive and watched.silent < self._connected_for

    def lost(self, names: Iterable[str]) -> list[str]:
        """Return those of the workers that are lost: their processes have ended."""
        return [name for name in names if self._watched[name].silent >= self._lost_after]

    def forgotten(self) -> list[tuple[str, int]]:
        """Return the workers that have been silent for a day, with their last beats."""
        return [
            (name, watched.beats)
            for name, watched in self._watched.items()
            if watched.row is not None and watched.silent >= FORGOTTEN_SECONDS
        ]

    def may_run(self, row: WorkerRow) -> int:
        """Return how many videos this worker may run at once: none at rest, and one at first after it."""
        allowed = row.slots if row.cap is None else min(row.slots, row.cap)
        rest = self._watched[row.name].rest
        if row.draining or (rest is not None and rest.left > 0):
            return 0
        return allowed if rest is None else min(1, allowed)

    def resting(self, name: str) -> str | None:
        """Return the sentence of the fault for which this worker rests."""
        rest = self._watched[name].rest
        return rest.sentence if rest is not None and rest.left > 0 else None

    def capacity(self, processor: str | None = None) -> int:
        """Return how many videos the connected workers may run at once, with this processor or in all."""
        return sum(self.may_run(row) for row in self._fit(processor))

    def processors(self) -> set[str]:
        """Return the processors that some connected worker has."""
        return {processor for row in self.rows() if self.is_connected(row.name) for processor in row.processors}

    def counts_fault(self, name: str, cause: str, sentence: str, processor: str) -> bool:
        """Take a fault of this worker's machine; True if it counts for the job, False if the worker rests for it.

        It counts if another worker said the same, or if no other one can take the video. Else the video goes elsewhere.
        """
        said_by = [other for other, watched in self._watched.items() if self._remembers(watched, cause)]
        if watched := self._watched.get(name):
            watched.causes[cause] = self._now
        others = [row for row in self._fit(processor) if row.name != name]
        if not others or any(other != name for other in said_by):
            return True
        if watched is not None:
            _begin_rest(watched, sentence)
        return False

    def succeeded(self, name: str) -> None:
        """Take a success of this worker: what was wrong with its machine is over. One at rest began before that."""
        watched = self._watched.get(name)
        if watched is not None and (watched.rest is None or watched.rest.left <= 0):
            watched.causes.clear()
            watched.rest = None

    def _fit(self, processor: str | None) -> list[WorkerRow]:
        return [
            row
            for row in self.rows()
            if self.is_connected(row.name)
            and (processor is None or processor in row.processors)
            and self.may_run(row) > 0
        ]

    def _remembers(self, watched: Watched, cause: str) -> bool:
        return cause in watched.causes and self._now - watched.causes[cause] < MEMORY_SECONDS

    def _follow(self, name: str, row: WorkerRow | None, step: float) -> None:
        watched = self._watched.get(name)
        if watched is None:
            rest = Rest(row.resting, FIRST_REST_SECONDS, FIRST_REST_SECONDS) if row and row.resting else None
            # What is there at the first look may be long dead; what comes later has just come.
            self._watched[name] = Watched(
                row, row.beats if row else -1, self._has_looked and row is not None, rest=rest
            )
            return
        if watched.rest is not None:
            watched.rest.left -= step
        before, watched.row = watched.row, row
        if row is not None and before is not None and row.since != before.since:
            watched.rest = None  # it was started again
        if row is not None and row.beats != watched.beats:
            watched.beats, watched.is_alive, watched.silent = row.beats, True, 0.0
        else:
            watched.silent += step


def _begin_rest(watched: Watched, sentence: str) -> None:
    """Let the worker rest, after a rest that did not help for twice as long. What fails while it rests came before."""
    if watched.rest is None:
        watched.rest = Rest(sentence, FIRST_REST_SECONDS, FIRST_REST_SECONDS)
    elif watched.rest.left <= 0:
        seconds = min(MAX_REST_SECONDS, 2 * watched.rest.seconds)
        watched.rest = Rest(sentence, seconds, seconds)
