"""What a result of a video, or a change of a job, adds to the statistics: the one definition of what is counted.

Everything counts in the quarter of an hour in which it ended. A video counts once, with its newest result: the next
result takes the one before out of its quarter. The time of the work stays, in the quarters in which it was done.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec

from backend.clock import to_millis
from backend.domain import histogram
from progress_dashboard.protocol import UNFINISHED, Status

QUARTER_MILLIS = 900_000
ENDED_BY_ITSELF = frozenset({Status.COMPLETED, Status.COMPLETED_WITH_ERRORS, Status.FAILED})


class MeasureKind(StrEnum):
    """What a tally counts."""

    OK = "ok"  # videos whose newest result is good
    FAILED = "failed"  # videos whose newest result is a failure
    WORK = "work"  # nothing but the time of work that ended in a later quarter
    RETRY = "retry"  # results of videos that had failed before …
    HELPED = "helped"  # … and good ones among them
    WAIT = "wait"  # jobs that started for the first time; their durations are the waits
    RUN = "run"  # attempts that ended by themselves, and how long they took
    SELF_PAUSE = "self_pause"  # times that a job paused itself
    FORECAST = "forecast"  # forecasts that were judged; 1 % of error counts as 1 s


class VideoResult(msgspec.Struct, frozen=True, array_like=True):
    """What counts of a stored result. A duration of 0 is unknown, and so may be the cause of an old failure."""

    job_id: str
    position: int
    attempt: int
    started_at: int
    millis: int
    has_failed: bool = False
    fingerprint: str | None = None
    film_millis: int = 0

    @property
    def quarter(self) -> int:
        """The quarter in which it ended."""
        return quarter_of(self.started_at + self.millis)


class JobMeasure(msgspec.Struct, frozen=True, array_like=True):
    """Something that happened to a job as a whole: `number` things of a kind, with their duration if they have one."""

    kind: MeasureKind
    at: int
    owner_id: str
    processor: str
    millis: int | None = None
    number: int = 1


class Note(msgspec.Struct, frozen=True, array_like=True):
    """What a tick brings: by job its owner, its processor, and position and attempt of each result; and the measures.

    The results themselves are stored with the same tick. `completed` are external jobs (owner, job, end) that ended
    well, whose good videos have no results.
    """

    jobs: dict[str, tuple[str, str, list[int]]]
    measures: list[JobMeasure]
    completed: list[tuple[str, str, int]] = []


class JobState(Protocol):
    """What counts of the state of a job."""

    @property
    def owner_id(self) -> str: ...
    @property
    def processor(self) -> str: ...
    @property
    def is_external(self) -> bool: ...
    @property
    def status(self) -> Status: ...
    @property
    def attempt(self) -> int: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def started_at(self) -> datetime | None: ...
    @property
    def finished_at(self) -> datetime | None: ...
    @property
    def updated_at(self) -> datetime: ...
    @property
    def pause_reason(self) -> str | None: ...
    @property
    def succeeded(self) -> int: ...


class TallyKey(NamedTuple):
    """What a tally is about; `at` is the beginning of its quarter."""

    at: int
    owner_id: str
    processor: str
    kind: str


class CauseKey(NamedTuple):
    """The failures of one cause in one job, in one quarter."""

    at: int
    owner_id: str
    processor: str
    fingerprint: str
    job_id: str


@dataclass(slots=True)
class Tally:
    """A sum: how many, their time together, and how often each duration. Times are in milliseconds.

    `film_millis` is the length of the films whose length is known, `film_work_millis` the time of the work on these,
    `work_millis` all work within the quarter.
    """

    count: int = 0
    millis: int = 0
    film_millis: int = 0
    film_work_millis: int = 0
    work_millis: int = 0
    histogram: int = 0

    def add(self, other: Tally) -> None:
        """Add what another one counts."""
        self.count += other.count
        self.millis += other.millis
        self.film_millis += other.film_millis
        self.film_work_millis += other.film_work_millis
        self.work_millis += other.work_millis
        self.histogram += other.histogram


class Ledger:
    """What some results and changes add to the tallies."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[int, str, str, str], Tally] = defaultdict(Tally)  # by `TallyKey`
        self.causes: dict[tuple[int, str, str, str, str], int] = defaultdict(int)  # by `CauseKey`

    def add_result(
        self, result: VideoResult, *, owner_id: str, processor: str, previous: VideoResult | None = None
    ) -> None:
        """Count a video's newest result instead of its `previous` one."""
        tally = self._count(result, owner_id, processor, 1)
        quarter = quarter_of(result.started_at)
        if quarter == result.quarter:
            tally.work_millis += result.millis
        else:
            self._share_work(result, owner_id, processor, tally)
        if previous is None:
            return
        self._count(previous, owner_id, processor, -1)
        if previous.has_failed:
            self.tallies[(result.quarter, owner_id, processor, MeasureKind.RETRY)].count += 1
            if not result.has_failed:
                self.tallies[(result.quarter, owner_id, processor, MeasureKind.HELPED)].count += 1

    def add_measure(self, measure: JobMeasure) -> None:
        """Count something that happened to a job as a whole."""
        tally = self.tallies[(quarter_of(measure.at), measure.owner_id, measure.processor, measure.kind)]
        tally.count += measure.number
        if measure.millis is not None:
            tally.millis += measure.millis
            tally.histogram += histogram.one(measure.millis)

    def _count(self, result: VideoResult, owner_id: str, processor: str, sign: int) -> Tally:
        kind = MeasureKind.FAILED if result.has_failed else MeasureKind.OK
        quarter, millis = result.quarter, result.millis
        tally = self.tallies[(quarter, owner_id, processor, kind)]
        tally.count += sign
        tally.millis += sign * millis
        if millis:
            tally.histogram += sign * histogram.one(millis)
        if result.film_millis:
            tally.film_millis += sign * result.film_millis
            tally.film_work_millis += sign * millis
        if result.fingerprint is not None:
            self.causes[(quarter, owner_id, processor, result.fingerprint, result.job_id)] += sign
        return tally

    def _share_work(self, result: VideoResult, owner_id: str, processor: str, last: Tally) -> None:
        for quarter, millis in _shares(result.started_at, result.millis):
            is_last = quarter == result.quarter
            tally = last if is_last else self.tallies[(quarter, owner_id, processor, MeasureKind.WORK)]
            tally.work_millis += millis


def job_measures(earlier: JobState | None, job: JobState) -> Iterator[JobMeasure]:
    """Yield what the next state of a job adds, each thing once in its life.

    The successes of an external job count at its end, however it ends, since nothing is known of each.
    """
    if _starts_for_the_first_time(earlier, job) and job.started_at is not None:
        yield _measure(MeasureKind.WAIT, job, job.started_at, since=job.created_at)
    if job.status not in UNFINISHED and (earlier is None or earlier.status in UNFINISHED):
        yield from _measures_of_end(job)
    if job.status is Status.PAUSED and job.pause_reason and (earlier is None or earlier.status is not Status.PAUSED):
        yield _measure(MeasureKind.SELF_PAUSE, job, job.updated_at)


def quarter_of(millis: int) -> int:
    """Return the beginning of the quarter of an hour of a moment."""
    return millis - millis % QUARTER_MILLIS


def _starts_for_the_first_time(earlier: JobState | None, job: JobState) -> bool:
    is_start = job.started_at is not None and (earlier is None or earlier.started_at is None)
    return is_start and job.attempt == 1 and not job.is_external  # what is external waits for its sender, not for us


def _measures_of_end(job: JobState) -> Iterator[JobMeasure]:
    ended_at = job.finished_at or job.updated_at
    if job.status in ENDED_BY_ITSELF and job.started_at is not None:
        yield _measure(MeasureKind.RUN, job, ended_at, since=job.started_at)
    if job.is_external and job.succeeded > 0:
        yield _measure(MeasureKind.OK, job, ended_at, number=job.succeeded)


def _measure(
    kind: MeasureKind, job: JobState, at: datetime, *, since: datetime | None = None, number: int = 1
) -> JobMeasure:
    moment = to_millis(at)
    millis = None if since is None else max(0, moment - to_millis(since))
    return JobMeasure(kind, moment, job.owner_id, job.processor, millis, number)


def _shares(started_at: int, millis: int) -> Iterator[tuple[int, int]]:
    """Yield the quarters of some work, each with its share of the time."""
    begin, end = started_at, started_at + millis
    while begin < end:
        quarter = quarter_of(begin)
        share = min(end, quarter + QUARTER_MILLIS) - begin
        yield quarter, share
        begin += share
