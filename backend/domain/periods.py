"""The periods of the statistics, and the parts (bins) that their charts show: pure values.

Times are stored in UTC. Nights and days are those of a zone, None for that of the machine: a day on which clocks change
has 23 or 25 hours.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum

from backend.clock import to_millis
from backend.domain.measures import QUARTER_MILLIS, quarter_of
from backend.errors import Invalid

HOUR_MILLIS, DAY_SECONDS = 3_600_000, 86_400
FINE = timedelta(hours=36)  # up to here bins of 15 minutes
HOURLY = timedelta(days=14)  # up to here bins of an hour; then days
KEPT_FINE = timedelta(days=8)  # so long the quarters of an hour are kept apart
MAX_DAYS = 3_660
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


class Period(StrEnum):
    """The periods that have a name."""

    NIGHT = "night"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"
    QUARTER = "90d"


LENGTHS = {
    Period.DAY: timedelta(hours=24),
    Period.WEEK: timedelta(days=7),
    Period.MONTH: timedelta(days=30),
    Period.QUARTER: timedelta(days=90),
}


@dataclass(frozen=True, slots=True)
class Night:
    """The hours of a night: from `begin` to `end` on the next day."""

    begin: int = 18
    end: int = 9


@dataclass(frozen=True, slots=True)
class Span:
    """A period as milliseconds since 1970: its bins by their edges, and the period before, which is as long.

    The last edge is the end of the last bin, which may lie in the future; `end` is the end of what is counted.
    """

    begin: int
    end: int
    before: int
    before_end: int
    bin_seconds: int
    edges: tuple[int, ...]

    @property
    def hours(self) -> float:
        return (self.end - self.begin) / HOUR_MILLIS

    @property
    def hours_before(self) -> float:
        return (self.before_end - self.before) / HOUR_MILLIS

    def bin_of(self, at: int) -> int:
        """Return the place of the bin that has this moment; -1 before the first one."""
        return bisect_right(self.edges, at) - 1


def span_of(period: Period, *, now: datetime, zone: tzinfo | None, night: Night = Night()) -> Span:
    """Return a named period that ends now, or, for a night that is over, with it."""
    if period is Period.NIGHT:
        return _night(now, zone, night)
    return span_between(now - LENGTHS[period], now, now=now, zone=zone)


def span_between(begin: datetime, end: datetime, *, now: datetime, zone: tzinfo | None) -> Span:
    """Return the period between two moments, of whole bins: up to the end of the last one, or now. Raises `Invalid`."""
    end = min(end, now)
    if begin < EARLIEST:
        raise Invalid("from must be after 1999.")
    if begin >= end:
        raise Invalid("from must be before to, and in the past.")
    length = end - begin
    if length > timedelta(days=MAX_DAYS):
        raise Invalid(f"from and to may be at most {MAX_DAYS:,} days apart.")
    if length > HOURLY:
        return _in_days(begin, end, now, zone)
    width = QUARTER_MILLIS if length <= FINE and begin > now - KEPT_FINE else HOUR_MILLIS
    return _in_equal_bins(to_millis(begin), to_millis(end), width, now)


def default_period(now: datetime, *, zone: tzinfo | None) -> Period:
    """Return the period of a page that names none: before noon one asks how the night was."""
    return Period.NIGHT if now.astimezone(zone).hour < 12 else Period.WEEK


def _in_equal_bins(begin: int, end: int, width: int, now: datetime) -> Span:
    begin -= begin % width
    edges = tuple(range(begin, end + width, width))
    end = min(edges[-1], to_millis(now))
    before = begin - (end - begin)
    return Span(begin, end, before - before % width, begin, width // 1000, edges)


def _in_days(begin: datetime, end: datetime, now: datetime, zone: tzinfo | None) -> Span:
    day, edges = begin.astimezone(zone).date(), list[int]()
    while not edges or edges[-1] < to_millis(end):
        edges.append(quarter_of(to_millis(_local(day, 0, zone))))
        day += timedelta(days=1)
    counted_end = min(edges[-1], to_millis(now))
    before = edges[0] - (counted_end - edges[0])
    return Span(edges[0], counted_end, before - before % HOUR_MILLIS, edges[0], DAY_SECONDS, tuple(edges))


def _night(now: datetime, zone: tzinfo | None, night: Night) -> Span:
    """Return the night that runs, or the last one; the period before is as much of the night before."""
    day = now.astimezone(zone).date()
    if _local(day, night.begin, zone) > now:
        day -= timedelta(days=1)
    begin, end = _night_of(day, night, zone)
    span = _in_equal_bins(to_millis(begin), to_millis(min(end, now)), QUARTER_MILLIS, now)
    before = to_millis(_night_of(day - timedelta(days=1), night, zone)[0])
    elapsed = quarter_of(span.end - span.begin + QUARTER_MILLIS - 1)
    return replace(span, before=before, before_end=min(before + elapsed, span.begin))


def _night_of(day: date, night: Night, zone: tzinfo | None) -> tuple[datetime, datetime]:
    ends_on = day if night.end > night.begin else day + timedelta(days=1)
    return _local(day, night.begin, zone), _local(ends_on, night.end, zone)


def _local(day: date, hour: int, zone: tzinfo | None) -> datetime:
    """Return the moment at which clocks of the zone show this hour of the day."""
    shown = datetime.combine(day, time(hour))
    return (shown.astimezone() if zone is None else shown.replace(tzinfo=zone)).astimezone(UTC)
