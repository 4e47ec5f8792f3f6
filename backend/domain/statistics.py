"""The figures of the statistics: what each is, from the tallies. All who show one have it here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from backend.domain import histogram
from backend.domain.measures import MeasureKind, Tally
from backend.domain.periods import HOUR_MILLIS, Span

MIN_SAMPLE = 5  # fewer are too few to say anything
MAX_CAUSES = 10
START, SLOTS = "start", "slots"  # kinds of marks
Sums = Mapping[str, Tally]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, from `n` things; None for too few. `before` is its value in the period before."""

    value: float | None
    n: int
    before: float | None = None


@dataclass(frozen=True, slots=True)
class Bin:
    """A part of the period: its videos by their newest results, and how many seconds these took."""

    begin: int
    end: int
    videos: int
    failed: int
    video_p50: float | None
    video_p95: float | None
    video_p99: float | None
    is_complete: bool


class CauseCount(NamedTuple):
    """One of the commonest causes of failures."""

    fingerprint: str
    error: str
    videos: int
    jobs: int


class Mark(NamedTuple):
    """A moment that explains a change: a start of the server, or another number of slots."""

    at: int
    kind: str
    slots: int


@dataclass(frozen=True, slots=True)
class Now:
    """What only the present knows: how many jobs wait, and for how many seconds the oldest one has."""

    waiting: int = 0
    oldest_waiting_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    """The statistics of a period."""

    span: Span
    figures: Mapping[str, Figure]
    bins: Sequence[Bin]
    causes: Sequence[CauseCount]
    marks: Sequence[Mark] = ()


@dataclass
class Tallies:
    """The tallies of a period: one sum a kind for each bin, and for the period before."""

    span: Span
    bins: list[dict[str, Tally]] = field(default_factory=list)
    before: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))

    def __post_init__(self) -> None:
        self.bins = [defaultdict(Tally) for _ in self.span.edges[1:]]

    def add(self, at: int, kind: str, tally: Tally) -> None:
        """Add the tally of a quarter; one of another time is left out."""
        if self.span.begin <= at < self.span.end:
            self.bins[self.span.bin_of(at)][kind].add(tally)
        elif self.span.before <= at < self.span.before_end:
            self.before[kind].add(tally)

    def whole(self) -> dict[str, Tally]:
        """Return the sums of the period."""
        sums: dict[str, Tally] = defaultdict(Tally)
        for part in self.bins:
            for kind, tally in part.items():
                sums[kind].add(tally)
        return sums


@dataclass(frozen=True, slots=True)
class Sample:
    """All that a figure is made of. `slot_millis` is the time that all slots had, if it is known."""

    sums: Sums
    hours: float
    slot_millis: float = 0.0

    def tally(self, *kinds: MeasureKind) -> Tally:
        """Return the sum of these kinds."""
        whole = Tally()
        for kind in kinds:
            if kind in self.sums:
                whole.add(self.sums[kind])
        return whole

    @property
    def videos(self) -> Tally:
        return self.tally(MeasureKind.OK, MeasureKind.FAILED)


Measured = tuple[float | None, int]


def _percentile(percent: int, *kinds: MeasureKind) -> Callable[[Sample], Measured]:
    def measure(sample: Sample) -> Measured:
        durations = sample.tally(*kinds).histogram
        return histogram.percentile(durations, percent), histogram.total(durations)

    return measure


def _videos(sample: Sample) -> Measured:
    return sample.videos.count, sample.videos.count


def _success_rate(sample: Sample) -> Measured:
    ended = sample.videos.count
    return _ratio(sample.tally(MeasureKind.OK).count, ended), ended


def _videos_per_hour(sample: Sample) -> Measured:
    return _ratio(sample.videos.count, sample.hours), sample.videos.count


def _film_hours_per_hour(sample: Sample) -> Measured:
    good = sample.tally(MeasureKind.OK)
    film_hours = good.film_millis / HOUR_MILLIS
    return (_ratio(film_hours, sample.hours) if film_hours else None), good.count  # 0: no length is known


def _work_per_film_minute(sample: Sample) -> Measured:
    good = sample.tally(MeasureKind.OK)
    return _ratio(60 * good.film_work_millis, good.film_millis), good.count


def _slots_busy(sample: Sample) -> Measured:
    work = sample.tally(MeasureKind.OK, MeasureKind.FAILED, MeasureKind.WORK).work_millis
    busy = _ratio(work, sample.slot_millis)
    return None if busy is None else min(1.0, busy), sample.videos.count


def _retries(sample: Sample) -> Measured:
    return sample.tally(MeasureKind.RETRY).count, sample.videos.count


def _retries_helped(sample: Sample) -> Measured:
    return sample.tally(MeasureKind.HELPED).count, sample.tally(MeasureKind.RETRY).count


def _self_pauses(sample: Sample) -> Measured:
    return sample.tally(MeasureKind.SELF_PAUSE).count, sample.tally(MeasureKind.RUN).count


def _forecast_error(sample: Sample) -> Measured:
    errors = sample.tally(MeasureKind.FORECAST).histogram
    median = histogram.percentile(errors, 50)
    return None if median is None else median / 100, histogram.total(errors)


WAITING = "oldest_waiting_seconds"
MEASURES: Mapping[str, Callable[[Sample], Measured]] = {  # in the order in which they are shown
    "videos": _videos,
    "success_rate": _success_rate,
    "videos_per_hour": _videos_per_hour,
    "film_hours_per_hour": _film_hours_per_hour,
    "wait_p50": _percentile(50, MeasureKind.WAIT),
    "wait_p95": _percentile(95, MeasureKind.WAIT),
    "run_p50": _percentile(50, MeasureKind.RUN),
    "run_p95": _percentile(95, MeasureKind.RUN),
    "video_p50": _percentile(50, MeasureKind.OK, MeasureKind.FAILED),
    "video_p95": _percentile(95, MeasureKind.OK, MeasureKind.FAILED),
    "video_p99": _percentile(99, MeasureKind.OK, MeasureKind.FAILED),
    "work_per_film_minute": _work_per_film_minute,
    "slots_busy": _slots_busy,
    WAITING: lambda _: (None, 0),  # only the present knows it
    "retries": _retries,
    "retries_helped": _retries_helped,
    "self_pauses": _self_pauses,
    "forecast_error_p50": _forecast_error,
}


def figures_of(tallies: Tallies, *, now: Now, slots: SlotTime) -> dict[str, Figure]:
    """Return all figures of the period, and of the one before."""
    span = tallies.span
    here = Sample(tallies.whole(), span.hours, slots.between(span.begin, span.end))
    earlier = Sample(tallies.before, span.hours_before, slots.between(span.before, span.before_end))
    figures = {}
    for name, measure in MEASURES.items():
        value, n = measure(here)
        before, n_before = measure(earlier)
        figures[name] = Figure(_said(value, n), n, _said(before, n_before))
    figures[WAITING] = Figure(now.oldest_waiting_seconds, now.waiting)  # a fact about one job, not a sample
    return figures


def bins_of(tallies: Tallies) -> list[Bin]:
    """Return the parts of the period, oldest first."""
    edges, end = tallies.span.edges, tallies.span.end
    return [
        _bin(begin, upper, Sample(sums, 0.0), is_complete=upper <= end)
        for begin, upper, sums in zip(edges, edges[1:], tallies.bins, strict=False)
    ]


class SlotTime:
    """How much time the slots had: their number from each mark on, which counts from the first thing that happened."""

    def __init__(self, marks: Iterable[Mark], *, since: int | None = None) -> None:
        known = sorted((mark.at, mark.slots) for mark in marks)
        if known and since is not None and since < known[0][0]:
            known.insert(0, (since, known[0][1]))
        self._known = known

    def between(self, begin: int, end: int) -> float:
        """Return the milliseconds of all slots between two moments."""
        ends = (*(at for at, _ in self._known[1:]), end)
        parts = zip(self._known, ends, strict=False)  # none without a mark
        return float(sum(slots * max(0, min(end, until) - max(begin, at)) for (at, slots), until in parts))


def _bin(begin: int, end: int, sample: Sample, *, is_complete: bool) -> Bin:
    def seconds(percent: int) -> float | None:
        return _said(*_percentile(percent, MeasureKind.OK, MeasureKind.FAILED)(sample))

    failed = sample.tally(MeasureKind.FAILED).count
    return Bin(begin, end, sample.videos.count, failed, seconds(50), seconds(95), seconds(99), is_complete)


def _ratio(share: float, whole: float) -> float | None:
    return share / whole if whole else None


def _said(value: float | None, n: int) -> float | None:
    return None if n < MIN_SAMPLE else value
