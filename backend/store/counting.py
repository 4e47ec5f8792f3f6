"""Counts for the statistics what ticks brought, a little later: a tick only notes it, in its transaction.

The notes are counted, and go, in one transaction: nothing counts twice or not at all, whatever is killed when.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, select, text

from backend.clock import to_millis
from backend.domain.job import Job
from backend.domain.judgement import JUDGED_STAGE, SaidForecast
from backend.domain.measures import JobMeasure, Ledger, MeasureKind, Note, VideoResult
from backend.store import bulk, failing
from backend.store.changes import Tick
from backend.store.failing import Outcomes
from backend.store.rollups import CauseWords, add, name_causes, unnamed
from backend.store.rows import RowCodec
from backend.store.tables import FORECASTS, RESULTS, VIDEOS
from progress_dashboard.protocol import Status

NOTES_AT_ONCE = 100
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
    dialect: f"INSERT INTO uncounted (number, body) SELECT coalesce(max(number), 0) + 1, {mark} FROM uncounted"  # noqa: S608
    for dialect, mark in (("sqlite", "?"), ("postgresql", "%s"))
}
_NOTES = text("SELECT number, body FROM uncounted ORDER BY number LIMIT :limit")
_DELETE = text("DELETE FROM uncounted WHERE number <= :last")
_ERROR = text(
    "SELECT result.error, video.video_id FROM result "
    "LEFT JOIN video ON video.job_id = result.job_id AND video.position = result.position "
    "WHERE result.job_id = :job_id AND result.position = :position AND result.attempt = :attempt"
)
_ENCODER, _DECODER = msgspec.json.Encoder(), msgspec.json.Decoder(Note)


@dataclass(frozen=True, slots=True)
class Place:
    """The key of a result."""

    job_id: str
    position: int
    attempt: int


_RESULTS = {
    dialect: bulk.select(RowCodec[Place](RESULTS, ["job_id", "position", "attempt"]), RESULT_SQL.format(film=film))
    for dialect, film in FILM_SQL.items()
}
_VIDEO_IDS = bulk.select(
    RowCodec[Place](VIDEOS, ["job_id", "position"]), "found.job_id, found.position, found.video_id"
)


@dataclass(frozen=True, slots=True)
class Counted:
    """What the notes up to `last` add, what fails since, and the words of causes that were never met before."""

    last: int
    ledger: Ledger
    outcomes: Outcomes
    causes: Sequence[CauseWords]


def note(connection: Connection, tick: Tick) -> None:
    """Note what the tick brings to the statistics: where its results are, which are stored with it."""
    places: dict[str, list[int]] = {}
    for change in tick.videos:
        if change.duration_seconds is not None:
            places.setdefault(change.job_id, []).extend((change.position, change.attempts))
    jobs = {
        job.id: (job.owner_id, job.processor, places[job.id])
        for job in (*tick.jobs, *(new.job for new in tick.new))
        if job.id in places
    }
    completed = [(job.owner_id, job.id, to_millis(job.updated_at)) for job in tick.jobs if completes_the_rest(job)]
    if not (jobs or tick.measures or completed):
        return
    body = _ENCODER.encode(Note(jobs, list(tick.measures), completed)).decode()
    driver: Any = connection.connection.dbapi_connection  # this runs in every tick: SQLAlchemy would cost most of it
    driver.execute(_NOTE[connection.dialect.name], (body,))


def read_notes(connection: Connection) -> Counted | None:
    """Return what the oldest notes add; None without any."""
    rows = connection.execute(_NOTES, {"limit": NOTES_AT_ONCE}).all()
    if not rows:
        return None
    notes, ledger = [_DECODER.decode(row.body) for row in rows], Ledger()
    places = [place for noted in notes for place in _places(noted)]
    results, outcomes = _results(connection, places), Outcomes()
    video_ids = {(job_id, position): name for job_id, position, name in _VIDEO_IDS.fetch(connection, places)}
    for noted in notes:
        for place in _places(noted):
            owner_id, processor, _ = noted.jobs[place.job_id]
            before = results.get((place.job_id, place.position, place.attempt - 1))
            result = results.get((place.job_id, place.position, place.attempt))
            if result is None:
                continue  # rows of the job were deleted by hand
            ledger.add_result(result, owner_id=owner_id, processor=processor, previous=before)
            outcomes.add(
                result, owner_id=owner_id, video_id=video_ids.get((place.job_id, place.position)), previous=before
            )
        outcomes.completed += noted.completed
        for measure in noted.measures:
            ledger.add_measure(measure)
    failing.tell_new_jobs(connection, outcomes)
    return Counted(rows[-1].number, ledger, outcomes, list(_new_causes(connection, results.values())))


def count(connection: Connection, counted: Counted) -> None:
    """Add what the notes bring, and delete them."""
    connection.execute(_DELETE, {"last": counted.last})
    add(connection, counted.ledger)
    failing.write(connection, counted.outcomes)
    name_causes(connection, counted.causes)


def judged_measures(
    connection: Connection, job_id: str, owner_id: str, *only: ColumnElement[bool]
) -> Iterator[JobMeasure]:
    """Yield what the judged forecasts of a job, or `only` some of them, are in the statistics: 1 % counts as 1 s."""
    judged = (FORECASTS.c.job_id == job_id, FORECASTS.c.stage == JUDGED_STAGE, FORECASTS.c.ended_at.is_not(None))
    for row in connection.execute(select(FORECASTS).where(*judged, *only)).all():
        said = SaidForecast(**row._mapping)
        if said.ended_at is not None and said.error is not None:
            millis = round(100_000 * said.error)
            yield JobMeasure(MeasureKind.FORECAST, to_millis(said.ended_at), owner_id, said.processor, millis)


def completes_the_rest(job: Job) -> bool:
    """Return True if the end of an external job also completes its videos without a report."""
    return job.is_external and job.status in (Status.COMPLETED, Status.COMPLETED_WITH_ERRORS)


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


def _film_millis(seconds: object) -> int:
    """Return the length of a film, 0 where a processor gives none: a plug-in may write there what it likes."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_FILM_SECONDS:
        return 0
    return round(seconds * 1000)


def _places(noted: Note) -> Iterator[Place]:
    for job_id, (_, _, numbers) in noted.jobs.items():
        for position, attempt in zip(numbers[::2], numbers[1::2], strict=True):
            yield Place(job_id, position, attempt)


def _results(connection: Connection, places: Sequence[Place]) -> Mapping[tuple[str, int, int], VideoResult]:
    """Return these results, and those that they take the place of, by job, position and attempt."""
    earlier = [Place(place.job_id, place.position, place.attempt - 1) for place in places if place.attempt > 1]
    rows: list[Any] = _RESULTS[connection.dialect.name].fetch(connection, [*places, *earlier])
    return {(row[0], row[1], row[2]): result_of_row(*row) for row in rows}


def _new_causes(connection: Connection, results: Iterable[VideoResult]) -> Iterator[CauseWords]:
    """Yield the causes whose words are not stored, each from a result that met it."""
    failures = {result.fingerprint: result for result in results if result.fingerprint}
    for fingerprint in unnamed(connection, [name for name in failures if name]):
        place = failures[fingerprint]
        key = {"job_id": place.job_id, "position": place.position, "attempt": place.attempt}
        if found := connection.execute(_ERROR, key).one_or_none():
            yield CauseWords.of(fingerprint, found.error, found.video_id or "")
