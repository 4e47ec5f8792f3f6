"""What is said about the time left, compared with what was really left: in simulated jobs of many kinds."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.support.simulated_jobs import Saying, Work, clips, missing, sayings

JOBS, ASKED = 60, 23  # jobs of each kind, and how often each is asked
Kind = Callable[[Random, int, float], list[Work]]


def steady(rng: Random, count: int, seconds: float) -> list[Work]:
    return clips(rng, count, seconds)


def two_lengths(rng: Random, count: int, seconds: float) -> list[Work]:
    return shuffled(rng, clips(rng, count // 2, seconds) + clips(rng, count // 2, 10 * seconds))


def missing_first(rng: Random, count: int, seconds: float) -> list[Work]:
    return missing(rng, rng.choice([10, 100, 300, 3000])) + clips(rng, count, seconds)


def missing_last(rng: Random, count: int, seconds: float) -> list[Work]:
    return clips(rng, count, seconds) + missing(rng, rng.choice([10, 100, 300, 3000]))


def missing_in_the_middle(rng: Random, count: int, seconds: float) -> list[Work]:
    gone = missing(rng, rng.choice([10, 100, 300, 3000]))
    return clips(rng, count // 2, seconds) + gone + clips(rng, count // 2, seconds)


def missing_everywhere(rng: Random, count: int, seconds: float) -> list[Work]:
    return shuffled(rng, missing_first(rng, count, seconds))


def passed_over_first(rng: Random, count: int, seconds: float) -> list[Work]:
    """Return videos of which most succeed at once, because the processor has nothing to do with them."""
    return [Work(0.02)] * rng.choice([10, 100, 300, 3000]) + clips(rng, count, seconds)


def passed_over_everywhere(rng: Random, count: int, seconds: float) -> list[Work]:
    return shuffled(rng, passed_over_first(rng, count, seconds))


def shuffled(rng: Random, videos: list[Work]) -> list[Work]:
    rng.shuffle(videos)
    return videos


def said(kind: Kind, *, done: int = 0) -> list[Saying]:
    """Return everything that is said in simulated jobs of this kind, with 1 to 8 slots and clips of 0.5 s to 10 min."""
    rng = Random(15)
    answers: list[Saying] = []
    for _ in range(JOBS):
        slots, count, seconds = rng.choice([1, 2, 4, 8]), rng.choice([16, 60, 300]), rng.choice([0.5, 2, 5, 30, 600])
        videos = kind(rng, count, seconds)
        every = max(1.0, sum(video.seconds for video in videos) / slots / ASKED)
        found = done + sum(not video.fails for video in videos)
        answers += sayings(videos, slots=slots, every=every, found=found, done=done)
    return answers


@pytest.mark.parametrize(
    "kind",
    [
        steady,
        two_lengths,
        missing_first,
        missing_last,
        missing_in_the_middle,
        missing_everywhere,
        passed_over_first,
        passed_over_everywhere,
    ],
    ids=lambda kind: kind.__name__,
)
@pytest.mark.parametrize("done", [0, 5000], ids=["first attempt", "retry of a large job"])
def test_what_is_said_is_true_nine_times_in_ten(kind: Kind, done: int) -> None:
    """The range contains the time that is really left, or nothing is said; something is said a third of the time."""
    spoken = [saying for saying in said(kind, done=done) if saying.estimate is not None]
    assert sum(saying.is_true for saying in spoken) >= 0.9 * len(spoken)
    assert len(spoken) >= (0.2 if done else 0.3) * len(said(kind, done=done))


def test_three_hundred_missing_files_do_not_shorten_the_time_left() -> None:
    """One slot, 300 IDs without a file, then 16 clips of 5 s; asked every 10 s."""
    videos = [Work(0.01, fails=True)] * 300 + [Work(5.0)] * 16
    answers = list(sayings(videos, slots=1, every=10, found=16))
    assert all(saying.is_true for saying in answers)
    ratios = [saying.estimate.seconds / saying.left for saying in answers if saying.estimate]
    assert len(ratios) >= 5
    assert ratios == pytest.approx([1.0] * len(ratios), abs=0.1)


def test_a_job_whose_videos_all_fail_at_once_says_nothing() -> None:
    """Nobody knows how long a video takes that is worked on."""
    answers = list(sayings([Work(0.02, fails=True)] * 3000 + [Work(5.0)] * 16, slots=1, every=5))
    assert [saying.estimate for saying in answers[:12]] == [None] * 12


def test_files_that_came_later_do_not_shorten_the_time_left() -> None:
    """The directory was not there when the job was submitted: no video had a file."""
    answers = list(sayings([Work(3.0)] * 100, slots=1, every=10, found=0))
    assert all(saying.is_true for saying in answers)
    assert all(saying.estimate for saying in answers[2:])


def test_short_videos_before_long_ones_do_not_shorten_the_time_left() -> None:
    """Blocks of 1 s and of 60 s: what is said after five of the long ones is true."""
    answers = list(sayings([Work(1.0)] * 60 + [Work(60.0)] * 20, slots=1, every=10))
    later = [saying for saying in answers if saying.at > 60 + 5 * 60]
    assert all(saying.is_true for saying in later)
    assert any(saying.estimate for saying in later)
