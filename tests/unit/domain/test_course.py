"""When a job will be done: by the sizes of its files, by earlier results, and by what was seen."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backend.domain.course import Course
from backend.domain.habits import Habit, PastResult, learned
from backend.domain.pace import Estimate
from tests.acceptance.forecasts import NEW, OLD, Score, nights

MIB = 2.0**20
TEN_SECONDS_A_MIB = Habit(0.0, 10 / MIB, MIB, spread=0.1, results=100)


def said(course: Course, at: float, lanes: float = 1) -> Estimate:
    estimate = course.estimate(at, lanes)
    assert estimate is not None
    return estimate


def work(course: Course, ends: Sequence[tuple[int, float]], *, at: float = 0.0, failed: bool = False) -> float:
    """Work on these (position, seconds) one after the other; returns the moment of the last end."""
    for position, seconds in ends:
        course.start(position, at)
        at += seconds
        course.end(position, seconds, failed=failed, at=at)
    return at


def even(number: int) -> dict[int, float | None]:
    return dict.fromkeys(range(number), MIB)


def test_nothing_is_said_before_anything_is_known() -> None:
    course = Course(even(100), None, at=0)
    at = work(course, [(position, 3.0) for position in range(4)])
    assert course.estimate(at, 1) is None
    at = work(course, [(4, 3.0)], at=at)
    assert said(course, at).seconds == pytest.approx(95 * 3, rel=0.01)


def test_earlier_results_tell_the_end_at_the_start() -> None:
    course = Course(even(100), TEN_SECONDS_A_MIB, at=0)
    estimate = said(course, 0, lanes=4)
    assert estimate.seconds == pytest.approx(250)
    assert estimate.low < 200 < 300 < estimate.high


def test_large_files_at_the_end_are_known_before() -> None:
    """Twenty small files, then four of a hundred times their size."""
    sizes: dict[int, float | None] = {**even(20), **dict.fromkeys(range(20, 24), 100 * MIB)}
    course = Course(sizes, TEN_SECONDS_A_MIB, at=0)
    at = work(course, [(position, 10.0) for position in range(10)])
    assert said(course, at).seconds == pytest.approx(10 * 10 + 4 * 1000, rel=0.05)


def test_the_last_video_alone_is_waited_for() -> None:
    """Four slots; the last file is as large as all others together."""
    sizes: dict[int, float | None] = {**even(40), 40: 40 * MIB}
    assert said(Course(sizes, TEN_SECONDS_A_MIB, at=0), 0, lanes=4).seconds == pytest.approx(100 + 400)


def test_what_is_seen_counts_more_than_what_was_before() -> None:
    course = Course(even(200), TEN_SECONDS_A_MIB, at=0)
    at = work(course, [(position, 15.0) for position in range(60)])
    assert said(course, at).seconds == pytest.approx(140 * 15, rel=0.05)


def test_a_slow_start_is_forgotten() -> None:
    course = Course(even(200), TEN_SECONDS_A_MIB, at=0)
    at = work(course, [(position, 40.0) for position in range(20)])
    at = work(course, [(position, 10.0) for position in range(20, 60)], at=at)
    assert said(course, at).seconds == pytest.approx(140 * 10, rel=0.05)


@pytest.mark.parametrize("failing", [30, 300])
def test_instant_failures_say_nothing_about_the_rest(failing: int) -> None:
    """They have files, so that nobody knew before."""
    course = Course(even(failing + 100), TEN_SECONDS_A_MIB, at=0)
    at = work(course, [(position, 0.02) for position in range(failing)], failed=True)
    at = work(course, [(position, 10.0) for position in range(failing, failing + 40)], at=at)
    assert said(course, at).seconds == pytest.approx(60 * 10, rel=0.08)


def test_videos_without_a_file_take_no_time() -> None:
    sizes: dict[int, float | None] = {**even(40), **dict.fromkeys(range(40, 1000), 0.0)}
    assert said(Course(sizes, TEN_SECONDS_A_MIB, at=0), 0).seconds == pytest.approx(400)


def test_skipped_videos_say_nothing_about_the_rest() -> None:
    course = Course(even(400), None, at=0)
    at = work(course, [(position, 0.01) for position in range(300)])
    at = work(course, [(position, 20.0) for position in range(300, 320)], at=at)
    assert said(course, at).seconds == pytest.approx(80 * 20, rel=0.15)


def test_a_job_of_quick_videos_goes_on_as_it_does() -> None:
    course = Course(even(400), None, at=0)
    at = work(course, [(position, 0.2) for position in range(100)])
    assert said(course, at).seconds == pytest.approx(300 * 0.2, rel=0.05)


def test_a_running_video_counts_by_its_share() -> None:
    course = Course({0: 100 * MIB}, TEN_SECONDS_A_MIB, at=0)
    course.start(0, 0)
    course.progress(0, 0.5, 500)
    assert said(course, 500).seconds == pytest.approx(500, rel=0.05)


def test_a_video_that_hangs_makes_the_end_later() -> None:
    course = Course(even(10), TEN_SECONDS_A_MIB, at=0)
    at = work(course, [(position, 10.0) for position in range(8)])
    course.start(8, at)
    later = [said(course, at + seconds).seconds for seconds in (60, 300, 900)]
    assert later == sorted(later)
    assert later[-1] > 2 * later[0]


def test_a_pause_takes_no_time() -> None:
    one, other = Course(even(60), None, at=0), Course(even(60), None, at=0)
    at = work(one, [(position, 10.0) for position in range(20)])
    work(other, [(position, 10.0) for position in range(20)])
    other.pause(at)
    other.resume(at + 9000)
    assert other.estimate(at + 9000, 1) == one.estimate(at, 1)
    assert other.worked_seconds == one.worked_seconds == 200


def test_a_video_that_is_tried_again_is_still_to_do() -> None:
    course = Course(even(3), TEN_SECONDS_A_MIB, at=0)
    course.start(0, 0)
    course.give_back(0, 5)
    assert said(course, 5).seconds == pytest.approx(30)
    work(course, [(1, 10.0), (0, 10.0), (2, 10.0)], at=5)
    assert course.is_over
    assert course.estimate(40, 1) is None


finished = st.tuples(st.integers(0, 5_000_000).map(lambda millis: millis / 1000), st.booleans(), st.floats(0, 3))


@given(
    files=st.lists(st.one_of(st.none(), st.integers(0, 10**10)), min_size=1, max_size=80),
    ends=st.lists(finished, max_size=80),
    lanes=st.floats(0.3, 16),
    wait=st.floats(0, 1e5),
    earlier=st.sampled_from([None, TEN_SECONDS_A_MIB, learned([PastResult(None, 7.0)] * 9)]),
)
@example(files=[0.0, None], ends=[(1.0, False, 0.0)], lanes=1.0, wait=0.0, earlier=TEN_SECONDS_A_MIB)  # an empty file
@settings(max_examples=150, deadline=None)
def test_what_is_said_is_positive_and_its_bounds_ordered(
    files: list[int | None],
    ends: list[tuple[float, bool, float]],
    lanes: float,
    wait: float,
    earlier: Habit | None,
) -> None:
    course, at = Course(dict(enumerate(files)), earlier, at=0), 0.0
    for position, (seconds, failed, gap) in enumerate(ends):
        course.start(position, at)
        at += gap + seconds / 3
        course.end(position, seconds, failed=failed, at=at)
    estimate = course.estimate(at + wait, lanes)
    if estimate is not None:
        assert 0 < estimate.low <= estimate.seconds <= estimate.high
        assert estimate.videos_per_minute > 0


def test_at_a_quarter_simulated_nights_are_forecast_well_and_better_than_by_counting() -> None:
    """The same nights as `python -m tests.acceptance.forecasts`, fewer of them."""
    quarter = [one for one in nights(36, seed=4) if one.stage == 25]
    new, old = (Score.of(one for one in quarter if one.rule == rule) for rule in (NEW, OLD))
    assert new.spoken == new.asked == 36
    assert new.median <= 0.10
    assert new.p90 <= 0.50
    assert new.right >= 0.75
    assert new.median < old.median
    assert new.p90 < old.p90
