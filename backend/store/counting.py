"""Counts for the statistics what ticks brought, a little later: a tick only notes it, in its transaction.

The notes are counted, and go, in one transaction: nothing counts twice or not at all, whatever is killed when.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from backend.clock import to_millis
from backend.domain.measures import Entry, Ledger, VideoResult
from backend.store import bulk
from backend.store.changes import Tick, VideoChange
from backend.store.rollups import CauseWords, add, name_causes, unnamed
from backend.store.rows import RowCodec
from backend.store.tables import RESULTS

NOTES_AT_ONCE = 200
FILM = "duration_seconds"  # in the result of a processor that knows how long the film is
MAX_FILM_SECONDS = 10**7
FILM_SQL = {
    "sqlite": f"CASE WHEN json_valid(found.result) THEN json_extract(found.result, '$.{FILM}') END",
    "postgresql": f"found.result -> '{FILM}'",
}
RESULT_SQL = (
    "found.job_id, found.position, found.attempt, found.started_at, found.duration_seconds, "
    "found.error IS NOT NULL, found.fingerprint, {film}"
)
_NOTE = {
    "sqlite": "INSERT INTO uncounted (seq, body) VALUES (?, ?)",
    "postgresql": "INSERT INTO uncounted (seq, body) VALUES (%s, %s)",
}
_NOTES = text("SELECT seq, body FROM uncounted ORDER BY seq LIMIT :limit")
_DELETE = text("DELETE FROM uncounted WHERE seq <= :last")
_ERROR = text(
    "SELECT result.error, video.video_id FROM result "
    "LEFT JOIN video ON video.job_id = result.job_id AND video.position = result.position "
    "WHERE result.job_id = :job_id AND result.position = :position AND result.attempt = :attempt"
)
_ENCODER, _DECODER = msgspec.json.Encoder(), msgspec.json.Decoder(Entry)


@dataclass(frozen=True, slots=True)
class Place:
    """The key of a result."""

    job_id: str
    position: int
    attempt: int


_PREVIOUS = {
    dialect: bulk.select(RowCodec[Place](RESULTS, ["job_id", "position", "attempt"]), RESULT_SQL.format(film=film))
    for dialect, film in FILM_SQL.items()
}


@dataclass(frozen=True, slots=True)
class Counted:
    """What the notes up to `last` add, and the words of causes that were never met before."""

    last: int
    ledger: Ledger
    causes: Sequence[CauseWords]


def note(connection: Connection, tick: Tick) -> None:
    """Note what the tick brings to the statistics."""
    results = [_result_of(change) for change in tick.videos if change.duration_seconds is not None]
    if not results and not tick.measures:
        return
    jobs = {job.id: (job.owner_id, job.processor) for job in (*tick.jobs, *(new.job for new in tick.new))}
    entry = Entry({result.job_id: jobs[result.job_id] for result in results}, results, list(tick.measures))
    body = _ENCODER.encode(entry).decode()
    connection.exec_driver_sql(_NOTE[connection.dialect.name], (tick.last_seq, body))


def read_notes(connection: Connection) -> Counted | None:
    """Return what the oldest notes add; None without any."""
    rows = connection.execute(_NOTES, {"limit": NOTES_AT_ONCE}).all()
    if not rows:
        return None
    entries, ledger = [_DECODER.decode(row.body) for row in rows], Ledger()
    previous = _previous(connection, [result for entry in entries for result in entry.results])
    for entry in entries:
        for result in entry.results:
            owner_id, processor = entry.jobs[result.job_id]
            before = previous.get((result.job_id, result.position, result.attempt - 1))
            ledger.add_result(result, owner_id=owner_id, processor=processor, previous=before)
        for measure in entry.measures:
            ledger.add_measure(measure)
    return Counted(rows[-1].seq, ledger, list(_new_causes(connection, entries)))


def count(connection: Connection, counted: Counted) -> None:
    """Add what the notes bring, and delete them."""
    connection.execute(_DELETE, {"last": counted.last})
    add(connection, counted.ledger)
    name_causes(connection, counted.causes)


def result_of_row(
    job_id: str,
    position: int,
    attempt: int,
    started_at: int,
    duration_seconds: float,
    has_failed: object,
    fingerprint: str | None,
    film_seconds: object,
) -> VideoResult:
    """Return what counts of a result, from its row (`RESULT_SQL`)."""
    failed = bool(has_failed)
    return VideoResult(
        job_id,
        position,
        attempt,
        started_at,
        max(0, round(duration_seconds * 1000)),
        failed,
        fingerprint if failed else None,
        0 if failed else _film_millis(film_seconds),
    )


def _result_of(change: VideoChange) -> VideoResult:
    """Return what counts of a result that a tick brings."""
    if change.started_at is None or change.duration_seconds is None:
        raise ValueError("this change brings no result")
    return result_of_row(
        *(change.job_id, change.position, change.attempts, to_millis(change.started_at), change.duration_seconds),
        *(change.error is not None, change.fingerprint, change.result and change.result.get(FILM)),
    )


def _film_millis(seconds: object) -> int:
    """Return the length of a film, 0 where a processor gives none: a plug-in may write there what it likes."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_FILM_SECONDS:
        return 0
    return round(seconds * 1000)


def _previous(connection: Connection, results: Sequence[VideoResult]) -> Mapping[tuple[str, int, int], VideoResult]:
    """Return the results that these take the place of, by job, position and attempt."""
    places = [Place(result.job_id, result.position, result.attempt - 1) for result in results if result.attempt > 1]
    rows: list[Any] = _PREVIOUS[connection.dialect.name].fetch(connection, places)
    return {(row[0], row[1], row[2]): result_of_row(*row) for row in rows}


def _new_causes(connection: Connection, entries: Sequence[Entry]) -> Iterator[CauseWords]:
    """Yield the causes whose words are not stored, from the first result that met each."""
    failures = {result.fingerprint: result for entry in entries for result in entry.results if result.fingerprint}
    for fingerprint in unnamed(connection, [name for name in failures if name]):
        place = failures[fingerprint]
        key = {"job_id": place.job_id, "position": place.position, "attempt": place.attempt}
        if found := connection.execute(_ERROR, key).one_or_none():
            yield CauseWords.of(fingerprint, found.error, found.video_id or "")
