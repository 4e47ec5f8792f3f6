"""The speed and the remaining time of a job, computed from when its videos finished."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.pace import Estimate, Pace, in_words
from tests.support.clock import NOON

gaps = st.lists(st.floats(0, 600), min_size=1, max_size=60)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def seen(finishes: Iterable[float]) -> Pace:
    """Return the pace of a job that began at 0 s and finished a video at each of these moments."""
    pace = Pace.starting(NOON, 0)
    for count, seconds in enumerate(finishes, start=1):
        pace = pace.reached(count, after(seconds))
    return pace


def estimated(pace: Pace, left: int, seconds: float) -> Estimate:
    estimate = pace.estimate(left, after(seconds))
    assert estimate is not None
    return estimate


def test_no_estimate_before_five_videos_and_ten_seconds() -> None:
    assert seen([3, 6, 9, 12]).estimate(100, after(13)) is None
    assert seen([1, 2, 3, 4, 5]).estimate(100, after(9)) is None
    assert seen([3, 6, 9, 12, 15]).estimate(100, after(15)) is not None


def test_a_finished_job_has_no_estimate() -> None:
    assert seen(range(3, 30, 3)).estimate(0, after(30)) is None


@pytest.mark.parametrize("each", [0.5, 3.0, 600.0])
def test_a_steady_job_continues_at_its_rate(each: float) -> None:
    last = 40 * each
    estimate = estimated(seen(each * n for n in range(1, 41)), 20, last)
    assert estimate.seconds == pytest.approx(20 * each, rel=0.01)
    assert estimate.videos_per_minute == pytest.approx(60 / each, rel=0.01)
    assert estimate.high < 1.5 * estimate.low


def test_videos_that_finish_together_do_not_raise_the_rate() -> None:
    bursts = seen(60.0 * (n // 16 + 1) + n % 16 * 0.001 for n in range(160))
    assert estimated(bursts, 160, 600.5).seconds == pytest.approx(600, rel=0.15)


def test_old_videos_count_little() -> None:
    slow_then_quick = [10.0 * n for n in range(1, 31)] + [300.0 + n for n in range(1, 301)]
    assert estimated(seen(slow_then_quick), 100, 600).seconds == pytest.approx(100, rel=0.1)


def test_a_pause_takes_no_time() -> None:
    without = estimated(seen(range(3, 31, 3)), 20, 31)
    pace = seen(range(3, 31, 3)).paused(after(30)).resumed(after(9000))
    assert estimated(pace, 20, 9001) == without
    assert pace.paused(after(9001)).estimate(20, after(99_000)) == without


def test_the_estimate_of_a_stalled_job_grows() -> None:
    pace = seen(range(3, 31, 3))
    waits = [estimated(pace, 20, seconds).seconds for seconds in (60, 120, 600)]
    assert waits == sorted(waits)
    assert waits[-1] > 5 * waits[0]


def test_an_uneven_pace_is_shown_as_a_range() -> None:
    uneven = [sum((1, 1, 1, 30)[k % 4] for k in range(n)) for n in range(1, 13)]
    assert " to " in in_words(estimated(seen(uneven), 12, uneven[-1]))


def test_reports_out_of_order_are_ignored() -> None:
    pace = seen(range(3, 31, 3))
    assert pace.reached(4, after(40)) is pace


@given(gaps=gaps, left=st.integers(1, 100_000), wait=st.floats(0, 100_000))
@settings(max_examples=200, deadline=None)
def test_estimates_are_positive_and_their_bounds_ordered(gaps: list[float], left: int, wait: float) -> None:
    finishes = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    estimate = seen(finishes).estimate(left, after(finishes[-1] + wait))
    if estimate is not None:
        assert 0 <= estimate.low <= estimate.seconds <= estimate.high
        assert estimate.videos_per_minute > 0
        assert in_words(estimate)
