"""The tallies of the statistics, and how they are added to.

A tally is read, added to and written in one transaction: a histogram cannot be added to in SQL, and a row for each
bucket would take ten times the room.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from backend.clock import from_millis
from backend.domain import histogram
from backend.domain.causes import general_words
from backend.domain.measures import CauseKey, Ledger, Tally, TallyKey
from backend.store import bulk
from backend.store.rows import RowCodec
from backend.store.tables import CAUSE_ROLLUPS, CAUSES, ROLLUPS

KEY, SUMS = TallyKey._fields, ("count", "millis", "film_millis", "film_work_millis", "work_millis")
TALLY = ", ".join((*KEY, *SUMS, "histogram"))


@dataclass(frozen=True, slots=True)
class TallyRow:
    """A tally as it is stored, or only its key."""

    at: Any
    owner_id: str
    processor: str
    kind: str
    count: int = 0
    millis: int = 0
    film_millis: int = 0
    film_work_millis: int = 0
    work_millis: int = 0
    histogram: bytes = b""

    @classmethod
    def of(cls, key: tuple[Any, ...], tally: Tally) -> TallyRow:
        """Return the row of a tally."""
        at, owner_id, processor, kind = key
        sums = {name: getattr(tally, name) for name in SUMS} | {"histogram": histogram.encoded(tally.histogram)}
        return cls(from_millis(at), owner_id, processor, kind, **sums)


@dataclass(frozen=True, slots=True)
class CauseLine:
    """How many failures of a cause are added to those of a quarter."""

    at: Any
    owner_id: str
    processor: str
    fingerprint: str
    job_id: str
    videos: int


@dataclass(frozen=True, slots=True)
class CauseWords:
    """A cause with its words."""

    fingerprint: str
    words: str = ""

    @classmethod
    def of(cls, fingerprint: str, error: str, video_id: str) -> CauseWords:
        """Return a cause, from one of its errors."""
        return cls(fingerprint, general_words(error, video_id))


_TALLIES = bulk.select(
    RowCodec[TallyRow](ROLLUPS, KEY), ", ".join(f"found.{name}" for name in (*KEY, *SUMS, "histogram"))
)
_PUT_TALLIES = bulk.upsert(
    RowCodec[TallyRow](ROLLUPS, [*KEY, *SUMS, "histogram"]),
    key=", ".join(KEY),
    change=", ".join(f"{name} = excluded.{name}" for name in (*SUMS, "histogram")),
)
_ADD_CAUSES = bulk.upsert(
    RowCodec[CauseLine](CAUSE_ROLLUPS, [*CauseKey._fields, "videos"]),
    key=", ".join(CauseKey._fields),
    change="videos = cause_rollup.videos + excluded.videos",
)
_KNOWN_CAUSES = bulk.select(RowCodec[CauseWords](CAUSES, ["fingerprint"]), "found.fingerprint")
_NAME_CAUSES = bulk.upsert(
    RowCodec[CauseWords](CAUSES, ["fingerprint", "words"]), key="fingerprint", change="words = excluded.words"
)


def add(connection: Connection, ledger: Ledger) -> None:
    """Add to the stored tallies."""
    sums = dict(ledger.tallies)
    keys = [TallyRow(from_millis(at), owner_id, processor, kind) for at, owner_id, processor, kind in sums]
    for *key, count, millis, film, film_work, work, buckets in _TALLIES.fetch(connection, keys):
        stored = Tally(count, millis, film, film_work, work, histogram.decoded(buckets))
        stored.add(sums[tuple(key)])
        sums[tuple(key)] = stored
    _PUT_TALLIES.execute(connection, [TallyRow.of(key, tally) for key, tally in sums.items()])
    lines = [
        CauseLine(from_millis(at), owner_id, processor, fingerprint, job_id, videos)
        for (at, owner_id, processor, fingerprint, job_id), videos in ledger.causes.items()
    ]  # also those without a change: that the job met the cause is remembered by its row
    _ADD_CAUSES.execute(connection, lines)


def unnamed(connection: Connection, fingerprints: Iterable[str]) -> set[str]:
    """Return those of the causes whose words are not stored."""
    wanted = set(fingerprints)
    return wanted - {name for (name,) in _KNOWN_CAUSES.fetch(connection, map(CauseWords, wanted))}


def name_causes(connection: Connection, causes: Iterable[CauseWords]) -> None:
    """Store the words of causes."""
    _NAME_CAUSES.execute(connection, causes)
