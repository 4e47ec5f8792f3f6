"""What is usual for a list, and which runs are not."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from backend.domain.notification import EventKind
from backend.domain.usual import MIN_RUNS, Step, Usual, seconds_in, verdict
from progress_dashboard.protocol import ProgressUpdate, Status
from tests.support.clock import NOON
from tests.support.jobs import a_job

runs = st.lists(st.floats(1, 1e6), min_size=MIN_RUNS, max_size=60)
SLOWER, FASTER = EventKind.SLOWER, EventKind.FASTER


def ended(**given: object) -> ProgressUpdate:
    """Return the update of a job that completed."""
    usual = {"status": Status.COMPLETED, "current_video": 10, "total_videos": 10}
    return a_job(**{**usual, **given}).update()


def steps_of(*steps: tuple[float, Status, int]) -> list[Step]:
    """Return steps: seconds after noon, status, attempt."""
    return [Step(NOON + timedelta(seconds=at), status, attempt) for at, status, attempt in steps]


@given(st.lists(st.floats(1, 1e6), max_size=MIN_RUNS - 1))
def test_fewer_than_five_runs_tell_nothing(seconds: list[float]) -> None:
    assert Usual.of(seconds) is None


@given(runs)
def test_what_is_usual_lies_within_the_runs_and_takes_in_nine_of_ten(seconds: list[float]) -> None:
    usual = Usual.of(seconds)
    assert usual is not None
    assert min(seconds) <= usual.low <= usual.high <= max(seconds)
    assert sum(usual.low <= one <= usual.high for one in seconds) >= 0.9 * len(seconds)
    assert usual.runs == len(seconds)


@given(runs)
def test_a_run_like_the_earlier_ones_is_not_worth_a_word(seconds: list[float]) -> None:
    usual = Usual.of(seconds)
    assert usual is not None
    assert [usual.verdict(one) for one in (usual.low, usual.high)] == [None, None]
    assert usual.verdict(usual.high * 1.2 + 2) is SLOWER
    assert usual.low < 3 or usual.verdict(usual.low * 0.5 - 1) is FASTER


def test_a_run_in_15_instead_of_50_minutes_is_news() -> None:
    usual = Usual.of([3000, 3060, 2990, 3120, 3000])
    assert verdict(usual, 900, ended()) is FASTER
    assert verdict(usual, 3000, ended()) is None
    assert verdict(usual, 7800, ended(status=Status.COMPLETED_WITH_ERRORS, failed=1)) is SLOWER


def test_failures_and_retries_are_not_called_fast() -> None:
    usual = Usual.of([3000] * 5)
    assert verdict(usual, 5, ended(status=Status.FAILED, failed=10)) is None
    assert verdict(usual, 5, ended(status=Status.COMPLETED_WITH_ERRORS, failed=5)) is None
    assert verdict(usual, 5, ended(attempt=2)) is None
    assert verdict(usual, 5, ended(status=Status.CANCELLED)) is None
    assert verdict(None, 5, ended()) is None


def test_only_the_time_of_work_in_the_attempt_counts() -> None:
    steps = steps_of(
        (0, Status.PENDING, 1),
        (10, Status.PROCESSING, 1),
        (70, Status.PAUSED, 1),
        (4000, Status.PENDING, 1),
        (4010, Status.PROCESSING, 1),
        (4040, Status.COMPLETED_WITH_ERRORS, 1),
        (5000, Status.PENDING, 2),
        (5001, Status.PROCESSING, 2),
    )
    until = NOON + timedelta(seconds=5010)
    assert seconds_in(Status.PROCESSING, steps, 1, until=until) == 90
    assert seconds_in(Status.PAUSED, steps, 1, until=until) == 3930
    assert seconds_in(Status.PROCESSING, steps, 2, until=until) == 9
    assert seconds_in(Status.PROCESSING, steps, 1, until=NOON + timedelta(seconds=40)) == 30
