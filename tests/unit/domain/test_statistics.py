"""The figures from tallies: values, samples, too few, the period before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backend.clock import to_millis
from backend.domain import histogram
from backend.domain.measures import MeasureKind, Tally, quarter_of
from backend.domain.periods import Period, span_of
from backend.domain.statistics import MEASURES, Mark, Now, SlotTime, Tallies, bins_of, figures_of

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
SPAN = span_of(Period.DAY, now=NOW, zone=UTC)
HOUR = 3_600_000


def a_tally(number: int, millis: int, **given: int) -> Tally:
    """Return a tally of this number of equal durations."""
    return Tally(number, number * millis, histogram=number * histogram.one(millis), **given)


def tallies(*counted: tuple[timedelta, MeasureKind, Tally]) -> Tallies:
    """Return the tallies of the day that ends now; each was counted so long ago."""
    made = Tallies(SPAN)
    for ago, kind, tally in counted:
        made.add(quarter_of(to_millis(NOW - ago)), kind, tally)
    return made


def figures(
    *counted: tuple[timedelta, MeasureKind, Tally], slots: int = 2
) -> dict[str, tuple[float | None, int, float | None]]:
    """Return value, n and the value before of each figure."""
    time = SlotTime([Mark(SPAN.before, "start", slots)])
    found = figures_of(tallies(*counted), now=Now(), slots=time)
    return {name: (figure.value, figure.n, figure.before) for name, figure in found.items()}


AN_HOUR, A_DAY = timedelta(hours=1), timedelta(hours=25)


def test_fewer_than_five_are_too_few_and_counted() -> None:
    four = figures((AN_HOUR, MeasureKind.OK, a_tally(4, 1000)))
    assert four["videos"] == (None, 4, None)
    assert four["success_rate"] == (None, 4, None)
    assert figures((AN_HOUR, MeasureKind.OK, a_tally(5, 1000)))["videos"] == (5, 5, None)


def test_the_success_rate_is_of_all_videos() -> None:
    counted = figures((AN_HOUR, MeasureKind.OK, a_tally(30, 1000)), (AN_HOUR, MeasureKind.FAILED, a_tally(10, 1000)))
    assert counted["success_rate"] == (0.75, 40, None)


def test_rates_are_over_the_whole_period() -> None:
    counted = figures((AN_HOUR, MeasureKind.OK, a_tally(48, 1000, film_millis=12 * HOUR, film_work_millis=48_000)))
    assert counted["videos_per_hour"][0] == pytest.approx(2)
    assert counted["film_hours_per_hour"][0] == pytest.approx(0.5)
    assert counted["work_per_film_minute"][0] == pytest.approx(48 / 720)


def test_films_of_unknown_length_are_not_said_to_have_none() -> None:
    counted = figures((AN_HOUR, MeasureKind.OK, a_tally(48, 1000)))
    assert counted["film_hours_per_hour"] == counted["work_per_film_minute"] == (None, 48, None)


def test_the_period_before_has_the_same_figures() -> None:
    counted = figures((AN_HOUR, MeasureKind.OK, a_tally(10, 1000)), (A_DAY, MeasureKind.OK, a_tally(20, 8000)))
    assert counted["videos"] == (10, 10, 20)
    assert counted["video_p50"][2] == pytest.approx(8, rel=0.05)


def test_what_is_older_than_both_periods_is_left_out() -> None:
    assert figures((timedelta(hours=49), MeasureKind.OK, a_tally(50, 1000)))["videos"] == (None, 0, None)


def test_retries_count_against_the_videos_and_helping_ones_against_the_retries() -> None:
    counted = figures(
        (AN_HOUR, MeasureKind.OK, a_tally(90, 1000)),
        (AN_HOUR, MeasureKind.RETRY, Tally(8)),
        (AN_HOUR, MeasureKind.HELPED, Tally(6)),
    )
    assert counted["retries"] == (8, 90, None)
    assert counted["retries_helped"] == (6, 8, None)


def test_no_self_pause_in_many_runs_is_known_to_be_none() -> None:
    assert figures((AN_HOUR, MeasureKind.RUN, a_tally(9, 60_000)))["self_pauses"] == (0, 9, None)


def test_forecasts_are_scored_by_the_median_of_their_errors() -> None:
    errors = Tally(7, histogram=6 * histogram.one(8_000) + histogram.one(90_000))  # 8 % and 90 %
    value, n, _ = figures((AN_HOUR, MeasureKind.FORECAST, errors))["forecast_error_p50"]
    assert value == pytest.approx(0.08, rel=0.05)
    assert n == 7


def test_slots_are_busy_for_the_share_of_their_time() -> None:
    counted = figures((AN_HOUR, MeasureKind.OK, a_tally(9, 1000, work_millis=12 * HOUR)), slots=2)
    assert counted["slots_busy"][0] == pytest.approx(0.25)


def test_the_slots_of_before_the_first_mark_are_those_of_the_first_mark() -> None:
    marks = [Mark(10 * HOUR, "start", 4), Mark(20 * HOUR, "slots", 2)]
    assert SlotTime(marks, since=5 * HOUR).between(0, 30 * HOUR) == 15 * 4 * HOUR + 10 * 2 * HOUR
    assert SlotTime(marks).between(0, 30 * HOUR) == 10 * 4 * HOUR + 10 * 2 * HOUR
    assert SlotTime([]).between(0, 30 * HOUR) == 0


def test_without_known_slots_nothing_is_said_of_them() -> None:
    found = figures_of(tallies((AN_HOUR, MeasureKind.OK, a_tally(9, 1000))), now=Now(), slots=SlotTime([]))
    assert found["slots_busy"].value is None


def test_one_waiting_job_is_enough_to_say_how_long_it_waits() -> None:
    found = figures_of(tallies(), now=Now(1, 4000.0), slots=SlotTime([]))["oldest_waiting_seconds"]
    assert (found.value, found.n) == (4000.0, 1)


def test_bins_add_up_and_only_the_newest_is_unfinished() -> None:
    now = NOW + timedelta(minutes=4)
    made = Tallies(span_of(Period.DAY, now=now, zone=UTC))
    for hours in range(1, 20):
        made.add(quarter_of(to_millis(NOW - timedelta(hours=hours))), MeasureKind.OK, a_tally(hours, 1000))
    bins = bins_of(made)
    assert sum(part.videos for part in bins) == sum(range(1, 20))
    assert [part.is_complete for part in bins] == [True] * (len(bins) - 1) + [False]
    assert {part.video_p95 is None for part in bins if part.videos < 5} == {True}


def test_every_figure_of_the_contract_is_there_in_its_order() -> None:
    assert list(MEASURES) == [
        *(
            "videos",
            "success_rate",
            "videos_per_hour",
            "film_hours_per_hour",
            "wait_p50",
            "wait_p95",
            "run_p50",
            "run_p95",
        ),
        *("video_p50", "video_p95", "video_p99", "work_per_film_minute", "slots_busy", "oldest_waiting_seconds"),
        *("retries", "retries_helped", "self_pauses", "forecast_error_p50"),
    ]
