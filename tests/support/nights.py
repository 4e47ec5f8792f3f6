"""Nights of work of many kinds, simulated: files of many sizes, several at once, pauses, failures, slow disks."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import exp
from random import Random

from backend.domain.habits import PastResult

MIB = 2.0**20
STEPS = 5  # a running video tells its share so often


@dataclass(frozen=True)
class File:
    """A video: its size in bytes (None: no file), the seconds that it takes alone, and whether it fails at once."""

    size: float | None
    seconds: float
    fails: bool = False


@dataclass(frozen=True)
class Moment:
    """Something that happens `at` a second of the night: start, step, end, pause, resume."""

    at: float
    what: str
    position: int = -1
    share: float = 0.0
    seconds: float = 0.0
    fails: bool = False
    began: float = 0.0


@dataclass
class Night:
    """A job of a night, and what earlier nights told.

    `slowness` says how much longer a video takes that begins at a second. `pauses` have the second at which they are
    asked for, and how many they take.
    """

    kind: str
    files: list[File]
    slots: int
    earlier: list[PastResult]
    pauses: Sequence[tuple[float, float]] = ()
    slowness: Callable[[float], float] = field(default=lambda _: 1.0)

    def moments(self) -> list[Moment]:
        """Return what happens, in order. A pause begins when what ran before it has ended."""
        happened = list(self._of_videos())
        for asked, took in self.pauses:
            running = (moment.at for moment in happened if moment.what == "end" and moment.began < asked)
            began = max((asked, *running))
            if began < asked + took:
                happened += [Moment(began, "pause"), Moment(asked + took, "resume")]
        order = {"end": 0, "pause": 1, "resume": 2, "start": 3, "step": 4}
        return sorted(happened, key=lambda moment: (moment.at, order[moment.what]))

    def _of_videos(self) -> Iterator[Moment]:
        lanes = [0.0] * self.slots
        for position, file in enumerate(self.files):
            began = heapq.heappop(lanes)
            for asked, pause in self.pauses:
                began = asked + pause if asked <= began < asked + pause else began
            took = file.seconds if file.fails else file.seconds * self.slowness(began)
            yield Moment(began, "start", position)
            for step in range(1, 0 if file.fails else STEPS):
                share = step / STEPS
                yield Moment(began + share * took, "step", position, share)
            yield Moment(began + took, "end", position, seconds=took, fails=file.fails, began=began)
            heapq.heappush(lanes, began + took)


KINDS = ("steady", "slow start", "long tail", "two speeds", "pauses", "failures in bulk")


def night(kind: str, rng: Random) -> Night:
    """Return a night of this kind."""
    machine = _Machine(rng)
    count, slots = int(exp(rng.uniform(3.7, 6.7))), rng.randint(1, 8)
    sizes = machine.sizes(count, heavy=kind == "long tail")
    if kind == "long tail" and rng.random() < 0.5:
        sizes.sort()
    files = [File(size, machine.seconds(size, slots)) for size in sizes]
    made = Night(kind, files, slots, machine.earlier(rng.choice([30, 200, 1200])))
    usual = sum(file.seconds for file in files) / slots
    if kind == "slow start":
        until, factor = usual * rng.uniform(0.03, 0.2), rng.uniform(1.5, 4.0)
        made.slowness = lambda at: factor if at < until else 1.0
    elif kind == "two speeds":
        made.files = _on_two_disks(files, rng)
    elif kind == "pauses":
        made.pauses = _pauses(usual, rng)
    elif kind == "failures in bulk":
        made.files = _with_failures(files, rng)
    return made


class _Machine:
    """A processor on a machine: its usual seconds, and how much they vary."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._base, self._speed = rng.uniform(0.5, 8), rng.uniform(4, 60) * MIB
        self._noise = rng.uniform(0.1, 0.5)
        self._mean_size, self._size_spread = rng.uniform(30, 600) * MIB, rng.uniform(0.3, 1.2)
        self._crowding = rng.uniform(0.0, 0.15)
        self._tonight = exp(rng.gauss(0, 0.2))

    def sizes(self, count: int, *, heavy: bool) -> list[float]:
        """Return sizes of files; a heavy list has some that are very large."""
        sizes = [self._mean_size * exp(self._rng.gauss(0, self._size_spread)) for _ in range(count)]
        if heavy:
            for _ in range(max(1, count // 30)):
                sizes[self._rng.randrange(count)] = self._mean_size * self._rng.uniform(10, 40)
        return sizes

    def seconds(self, size: float, slots: int, tonight: float | None = None) -> float:
        """Return the seconds that a file takes beside others."""
        factor = exp(self._rng.gauss(-(self._noise**2) / 2, self._noise)) * (1 + self._crowding * (slots - 1))
        return (self._base + size / self._speed) * factor * (self._tonight if tonight is None else tonight)

    def earlier(self, count: int) -> list[PastResult]:
        """Return results of earlier nights."""
        nights = [exp(self._rng.gauss(0, 0.2)) for _ in range(6)]
        slots = self._rng.randint(1, 4)
        sizes = self.sizes(count, heavy=False)
        return [PastResult(size, self.seconds(size, slots, self._rng.choice(nights))) for size in sizes]


def _pauses(usual: float, rng: Random) -> list[tuple[float, float]]:
    """Return (when it is asked for, seconds) of some pauses that do not meet."""
    pauses, passed = [], 0.0
    for moment in sorted(rng.uniform(0.02, 0.9) * usual for _ in range(rng.randint(1, 3))):
        took = rng.uniform(120, 7200)
        pauses.append((moment + passed, took))
        passed += took
    return pauses


def _on_two_disks(files: list[File], rng: Random) -> list[File]:
    factor, share = rng.uniform(1.5, 4.0), rng.uniform(0.2, 0.8)
    block = rng.choice([1, 1, 10, 40])  # files of one disk in a row
    slow = [rng.random() < share for _ in range(len(files) // block + 1)]
    return [File(file.size, file.seconds * (factor if slow[n // block] else 1.0)) for n, file in enumerate(files)]


def _with_failures(files: list[File], rng: Random) -> list[File]:
    """Put a mass of videos among them that fail at once: they have no file, or a broken one."""
    number, have_files = int(len(files) * rng.uniform(0.2, 1.0)), rng.random() < 0.33
    sizes = [rng.choice(files).size if have_files else None for _ in range(number)]
    failing = [File(size, rng.uniform(0.01, 0.05), fails=True) for size in sizes]
    where = rng.choice(["first", "middle", "last", "everywhere"])
    if where == "everywhere":
        mixed = [*files, *failing]
        rng.shuffle(mixed)
        return mixed
    at = {"first": 0, "middle": len(files) // 2, "last": len(files)}[where]
    return [*files[:at], *failing, *files[at:]]
