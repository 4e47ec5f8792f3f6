"""What readers get: states and removals in the order of their `seq`, cut for one owner and into parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from backend.domain.job import Job

MAX_UPDATE_BYTES = 28 * 1024  # the texts of an update are bounded; 500 bytes are usual
EVERYBODY = None


class Change:
    """The state of a job at its `seq`. Its JSON is made once, for the store and for every reader."""

    __slots__ = ("_body", "job")

    def __init__(self, job: Job) -> None:
        self.job = job
        self._body = b""

    @property
    def job_id(self) -> str:
        return self.job.id

    @property
    def owner_id(self) -> str:
        return self.job.owner_id

    @property
    def seq(self) -> int:
        return self.job.seq

    @property
    def body(self) -> bytes:
        """The update on the wire."""
        if not self._body:
            self._body = msgspec.json.encode(self.job.update())
        return self._body


@dataclass(frozen=True, slots=True)
class Removal:
    """A job left the dashboard at `seq`."""

    job_id: str
    owner_id: str
    seq: int


Entry = Change | Removal


@dataclass(frozen=True, eq=False)
class View:
    """What one reader gets: states and removals in the order of their `seq`.

    `prev` is the position that it follows on. `snapshot` tells the reader to forget what it knew. `more` is True if the
    next part follows.
    """

    prev: int
    seq: int
    snapshot: bool
    entries: tuple[Entry, ...]
    more: bool = False

    @cached_property
    def updates(self) -> tuple[Job, ...]:
        return tuple(entry.job for entry in self.entries if isinstance(entry, Change))

    @cached_property
    def removed(self) -> tuple[str, ...]:
        """The jobs that are gone after all of this."""
        last = {entry.job_id: entry for entry in self.entries}
        return tuple(job_id for job_id, entry in last.items() if isinstance(entry, Removal))

    @cached_property
    def frames(self) -> tuple[bytes, ...]:
        """One JSON object an update."""
        return tuple(entry.body for entry in self.entries if isinstance(entry, Change))

    @cached_property
    def batch_frame(self) -> bytes:
        """All of it as one JSON object."""
        frame = {
            "type": "updates",
            "prev": self.prev,
            "seq": self.seq,
            "snapshot": self.snapshot,
            "updates": [msgspec.Raw(frame) for frame in self.frames],
            "removed": self.removed,
        }
        return msgspec.json.encode(frame | {"more": True} if self.more else frame)


@dataclass(eq=False)
class Batch:
    """What was published at once, in the order of `seq`: all that is lossless, and the newest percents.

    `prevs` has, for each owner with a share in it, the position of the share before.
    """

    prev: int
    seq: int
    entries: tuple[Entry, ...]
    prevs: dict[str | None, int]
    part_bytes: int
    _views: dict[str | None, tuple[View, ...]] = field(default_factory=dict)

    def views(self, owner_id: str | None) -> tuple[View, ...]:
        """Return what this owner sees of it, usually in one part; () if nothing of theirs changed."""
        if owner_id not in self.prevs:
            return ()
        if owner_id not in self._views:
            entries = [entry for entry in self.entries if owner_id in (EVERYBODY, entry.owner_id)]
            self._views[owner_id] = tuple(_in_parts(self.prevs[owner_id], self.seq, entries, self.part_bytes))
        return self._views[owner_id]


def fitting(entries: Sequence[Entry], part_bytes: int) -> int:
    """Return how many of the entries make a part of about `part_bytes` of JSON, at least one."""
    if len(entries) * MAX_UPDATE_BYTES <= part_bytes:
        return len(entries)
    size = 0
    for number, entry in enumerate(entries):
        size += len(entry.body) if isinstance(entry, Change) else len(entry.job_id)
        if number and size > part_bytes:
            return number
    return len(entries)


def _in_parts(prev: int, seq: int, entries: Sequence[Entry], part_bytes: int) -> Iterator[View]:
    while (number := fitting(entries, part_bytes)) < len(entries):
        part, entries = entries[:number], entries[number:]
        yield View(prev, part[-1].seq, False, tuple(part), more=True)
        prev = part[-1].seq
    yield View(prev, seq, False, tuple(entries))
