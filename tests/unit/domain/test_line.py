"""Who is next in line, and about when."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.line import Queue, QueuedJob, SecondsRange, last, turns

HOUR = 3600.0


def job(job_id: str, user: str = "ana", *, priority: int = 0, turn: int = 0) -> QueuedJob:
    return QueuedJob(job_id, user, priority, turn)


def queue(running: Sequence[QueuedJob], waiting: Sequence[QueuedJob], *, most: int = 2, each: int = 2) -> Queue:
    return Queue(running=running, waiting=waiting, served={}, max_running=most, max_running_per_user=each)


def hours(number: float) -> SecondsRange:
    return SecondsRange(number * HOUR, number * HOUR / 2, number * HOUR * 2)


def test_jobs_begin_when_those_before_them_end() -> None:
    """One after the other, each an hour with all slots."""
    waiting = [job("b", turn=1), job("c", turn=2)]
    found = turns(queue([job("a")], waiting, most=1), {"a": hours(0.5), "b": hours(1), "c": hours(1)})
    assert [(found[name].place, found[name].begins) for name in "abc"] == [
        (0, SecondsRange(0, 0, 0)),
        (1, hours(0.5)),
        (2, hours(1.5)),
    ]
    assert found["c"].ends == hours(2.5)


def test_running_jobs_share_the_slots() -> None:
    """Two at once: each takes twice as long as alone; when the short one has ended, the next one begins."""
    found = turns(queue([job("a"), job("b")], [job("c")]), {"a": hours(1), "b": hours(3), "c": hours(1)})
    assert found["a"].ends == hours(2)
    assert found["c"].begins == hours(2)
    assert found["c"].ends == hours(4)
    assert found["b"].ends == hours(5)


def test_nothing_is_known_behind_a_job_of_which_nothing_is_known() -> None:
    found = turns(queue([job("a")], [job("b", turn=1), job("c", turn=2)], most=1), {"b": hours(1), "c": hours(1)})
    assert [(found[name].place, found[name].begins, found[name].ends) for name in "bc"] == [
        (1, None, None),
        (2, None, None),
    ]


def test_one_user_does_not_hold_up_the_others() -> None:
    """Ana has two jobs at most; Ben's job is before her third one, though it came later."""
    running = [job("a"), job("b")]
    waiting = [job("c", turn=1), job("d", "ben", turn=2)]
    found = turns(queue(running, waiting, most=3), dict.fromkeys("abcd", hours(1)))
    assert (found["d"].place, found["c"].place) == (1, 2)
    assert found["d"].begins == SecondsRange(0, 0, 0)


def test_a_higher_priority_goes_first() -> None:
    waiting = [job("old", turn=1), job("urgent", priority=5, turn=2)]
    found = turns(queue([job("a")], waiting, most=1), {})
    assert (found["urgent"].place, found["old"].place) == (1, 2)


def test_all_is_done_when_the_last_one_is() -> None:
    assert last([hours(1), hours(3), hours(2)]) == hours(3)
    assert last([hours(1), None]) is None
    assert last([]) is None


queued = st.builds(
    QueuedJob,
    job_id=st.uuids().map(str),
    user=st.sampled_from(["ana", "ben", "eve"]),
    priority=st.integers(-2, 2),
    turn=st.integers(0, 1000),
)


@given(
    jobs=st.lists(queued, max_size=25, unique_by=lambda one: one.turn), most=st.integers(1, 4), each=st.integers(1, 4)
)
@settings(max_examples=150, deadline=None)
def test_the_first_places_are_those_that_the_executor_starts(jobs: list[QueuedJob], most: int, each: int) -> None:
    """What `next` gives while places are free, and each job has one place."""
    line = queue([], jobs, most=most, each=each)
    found = turns(line, {one.job_id: hours(1) for one in jobs})
    assert sorted(turn.place for turn in found.values()) == list(range(1, len(jobs) + 1))
    first = line.next()
    if jobs:
        assert first is not None
        assert found[first.job_id].place == 1


@pytest.mark.parametrize("waiting", [5_000])
def test_thousands_of_waiting_jobs_have_their_places(waiting: int) -> None:
    jobs = [job(str(number), f"user-{number % 7}", turn=number) for number in range(waiting)]
    found = turns(queue([], jobs, most=4, each=3), {})
    assert sorted(turn.place for turn in found.values()) == list(range(1, waiting + 1))
