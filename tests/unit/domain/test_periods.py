"""Periods and their bins, in UTC and in zones whose clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.clock import from_millis, iso, to_millis
from backend.domain.measures import QUARTER_MILLIS
from backend.domain.periods import HOUR_MILLIS, Night, Period, Span, default_period, span_between, span_of
from backend.errors import Invalid

BERLIN, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")
NOW = datetime(2026, 1, 31, 12, 7, 30, tzinfo=UTC)
ZONES = [UTC, BERLIN, KOLKATA, ZoneInfo("America/New_York")]


def shown(span: Span) -> tuple[str, str, int, int]:
    """Return begin, end, bin size and number of bins."""
    return iso(from_millis(span.begin)), iso(from_millis(span.end)), span.bin_seconds, len(span.edges) - 1


@pytest.mark.parametrize(
    ("period", "begin", "bin_seconds", "bins"),
    [
        (Period.DAY, "2026-01-30T12:00:00.000Z", 900, 97),
        (Period.WEEK, "2026-01-24T12:00:00.000Z", 3600, 169),
        (Period.MONTH, "2026-01-01T00:00:00.000Z", 86400, 31),
        (Period.QUARTER, "2025-11-02T00:00:00.000Z", 86400, 91),
    ],
)
def test_named_periods_end_now(period: Period, begin: str, bin_seconds: int, bins: int) -> None:
    assert shown(span_of(period, now=NOW, zone=UTC)) == (begin, iso(NOW), bin_seconds, bins)


@pytest.mark.parametrize(
    ("now", "begin", "end"),
    [
        ("2026-01-31T07:30:00Z", "2026-01-30T18:00:00.000Z", "2026-01-31T07:30:00.000Z"),  # it still runs
        ("2026-01-31T12:00:00Z", "2026-01-30T18:00:00.000Z", "2026-01-31T09:00:00.000Z"),
        ("2026-01-31T18:20:00Z", "2026-01-31T18:00:00.000Z", "2026-01-31T18:20:00.000Z"),
    ],
)
def test_the_last_night_is_the_one_that_runs_or_was(now: str, begin: str, end: str) -> None:
    span = span_of(Period.NIGHT, now=datetime.fromisoformat(now), zone=UTC)
    assert shown(span)[:2] == (begin, end)
    assert from_millis(span.before) == datetime.fromisoformat(begin) - timedelta(days=1)


def test_a_night_may_lie_within_one_day() -> None:
    span = span_of(Period.NIGHT, now=NOW, zone=UTC, night=Night(0, 6))
    assert shown(span)[:2] == ("2026-01-31T00:00:00.000Z", "2026-01-31T06:00:00.000Z")


def test_a_night_is_that_of_the_zone() -> None:
    span = span_of(Period.NIGHT, now=NOW, zone=BERLIN)
    assert shown(span)[:2] == ("2026-01-30T17:00:00.000Z", "2026-01-31T08:00:00.000Z")


def test_the_night_before_is_as_long_as_this_one_so_far() -> None:
    span = span_of(Period.NIGHT, now=datetime(2026, 1, 31, 1, 5, tzinfo=UTC), zone=UTC)
    assert span.before_end - span.before == 7 * HOUR_MILLIS + QUARTER_MILLIS  # 7 h 5 min, in whole quarters


@pytest.mark.parametrize(("month", "day", "hours"), [(3, 29, 23), (10, 25, 25)])
def test_a_day_with_a_clock_change_has_its_own_length(month: int, day: int, hours: int) -> None:
    now = datetime(2026, month, day, 22, 30, tzinfo=UTC) + timedelta(days=1)
    span = span_of(Period.MONTH, now=now, zone=BERLIN)
    lengths = {
        from_millis(begin).astimezone(BERLIN).date(): (end - begin) / HOUR_MILLIS for begin, end in pairwise(span.edges)
    }
    assert lengths[date(2026, month, day)] == hours
    assert {length for found, length in lengths.items() if found != date(2026, month, day)} == {24}


def test_days_of_a_zone_with_half_an_hour_begin_at_its_midnight() -> None:
    span = span_of(Period.MONTH, now=NOW, zone=KOLKATA)
    assert {from_millis(edge).astimezone(KOLKATA).strftime("%H:%M") for edge in span.edges} == {"00:00"}


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001  zones follow
    st.timedeltas(timedelta(minutes=1), timedelta(days=400)),
    st.sampled_from(ZONES),
)
def test_bins_cover_the_period_without_gaps(now: datetime, length: timedelta, zone: ZoneInfo) -> None:
    end = now.replace(tzinfo=UTC)
    span = span_between(end - length, end, now=end, zone=zone)
    assert span.begin <= to_millis(end - length)
    assert span.edges[0] == span.begin
    assert span.edges[-2] < span.end <= span.edges[-1]
    assert list(span.edges) == sorted(set(span.edges))
    assert all(edge % QUARTER_MILLIS == 0 for edge in (*span.edges, span.before, span.before_end))
    assert span.before < span.before_end <= span.begin
    assert [span.bin_of(edge) for edge in span.edges[:-1]] == list(range(len(span.edges) - 1))


def test_quarters_are_shown_only_while_they_are_kept() -> None:
    def bins(days_ago: int) -> int:
        end = NOW - timedelta(days=days_ago)
        return span_between(end - timedelta(hours=6), end, now=NOW, zone=UTC).bin_seconds

    assert (bins(2), bins(9)) == (900, 3600)


@pytest.mark.parametrize(
    ("minutes", "end", "bin_seconds"),
    [(10, "2026-01-30T12:30:00.000Z", 900), (3_000, "2026-02-01T15:00:00.000Z", 3600)],
)
def test_a_period_of_the_past_ends_with_its_last_bin(minutes: int, end: str, bin_seconds: int) -> None:
    """All that is counted of its last quarter of an hour is within it, so that rates are true."""
    begin = NOW - timedelta(days=1)
    span = span_between(begin, begin + timedelta(minutes=minutes), now=NOW + timedelta(days=3), zone=UTC)
    assert shown(span)[:3] == ("2026-01-30T12:00:00.000Z", end, bin_seconds)
    assert span.end == span.edges[-1]


def test_a_month_of_the_past_ends_with_its_last_day() -> None:
    end = datetime(2026, 1, 20, 23, 59, 59, tzinfo=UTC)
    span = span_between(end - timedelta(days=20), end, now=NOW, zone=BERLIN)
    assert shown(span)[1:3] == ("2026-01-21T23:00:00.000Z", 86400)
    assert span.end == span.edges[-1]


def test_a_period_does_not_reach_into_the_future() -> None:
    span = span_between(NOW - timedelta(hours=1), NOW + timedelta(days=3), now=NOW, zone=UTC)
    assert from_millis(span.end) == NOW.replace(microsecond=0)


@pytest.mark.parametrize(
    ("begin", "end", "words"),
    [
        (NOW, NOW, "before to"),
        (NOW + timedelta(days=1), NOW + timedelta(days=2), "in the past"),
        (NOW - timedelta(days=4000), NOW, "3,660 days"),
        (datetime(1980, 1, 1, tzinfo=UTC), NOW, "after 1999"),
    ],
)
def test_impossible_periods_are_refused_in_words(begin: datetime, end: datetime, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        span_between(begin, end, now=NOW, zone=UTC)


@pytest.mark.parametrize(("hour", "period"), [(8, Period.NIGHT), (14, Period.WEEK)])
def test_before_noon_one_asks_for_the_night(hour: int, period: Period) -> None:
    assert default_period(datetime(2026, 1, 31, hour, tzinfo=UTC), zone=UTC) is period
