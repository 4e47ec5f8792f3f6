"""What a job is and how it may change."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import IllegalMove, InvalidVideoId
from backend.jobs import NEXT, Job, Status, parse_video_id
from tests.support.clock import NOON
from tests.support.jobs import a_job


@pytest.mark.parametrize(("before", "after"), list(product(Status, Status)))
def test_a_job_moves_only_along_the_table(before: Status, after: Status) -> None:
    job = a_job(status=before)
    if after in NEXT[before]:
        assert job.become(after, at=NOON).status is after
    else:
        with pytest.raises(IllegalMove):
            job.become(after, at=NOON)


def test_every_status_has_a_row_in_the_table() -> None:
    assert set(NEXT) == set(Status)


def test_a_claim_is_a_new_epoch_and_keeps_the_first_start() -> None:
    first = a_job().claimed(at=NOON)
    again = first.requeued(at=NOON, message="Waiting").claimed(at=NOON + timedelta(hours=1))
    assert (first.epoch, first.started_at) == (1, NOON)
    assert again.epoch == 3
    assert again.started_at == NOON


def test_the_time_of_a_job_never_goes_back_when_the_clock_does() -> None:
    claimed = a_job().claimed(at=NOON)
    moved = claimed.moved(fractions=0.5, running=1, at=NOON - timedelta(hours=1))
    ended = moved.broken("It broke.", at=NOON - timedelta(minutes=1))
    assert claimed.updated_at == moved.updated_at == ended.updated_at == NOON


def _through(job: Job, errors: list[str | None]) -> Job:
    for number, error in enumerate(errors):
        job = job.with_result(video_id=f"v{number}", error=error, fractions=0, running=0, at=NOON)
    return job


@pytest.mark.parametrize(
    ("errors", "status", "message"),
    [
        ([None, None], Status.COMPLETED, "All done: 2 videos"),
        (["cut off", None], Status.COMPLETED_WITH_ERRORS, "Done, 1 of 2 videos failed"),
        (["cut off", "missing"], Status.FAILED, "All 2 videos failed"),
    ],
)
def test_the_last_result_ends_the_job(errors: list[str | None], status: Status, message: str) -> None:
    job = _through(a_job(total_videos=2).claimed(at=NOON), errors)
    assert (job.status, job.message, job.progress, job.finished_at) == (status, message, 100, NOON)
    assert job.failed == sum(error is not None for error in errors)


def test_the_newest_error_stays_until_the_end() -> None:
    job = _through(a_job(total_videos=3).claimed(at=NOON), ["first", "second", None])
    assert job.error == "second"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30))
def test_progress_never_goes_back_and_is_100_only_at_the_end(steps: list[tuple[bool, float]]) -> None:
    job = a_job(total_videos=40).claimed(at=NOON)
    for ends, fraction in steps:
        before = job.progress
        if ends:
            job = job.with_result(video_id="v", error=None, fractions=0, running=0, at=NOON)
        else:
            job = job.moved(fractions=fraction, running=1, at=NOON)
        assert before <= job.progress <= 99


def test_progress_is_the_floor_of_finished_and_running_shares() -> None:
    job = a_job(total_videos=20, current_video=9).claimed(at=NOON)
    assert job.moved(fractions=0.19, running=1, at=NOON).progress == 45
    assert job.moved(fractions=0.2, running=1, at=NOON).progress == 46


def test_an_update_has_the_words_of_the_protocol() -> None:
    job = a_job(id="j", name="nightly.csv", total_videos=20, current_video=9, progress=45, seq=7, updated_at=NOON)
    assert msgspec.json.decode(msgspec.json.encode(job.update())) == {
        "job_id": "j",
        "status": "pending",
        "progress": 45,
        "current_video": 9,
        "total_videos": 20,
        "message": "Waiting to start",
        "video_id": None,
        "failed": 0,
        "attempt": 1,
        "requested": None,
        "name": "nightly.csv",
        "seq": 7,
        "timestamp": "2026-01-31T12:00:00.000Z",
    }


def test_an_update_tells_an_error_only_when_there_is_one() -> None:
    assert b'"error":"cut off"' in msgspec.json.encode(a_job(error="cut off").update())
    assert b'"error"' not in msgspec.json.encode(a_job().update())


@pytest.mark.parametrize(
    "text",
    [
        "dQw4w9WgXcQ",
        " dQw4w9WgXcQ\t",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=3s",
        "youtube.com/watch?v=dQw4w9WgXcQ",
        "https://youtu.be/dQw4w9WgXcQ?si=x",
        "https://www.youtube.com/shorts/dQw4w9WgXcQ",
        "https://m.youtube.com/embed/dQw4w9WgXcQ",
    ],
)
def test_an_id_or_a_youtube_address_is_taken(text: str) -> None:
    assert parse_video_id(text) == "dQw4w9WgXcQ"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        (".hidden", "it starts with a dot"),
        ("a b", "it contains a blank"),
        ("../etc/passwd", "it starts with a dot"),
        ("n/a", '"/" is not allowed'),
        ("https://evil.example/watch?v=dQw4w9WgXcQ", '":" is not allowed'),
        ("x" * 129, "it is longer than 128 characters"),
        ("ok\x00", '"\x00" is not allowed'),
        ("http://[", '":" is not allowed'),
    ],
)
def test_what_is_no_id_says_why(text: str, reason: str) -> None:
    with pytest.raises(InvalidVideoId) as refused:
        parse_video_id(text)
    assert str(refused.value) == f"not an ID: {reason}"
