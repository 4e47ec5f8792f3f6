"""What the route of the statistics gives, as types; the comment above a field is its description in OpenAPI."""

from __future__ import annotations

import msgspec

from backend.api.types import Timestamp
from backend.clock import iso_of_millis
from backend.domain.statistics import Bin, Statistics


class FigureOut(msgspec.Struct):
    """A figure of the statistics."""

    # null for fewer than 5, and where nothing is known.
    value: float | None
    # How many things it is made of.
    n: int
    # The same figure of the period before, which is as long.
    before: float | None


class FiguresOut(msgspec.Struct):
    """The figures of a period. Durations are in seconds; percentiles are at most 5 % beside the exact ones."""

    # Videos with a result, by their newest one.
    videos: FigureOut
    # From 0 to 1: good ones among these.
    success_rate: FigureOut
    videos_per_hour: FigureOut
    # Hours of film in good videos, an hour; null if no length of a film is known.
    film_hours_per_hour: FigureOut
    # From handing in to starting: half of the jobs waited no longer.
    wait_p50: FigureOut
    wait_p95: FigureOut
    # From starting to the end, of every attempt that ended by itself.
    run_p50: FigureOut
    run_p95: FigureOut
    # Of each video's newest result.
    video_p50: FigureOut
    video_p95: FigureOut
    video_p99: FigureOut
    # Seconds of work a minute of film.
    work_per_film_minute: FigureOut
    # From 0 to 1: the share of the slots' time that went into results.
    slots_busy: FigureOut
    # Now: how long the oldest waiting job has waited; n is how many wait. Said for fewer than 5, too.
    oldest_waiting_seconds: FigureOut
    # Videos that were tried again after a failed result.
    retries: FigureOut
    # Those of them that then succeeded; n is the number of retries.
    retries_helped: FigureOut
    # How often a job paused itself; n is the number of runs.
    self_pauses: FigureOut
    # By how much forecasts at a quarter of the job were off, as a share of the time that was left (median).
    forecast_error_p50: FigureOut


class BinOut(msgspec.Struct, rename={"begin": "from", "end": "to"}):
    """A part of the period."""

    begin: Timestamp
    end: Timestamp
    videos: int
    failed: int
    # Seconds; null for fewer than 5 videos.
    video_p50: float | None
    video_p95: float | None
    # False for the newest one while time goes on in it.
    complete: bool


class CauseCountOut(msgspec.Struct):
    """One of the ten commonest causes of failures."""

    fingerprint: str
    # Its words, with … for names and quantities.
    error: str
    videos: int
    jobs: int


class StatsOut(msgspec.Struct, rename={"begin": "from", "end": "to"}):
    """The statistics of a period. A video counts once, with its newest result, when that came."""

    begin: Timestamp
    end: Timestamp
    bin_seconds: int
    figures: FiguresOut
    bins: list[BinOut]
    causes: list[CauseCountOut]

    @classmethod
    def of(cls, statistics: Statistics) -> StatsOut:
        """Return the answer for the statistics of a period."""
        span = statistics.span
        figures = {name: FigureOut(fact.value, fact.n, fact.before) for name, fact in statistics.figures.items()}
        return cls(
            begin=iso_of_millis(span.begin),
            end=iso_of_millis(span.end),
            bin_seconds=span.bin_seconds,
            figures=FiguresOut(**figures),
            bins=[_bin_out(part) for part in statistics.bins],
            causes=[CauseCountOut(*cause) for cause in statistics.causes],
        )


def _bin_out(part: Bin) -> BinOut:
    return BinOut(
        begin=iso_of_millis(part.begin),
        end=iso_of_millis(part.end),
        videos=part.videos,
        failed=part.failed,
        video_p50=part.video_p50,
        video_p95=part.video_p95,
        complete=part.is_complete,
    )
