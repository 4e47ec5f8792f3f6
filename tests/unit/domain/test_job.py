"""What a job is and how it may change."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.job import Action, Job, offered_actions
from backend.domain.messages import WORKING
from backend.domain.video_ids import parse_video_id
from backend.errors import IllegalMove, InvalidVideoId
from progress_dashboard.protocol import CANCEL, EXTERNAL, NEXT, PAUSE, REPORTABLE, SenderReport, Status
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
    again = first.let_go(at=NOON, message="Waiting").claimed(at=NOON + timedelta(hours=1))
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


def test_a_job_whose_clock_was_set_back_never_ends_before_it_began() -> None:
    claimed = a_job(total_videos=1).claimed(at=NOON)
    earlier = NOON - timedelta(days=1)
    for end in (
        claimed.cancelled(at=earlier),
        claimed.broken("It broke.", at=earlier),
        claimed.with_result(video_id="v", error=None, fractions=0, running=0, at=earlier),
        claimed.let_go(at=earlier, message="Waiting").claimed(at=earlier).cancelled(at=earlier),
    ):
        assert end.started_at == NOON == end.finished_at


def processing(**given: object) -> Job:
    """A job of 500 videos that runs, of which 214 are done."""
    return a_job(**{"total_videos": 500, "current_video": 214, "progress": 42, **given}).claimed(at=NOON)


def test_what_is_requested_is_shown_and_changes_nothing_else() -> None:
    asked = processing().asked_to(CANCEL, at=NOON, message="Cancelling...")
    assert (asked.status, asked.requested, asked.message) == (Status.PROCESSING, CANCEL, "Cancelling...")
    back = asked.asked_to(None, at=NOON, message=WORKING)
    assert back == processing().evolve(updated_at=NOON)


@pytest.mark.parametrize(
    ("requested", "trouble", "status", "message"),
    [
        (None, None, Status.PENDING, "Waiting to go on"),
        (CANCEL, None, Status.CANCELLED, "Cancelled at 214/500"),
        (PAUSE, None, Status.PAUSED, "Paused at 214/500"),
        (PAUSE, "The disk is full.", Status.PAUSED, "Paused by itself: The disk is full."),
    ],
)
def test_what_was_requested_happens_when_nobody_works_on_the_job_any_more(
    requested: str | None, trouble: str | None, status: Status, message: str
) -> None:
    asked = (
        processing().asked_to(requested, at=NOON, message="...", trouble=trouble).evolve(running=2, doing="decoding")
    )
    left = asked.let_go(at=NOON, message="Waiting to go on")
    assert (left.status, left.message, left.trouble) == (status, message, trouble)
    assert (left.requested, left.running, left.doing, left.current_video) == (None, 0, None, 214)
    assert left.epoch > asked.epoch
    assert (left.finished_at is not None) is (status is Status.CANCELLED)


def test_a_job_that_goes_on_after_a_restart_says_where_and_one_that_was_paused_does_not() -> None:
    restarted = processing().let_go(at=NOON, message="Waiting").claimed(at=NOON)
    assert (restarted.message, restarted.resumed) == ("Resumed at 214/500 after a restart", 214)
    resumed = processing().paused(at=NOON).lined_up(at=NOON)
    assert resumed.message == "Waiting to go on"
    assert resumed.claimed(at=NOON).message == WORKING


def test_a_job_that_was_paused_and_resumed_after_a_restart_does_not_say_it_restarted_again() -> None:
    restarted = processing().let_go(at=NOON, message="Waiting").claimed(at=NOON)
    again = restarted.paused(at=NOON).lined_up(at=NOON).claimed(at=NOON)
    assert (again.message, again.resumed) == (WORKING, None)


def test_a_resumed_job_has_no_trouble_any_more() -> None:
    paused = processing(trouble="The disk is full.").paused(at=NOON)
    assert (paused.trouble, paused.lined_up(at=NOON).trouble) == ("The disk is full.", None)


def test_a_broken_job_tells_only_what_broke_it() -> None:
    pausing = processing(failed=2, error="cut off").asked_to(PAUSE, at=NOON, message="...", trouble="The disk is full.")
    broken = pausing.broken("The server had a problem.", at=NOON)
    assert (broken.status, broken.error, broken.message) == (Status.FAILED, *["The server had a problem."] * 2)
    assert (broken.requested, broken.trouble, broken.finished_at, broken.failed) == (None, None, NOON, 2)


def ended_with(errors: list[str | None]) -> Job:
    return _through(a_job(total_videos=len(errors)).claimed(at=NOON), errors)


@pytest.mark.parametrize(
    ("total", "videos", "progress"), [(500, 37, 92), (3, 1, 66), (3, 3, 0), (1, 1, 0), (1000, 1, 99)]
)
def test_a_retry_begins_at_the_videos_that_it_leaves(total: int, videos: int, progress: int) -> None:
    end = a_job(
        status=Status.FAILED, total_videos=total, current_video=total, progress=100, finished_at=NOON, kept=True
    ).evolve(started_at=NOON, trouble="old", resumed=3, video_id="v", on_dashboard=False)
    again = end.retried(videos, failed=0, error=None, at=NOON)
    assert (again.status, again.attempt, again.progress) == (Status.PENDING, 2, progress)
    assert again.current_video == total - videos
    assert (again.started_at, again.finished_at, again.trouble, again.resumed) == (None, None, None, None)
    assert (again.on_dashboard, again.kept, again.video_id) == (True, True, None)
    assert again.message == f"Waiting to try {videos} video{'s' * (videos > 1)} again"
    later = NOON + timedelta(hours=1)
    assert again.claimed(at=later).started_at == later


def test_a_retry_leaves_the_failures_that_it_does_not_take() -> None:
    again = ended_with(["cut off", "missing", None]).retried(1, failed=1, error="missing", at=NOON)
    assert (again.current_video, again.failed, again.error) == (2, 1, "missing")
    end = again.claimed(at=NOON).with_result(video_id="v", error=None, fractions=0, running=0, at=NOON)
    assert (end.status, end.message) == (Status.COMPLETED_WITH_ERRORS, "Done, 1 of 3 videos failed")


DEEDS = st.sampled_from(["move", "good", "bad", "pause", "restart", "vain"])


@given(st.lists(st.tuples(DEEDS, st.floats(0, 1)), max_size=30))
def test_progress_never_goes_back_within_an_attempt_whatever_happens_to_it(deeds: list[tuple[str, float]]) -> None:
    end = ended_with([None] * 20 + ["cut off"] * 40)
    job = end.retried(40, failed=0, error=None, at=NOON).claimed(at=NOON)
    for deed, fraction in deeds:
        before = job
        if deed in ("good", "bad"):
            error = "cut off" if deed == "bad" else None
            job = job.with_result(video_id="v", error=error, fractions=fraction, running=1, at=NOON)
        elif deed == "pause":
            job = job.paused(at=NOON).lined_up(at=NOON).claimed(at=NOON)
        elif deed == "restart":
            job = job.let_go(at=NOON, message="Waiting").claimed(at=NOON)
        else:
            job = job.moved(fractions=0.0 if deed == "vain" else fraction, running=1, at=NOON)
        assert before.progress <= job.progress <= 99
        assert job.attempt == 2


def test_what_a_retry_takes_unless_told_otherwise_are_the_videos_without_a_good_result() -> None:
    assert ended_with([None, "cut off", None]).retryable == 1
    assert processing(failed=14).cancelled(at=NOON).retryable == 300
    assert ended_with([None, None]).retryable == 0


PLACE = (Action.RUN_NEXT, Action.RUN_LAST)
GOODBYE = (Action.KEEP, Action.DISMISS, Action.DELETE)


@pytest.mark.parametrize(
    ("job", "actions"),
    [
        (a_job(), (Action.PAUSE, *PLACE, Action.CANCEL)),
        (a_job(status=Status.PAUSED), (Action.RESUME, *PLACE, Action.CANCEL)),
        (processing(), (Action.PAUSE, Action.CANCEL)),
        (processing(requested=PAUSE), (Action.RESUME, Action.CANCEL)),
        (processing(requested=CANCEL), ()),
        (ended_with([None]), (Action.RETRY_ALL, *GOODBYE)),
        (ended_with([None, "cut off"]), (Action.RETRY, Action.RETRY_ALL, *GOODBYE)),
        (processing().cancelled(at=NOON), (Action.RETRY, Action.RETRY_ALL, *GOODBYE)),
        (ended_with([None]).evolve(kept=True), (Action.RETRY_ALL, Action.DISMISS, Action.DELETE)),
        (ended_with([None]).evolve(on_dashboard=False), (Action.RETRY_ALL, Action.DELETE)),
        (a_job(processor=EXTERNAL), (Action.CANCEL,)),
        (processing(processor=EXTERNAL), (Action.CANCEL,)),
        (a_job(processor=EXTERNAL, status=Status.FAILED), GOODBYE),
    ],
)
def test_a_job_offers_what_makes_sense_in_its_state_the_likeliest_first(job: Job, actions: tuple[Action, ...]) -> None:
    assert offered_actions(job) == actions


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


def elsewhere(total: int = 10) -> Job:
    """A job that runs elsewhere and whose sender was heard already."""
    return a_job(processor=EXTERNAL, total_videos=total).claimed(at=NOON)


def hear(job: Job, *reports: SenderReport) -> Job:
    """The job after these reports, each with an error telling of another failed video."""
    for report in reports:
        job = job.heard(report, is_new_failure=bool(report.error and report.video_id), at=NOON)
    return job


REPORTS = st.builds(
    SenderReport,
    n=st.integers(0, 2**53),
    status=st.sampled_from([None, "processing"]),
    progress=st.none() | st.integers(0, 100),
    current_video=st.none() | st.integers(0, 10),
    video_id=st.none() | st.just("v"),
    error=st.none() | st.just("cut off"),
)


@given(st.lists(REPORTS, max_size=10), st.sampled_from(REPORTABLE))
def test_whatever_a_sender_says_nothing_goes_back_and_the_counts_fit(reports: list[SenderReport], last: Status) -> None:
    job = elsewhere()
    for report in reports:
        earlier, job = job, hear(job, report)
        assert earlier.progress <= job.progress <= 99
        assert earlier.current_video <= job.current_video
        assert earlier.failed <= job.failed <= job.current_video <= job.total_videos
    end = hear(job, SenderReport(n=2**53, status=last))
    assert end.is_finished is (last is not Status.PROCESSING)
    assert (end.progress == 100) is (end.is_finished and (last is not Status.FAILED))


def test_progress_that_a_sender_leaves_out_is_that_of_its_finished_videos() -> None:
    assert hear(elsewhere(3), SenderReport(n=1, current_video=2)).progress == 66
    assert hear(elsewhere(3), SenderReport(n=1, current_video=2, progress=70)).progress == 70


def test_a_failed_video_is_a_finished_one() -> None:
    job = hear(elsewhere(), SenderReport(n=1, video_id="v", error="cut off"))
    assert (job.current_video, job.failed, job.progress, job.error) == (1, 1, 10, "cut off")
    told = hear(elsewhere(), SenderReport(n=1, video_id="v", error="cut off", current_video=4))
    assert (told.current_video, told.failed) == (4, 1)


@pytest.mark.parametrize(
    ("failures", "said", "status", "message"),
    [
        (0, "completed", Status.COMPLETED, "All done: 2 videos"),
        (1, "completed", Status.COMPLETED_WITH_ERRORS, "Done, 1 of 2 videos failed"),
        (1, "completed_with_errors", Status.COMPLETED_WITH_ERRORS, "Done, 1 of 2 videos failed"),
        (0, "completed_with_errors", Status.COMPLETED_WITH_ERRORS, "Done, with errors"),
        (2, "completed", Status.FAILED, "All 2 videos failed"),
    ],
)
def test_the_end_that_a_sender_tells_counts_its_failed_videos(
    failures: int, said: str, status: Status, message: str
) -> None:
    failed = [SenderReport(n=n, video_id=f"v{n}", error="cut off") for n in range(failures)]
    job = hear(elsewhere(2), *failed, SenderReport(n=9, status=said))
    assert (job.status, job.message, job.progress, job.current_video) == (status, message, 100, 2)
    assert (job.failed, job.finished_at) == (failures, NOON)


def test_a_job_whose_sender_gave_up_keeps_how_far_it_was() -> None:
    job = hear(elsewhere(), SenderReport(n=1, current_video=4), SenderReport(n=2, status="failed", error="no disk"))
    assert (job.status, job.current_video, job.progress, job.finished_at) == (Status.FAILED, 4, 40, NOON)
    assert (job.error, job.message) == ("no disk", "no disk")


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.PROCESSING}))
def test_only_a_processing_job_takes_reports(status: Status) -> None:
    with pytest.raises(IllegalMove, match=status.words):
        hear(a_job(processor=EXTERNAL, status=status), SenderReport(n=1))


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
