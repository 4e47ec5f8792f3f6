"""What earlier results tell about how long videos take."""

from __future__ import annotations

from random import Random

import pytest

from backend.domain.habits import Habit, PastResult, assumed, learned

MIB = 2.0**20


def test_seconds_grow_with_the_size_of_the_file_from_a_base() -> None:
    rng = Random(1)
    sizes = [MIB * rng.uniform(20, 2000) for _ in range(300)]
    habit = learned([PastResult(size, (4 + size / MIB / 10) * rng.uniform(0.8, 1.2)) for size in sizes])
    assert habit is not None
    assert habit.seconds(100 * MIB) == pytest.approx(14, rel=0.1)
    assert habit.seconds(1000 * MIB) == pytest.approx(104, rel=0.1)
    assert habit.spread == pytest.approx(0.15, abs=0.05)


def test_the_sum_over_a_list_is_what_it_took() -> None:
    """Uneven videos: the habit tells the mean and not the median."""
    rng = Random(2)
    results = [PastResult(MIB * size, size * rng.choice([0.2, 0.2, 2.6])) for size in range(50, 1050)]
    habit = learned(results)
    assert habit is not None
    expected = sum(habit.seconds(result.size) for result in results)
    assert expected == pytest.approx(sum(result.seconds for result in results), rel=0.05)


def test_a_video_of_unknown_size_takes_the_mean() -> None:
    habit = learned([PastResult(MIB * size, size / 10) for size in range(20, 120)])
    assert habit is not None
    assert habit.seconds(None) == pytest.approx(6.95, rel=0.01)


def test_results_without_sizes_tell_a_mean() -> None:
    habit = learned([PastResult(None, seconds) for seconds in (10, 20, 30, 40, 50)])
    assert habit is not None
    assert habit.seconds(None) == habit.seconds(5 * MIB) == 30


def test_videos_that_were_passed_over_tell_nothing() -> None:
    worked_on = [PastResult(MIB * 100, 20.0)] * 40
    with_skipped = learned([*worked_on, *[PastResult(MIB * 100, 0.02)] * 30])
    assert with_skipped == learned(worked_on)


def test_quick_videos_are_the_work_of_a_quick_processor() -> None:
    habit = learned([PastResult(MIB * 10, 0.2)] * 30)
    assert habit is not None
    assert habit.seconds(MIB * 10) == pytest.approx(0.2)


@pytest.mark.parametrize("results", [[], [PastResult(MIB, 5.0)] * 4, [PastResult(MIB, 0.0)] * 30])
def test_too_few_results_tell_nothing(results: list[PastResult]) -> None:
    assert learned(results) is None


def test_neither_the_base_nor_the_slope_is_negative() -> None:
    smaller_takes_longer = [PastResult(MIB * size, 1000 / size) for size in range(1, 100)]
    steep = [PastResult(MIB * size, size**2 / 10) for size in range(10, 100)]
    for results in (smaller_takes_longer, steep):
        habit = learned(results)
        assert habit is not None
        assert habit.base >= 0
        assert habit.slope >= 0
        assert habit.seconds(MIB) > 0


def test_before_any_result_larger_files_are_assumed_to_take_longer() -> None:
    habit = assumed([100 * MIB, 300 * MIB, None])
    assert habit.seconds(200 * MIB) == pytest.approx(1.0)
    assert habit.seconds(None) == pytest.approx(1.0)
    assert habit.seconds(400 * MIB) == pytest.approx(1.7)
    assert assumed([None, None]) == Habit(1.0, 0.0, 0.0)
