"""The tallies of the statistics: written with the tick that brings the results, read by time.

A tally is read, added to and written in the transaction of the tick, so that it is true at every moment. A histogram
cannot be added to in SQL, and a row for each bucket would take ten times the room.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from backend.clock import from_millis, to_millis
from backend.domain import histogram
from backend.domain.causes import general_words
from backend.domain.measures import CauseKey, Key, Ledger, Tally, VideoResult
from backend.store import bulk
from backend.store.changes import Tick, VideoChange
from backend.store.rows import RowCodec
from backend.store.tables import CAUSE_ROLLUPS, CAUSES, RESULTS, ROLLUPS

FILM = "duration_seconds"  # in the result of a processor that knows how long the film is
MAX_FILM_SECONDS = 10**7
KEY, SUMS = Key._fields, ("count", "millis", "film_millis", "film_work_millis", "work_millis")
TALLY = ", ".join((*KEY, *SUMS, "histogram"))
FILM_SQL = {
    "sqlite": f"CASE WHEN json_valid(found.result) THEN json_extract(found.result, '$.{FILM}') END",
    "postgresql": f"found.result -> '{FILM}'",
}


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
    def of(cls, key: Key, tally: Tally) -> TallyRow:
        """Return the row of a tally."""
        sums = (getattr(tally, name) for name in SUMS)
        return cls(*_dated(key), *sums, histogram.encoded(tally.histogram))


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
    words: str


@dataclass(frozen=True, slots=True)
class Place:
    """The key of a result."""

    job_id: str
    position: int
    attempt: int


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
_PREVIOUS = {
    dialect: bulk.select(
        RowCodec[Place](RESULTS, ["job_id", "position", "attempt"]),
        f"found.job_id, found.position, found.attempt, found.started_at, found.duration_seconds, "
        f"found.error IS NOT NULL, found.fingerprint, {film}",
    )
    for dialect, film in FILM_SQL.items()
}
_VIDEO_ID = "SELECT video_id FROM video WHERE job_id = {mark} AND position = {mark}"


def add_tick(connection: Connection, tick: Tick) -> None:
    """Count what the tick brings; its results are stored already."""
    results = [change for change in tick.videos if change.has_result]
    if not results and not tick.measures:
        return
    jobs = {job.id: job for job in (*tick.jobs, *(new.job for new in tick.new))}
    previous = _previous(connection, results)
    ledger = Ledger()
    for change in results:
        job = jobs[change.job_id]
        before = previous.get((change.job_id, change.position, change.attempts - 1))
        ledger.add_result(result_of(change), owner_id=job.owner_id, processor=job.processor, previous=before)
    for measure in tick.measures:
        ledger.add_measure(measure)
    add(connection, ledger)
    _name_causes(connection, [change for change in results if change.fingerprint is not None])


def add(connection: Connection, ledger: Ledger) -> None:
    """Add to the stored tallies."""
    keys = [TallyRow(*_dated(key)) for key in ledger.tallies]
    for *key, count, millis, film, film_work, work, buckets in _TALLIES.fetch(connection, keys):
        stored = Tally(count, millis, film, film_work, work, histogram.decoded(bytes(buckets)))
        ledger.tallies[Key(*key)].add(stored)
    _PUT_TALLIES.execute(connection, [TallyRow.of(key, tally) for key, tally in ledger.tallies.items()])
    changed = [(key, videos) for key, videos in ledger.causes.items() if videos]
    _ADD_CAUSES.execute(connection, [CauseLine(*_dated(key), videos) for key, videos in changed])


def result_of(change: VideoChange) -> VideoResult:
    """Return what counts of a result that a tick brings."""
    if change.started_at is None or change.duration_seconds is None:
        raise ValueError("this change brings no result")
    return video_result(
        Place(change.job_id, change.position, change.attempts),
        started_at=to_millis(change.started_at),
        duration_seconds=change.duration_seconds,
        has_failed=change.error is not None,
        fingerprint=change.fingerprint,
        film_seconds=(change.result or {}).get(FILM),
    )


def video_result(
    place: Place,
    *,
    started_at: int,
    duration_seconds: float,
    has_failed: bool,
    fingerprint: str | None,
    film_seconds: object,
) -> VideoResult:
    """Return what counts of a stored result."""
    return VideoResult(
        *(place.job_id, place.position, place.attempt),
        started_at,
        max(0, round(duration_seconds * 1000)),
        has_failed,
        fingerprint if has_failed else None,
        0 if has_failed else _film_millis(film_seconds),
    )


def _film_millis(seconds: object) -> int:
    """Return the length of a film, 0 where a processor gives none: a plug-in may write there what it likes."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_FILM_SECONDS:
        return 0
    return round(seconds * 1000)


def _previous(connection: Connection, results: Sequence[VideoChange]) -> Mapping[tuple[str, int, int], VideoResult]:
    """Return the results that these take the place of, by job, position and attempt."""
    places = [Place(change.job_id, change.position, change.attempts - 1) for change in results if change.attempts > 1]
    found = _PREVIOUS[connection.dialect.name].fetch(connection, places)
    return {
        (job_id, position, attempt): result_of_row(job_id, position, attempt, *rest)
        for job_id, position, attempt, *rest in found
    }


def result_of_row(
    job_id: str,
    position: int,
    attempt: int,
    started_at: int,
    duration_seconds: float,
    has_failed: Any,
    fingerprint: str | None,
    film_seconds: object,
) -> VideoResult:
    """Return what counts of a result, from its row."""
    return video_result(
        Place(job_id, position, attempt),
        started_at=started_at,
        duration_seconds=duration_seconds,
        has_failed=bool(has_failed),
        fingerprint=fingerprint,
        film_seconds=film_seconds,
    )


def _name_causes(connection: Connection, failures: Iterable[VideoChange]) -> None:
    """Store the words of causes that were never met before."""
    new = {change.fingerprint: change for change in failures}
    for (known,) in _KNOWN_CAUSES.fetch(connection, [CauseWords(name, "") for name in new if name]):
        del new[known]
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    for name, change in new.items():
        query = _VIDEO_ID.format(mark=mark)
        video_id = connection.exec_driver_sql(query, (change.job_id, change.position)).scalar() or ""
        name_cause(connection, name or "", change.error or "", video_id)


def name_cause(connection: Connection, fingerprint: str, error: str, video_id: str) -> None:
    """Store the words of a cause, from one of its errors."""
    _NAME_CAUSES.execute(connection, [CauseWords(fingerprint, general_words(error, video_id))])


def _dated(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return (from_millis(key[0]), *key[1:])
