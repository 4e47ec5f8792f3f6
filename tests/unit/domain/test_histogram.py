"""Histograms as numbers: percentiles, sums, differences, and their bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backend.domain.histogram import MAX_MILLIS, counts, decoded, encoded, one, percentile, total

durations = st.lists(st.integers(0, MAX_MILLIS - 1), min_size=1, max_size=60)
TOLERANCE = 0.05


@given(durations, st.sampled_from([1, 50, 95, 99, 100]))
def test_a_percentile_is_within_5_percent_of_the_exact_one(millis: list[int], percent: int) -> None:
    exact = sorted(millis)[(len(millis) * percent + 99) // 100 - 1] / 1000
    shown = percentile(sum(map(one, millis)), percent)
    assert shown is not None
    assert abs(shown - exact) <= TOLERANCE * exact


@given(durations, durations)
def test_two_histograms_add_up_as_numbers(here: list[int], there: list[int]) -> None:
    both = sum(map(one, here)) + sum(map(one, there))
    assert both == sum(map(one, here + there))
    assert total(both) == len(here) + len(there)


@given(durations, durations)
def test_a_difference_is_stored_and_is_right_in_the_sum(whole: list[int], gone: list[int]) -> None:
    difference = sum(map(one, whole)) - sum(map(one, gone))
    assert decoded(encoded(difference)) == difference
    assert decoded(encoded(difference)) + sum(map(one, gone)) == sum(map(one, whole))


def test_nothing_has_no_percentile() -> None:
    assert percentile(0, 50) is None
    assert total(0) == 0
    assert encoded(0) == b""
    assert decoded(b"") == 0


def test_what_took_no_time_is_told_from_a_millisecond() -> None:
    assert percentile(one(0), 50) == 0
    assert percentile(one(1), 50) != 0


def test_longer_than_the_last_bucket_counts_in_it() -> None:
    assert one(MAX_MILLIS * 100) == one(MAX_MILLIS)
    assert sum(counts(one(MAX_MILLIS * 100))) == 1


def test_a_usual_histogram_takes_little_room() -> None:
    usual = sum(one(millis) for millis in range(2_000, 20_000, 10))
    assert len(encoded(usual)) < 150
