"""What a job is, and how it may change."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import product
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain import messages
from backend.domain.job import Action, Job, offered_actions
from backend.errors import IllegalMove
from progress_dashboard.protocol import CANCEL, EXTERNAL, NEXT, PAUSE, UNFINISHED, SenderReport, Status
from tests.support.clock import NOON
from tests.support.jobs import a_job

# The state machine in the words of the contract, written out by hand, so that a mistake in `NEXT` is found here.
STATUSES = ("pending", "processing", "completed", "failed", "completed_with_errors", "paused", "cancelled")
MOVES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("pending", "processing"): "it is its turn, or the first report of its sender comes",
        ("pending", "paused"): "pause: it leaves the queue",
        ("pending", "cancelled"): "cancel: nothing runs that would have to end first",
        ("pending", "failed"): "the job itself broke, such as an external one that nobody reports on",
        ("processing", "pending"): "the server stopped, or a pause was taken back: it waits to continue",
        ("processing", "completed"): "the last result is stored, and every video succeeded",
        ("processing", "completed_with_errors"): "the last result is stored, and some videos failed",
        ("processing", "failed"): "every video failed, or the job itself broke",
        ("processing", "paused"): "pause, or it paused itself: its running videos have ended",
        ("processing", "cancelled"): "cancel: its processes have ended",
        ("paused", "pending"): "resume: it waits in the queue again",
        ("paused", "cancelled"): "cancel: nothing runs that would have to end first",
        ("completed", "pending"): "retry of all videos: the next attempt waits",
        ("failed", "pending"): "retry: the next attempt waits",
        ("completed_with_errors", "pending"): "retry: the next attempt waits",
        ("cancelled", "pending"): "retry: the next attempt waits",
    }
)


def last_result(job: Job, error: str | None) -> Job:
    return job.with_result(video_id="v", error=error, fractions=0, running=0, at=NOON)


def released(job: Job, requested: str | None) -> Job:
    return job.evolve(requested=requested).released(at=NOON, message="Waiting")


# Each method of `Job` that leads to another status, and the status that it leads to.
LEADING: Mapping[str, tuple[Callable[[Job], Job], str]] = MappingProxyType(
    {
        "claimed": (lambda job: job.claimed(at=NOON), "processing"),
        "released": (lambda job: released(job, None), "pending"),
        "released, to be cancelled": (lambda job: released(job, CANCEL), "cancelled"),
        "released, to be paused": (lambda job: released(job, PAUSE), "paused"),
        "cancelled": (lambda job: job.cancelled(at=NOON), "cancelled"),
        "paused": (lambda job: job.paused(at=NOON), "paused"),
        "enqueued": (lambda job: job.enqueued(at=NOON), "pending"),
        "retried": (lambda job: job.retried(2, failed=0, error=None, at=NOON), "pending"),
        "with_job_error": (lambda job: job.with_job_error("It broke.", at=NOON), "failed"),
        "with_result, no failure": (lambda job: last_result(job, None), "completed"),
        "with_result, some failures": (lambda job: last_result(job, "cut off"), "completed_with_errors"),
        "with_result, only failures": (lambda job: last_result(job.evolve(failed=9), "cut off"), "failed"),
    }
)
# Each method of `Job` that keeps the status.
KEEPING: Mapping[str, Callable[[Job], Job]] = MappingProxyType(
    {
        "evolve": lambda job: job.evolve(progress=50),
        "with_request": lambda job: job.with_request(CANCEL, at=NOON, message="Cancelling..."),
        "waiting_for": lambda job: job.waiting_for("Waiting for a worker: none is connected", at=NOON),
        "progressed": lambda job: job.progressed(fractions=0.5, running=1, at=NOON),
        "with_result, not the last": lambda job: last_result(job.evolve(current_video=0), "cut off"),
    }
)
REPORTS: Mapping[str, tuple[SenderReport, str]] = MappingProxyType(
    {
        "with_report, no status": (SenderReport(n=1), "processing"),
        "with_report, processing": (SenderReport(n=1, status="processing"), "processing"),
        "with_report, completed": (SenderReport(n=1, status="completed"), "completed"),
        "with_report, with errors": (SenderReport(n=1, status="completed_with_errors"), "completed_with_errors"),
        "with_report, failed": (SenderReport(n=1, status="failed"), "failed"),
    }
)


def one_to_go(before: str, **given: object) -> Job:
    """Return a job of this status with nine good results of ten videos."""
    return a_job(**{"status": Status(before), "current_video": 9, **given})


def expect_move(before: str, after: str, become: Callable[[], Job]) -> None:
    """Expect the move to happen if `MOVES` allows it, and to raise `IllegalMove` otherwise."""
    if (before, after) in MOVES:
        assert become().status == after
    else:
        with pytest.raises(IllegalMove):
            become()


def test_the_statuses_are_the_seven_of_the_contract() -> None:
    assert sorted(Status) == sorted(STATUSES)
    assert {status for move in MOVES for status in move} == set(STATUSES)
    assert sorted(UNFINISHED) == ["paused", "pending", "processing"]


def test_every_status_has_a_row_in_the_table() -> None:
    assert set(NEXT) == set(Status)


@pytest.mark.parametrize(("before", "after"), list(product(STATUSES, STATUSES)))
def test_a_job_moves_only_along_the_table(before: str, after: str) -> None:
    expect_move(before, after, lambda: a_job(status=Status(before)).become(Status(after), at=NOON))


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("method", LEADING)
def test_a_method_leads_only_along_the_table(method: str, before: str) -> None:
    lead, after = LEADING[method]
    expect_move(before, after, lambda: lead(one_to_go(before)))


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("method", KEEPING)
def test_a_method_that_only_notes_something_keeps_the_status(method: str, before: str) -> None:
    assert KEEPING[method](one_to_go(before)).status == before


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_leads_only_along_the_table(report: str) -> None:
    said, after = REPORTS[report]
    job = one_to_go("processing", processor=EXTERNAL).with_report(said, is_new_failure=False, at=NOON)
    assert job.status == after
    assert after == "processing" or ("processing", after) in MOVES


def test_every_method_that_returns_a_job_is_checked_above() -> None:
    methods = inspect.getmembers(Job, inspect.isfunction)
    names = {
        name for name, method in methods if name[0] != "_" and inspect.signature(method).return_annotation == "Job"
    }
    checked = {name.partition(",")[0] for name in (*LEADING, *KEEPING, *REPORTS)}
    assert names == {"become", *checked}


def test_a_claim_is_a_new_lease_and_keeps_the_first_start() -> None:
    first = a_job().claimed(at=NOON)
    again = first.released(at=NOON, message="Waiting").claimed(at=NOON + timedelta(hours=1))
    assert (first.lease_id, first.started_at) == (1, NOON)
    assert again.lease_id == 3
    assert again.started_at == NOON


def test_the_time_of_a_job_never_goes_back_when_the_clock_does() -> None:
    claimed = a_job().claimed(at=NOON)
    progressed = claimed.progressed(fractions=0.5, running=1, at=NOON - timedelta(hours=1))
    failed = progressed.with_job_error("It broke.", at=NOON - timedelta(minutes=1))
    assert claimed.updated_at == progressed.updated_at == failed.updated_at == NOON


def with_results(job: Job, errors: list[str | None]) -> Job:
    """Return the job after a result for each of `errors`."""
    for number, error in enumerate(errors):
        job = job.with_result(video_id=f"v{number}", error=error, fractions=0, running=0, at=NOON)
    return job


def test_a_job_never_ends_before_it_began_when_the_clock_is_set_back() -> None:
    claimed = a_job(total_videos=1).claimed(at=NOON)
    earlier = NOON - timedelta(days=1)
    for end in (
        claimed.cancelled(at=earlier),
        claimed.with_job_error("It broke.", at=earlier),
        claimed.with_result(video_id="v", error=None, fractions=0, running=0, at=earlier),
        claimed.released(at=earlier, message="Waiting").claimed(at=earlier).cancelled(at=earlier),
    ):
        assert end.started_at == NOON == end.finished_at


def processing(**given: object) -> Job:
    """Return a running job of 500 videos, of which 214 are done."""
    return a_job(**{"total_videos": 500, "current_video": 214, "progress": 42, **given}).claimed(at=NOON)


def test_a_request_is_shown_and_changes_nothing_else() -> None:
    requested = processing().with_request(CANCEL, at=NOON, message="Cancelling...")
    assert (requested.status, requested.requested, requested.message) == (Status.PROCESSING, CANCEL, "Cancelling...")
    withdrawn = requested.with_request(None, at=NOON, message=messages.PROCESSING)
    assert withdrawn == processing().evolve(updated_at=NOON)


@pytest.mark.parametrize(
    ("requested", "pause_reason", "status", "message"),
    [
        (None, None, Status.PENDING, "Waiting to continue"),
        (CANCEL, None, Status.CANCELLED, "Cancelled at 214/500"),
        (PAUSE, None, Status.PAUSED, "Paused at 214/500"),
        (PAUSE, "The disk is full.", Status.PAUSED, "Paused by itself: The disk is full."),
    ],
)
def test_a_request_is_applied_when_the_job_is_released(
    requested: str | None, pause_reason: str | None, status: Status, message: str
) -> None:
    held = processing().with_request(requested, at=NOON, message="...", pause_reason=pause_reason)
    left = held.evolve(running=2, doing="decoding").released(at=NOON, message="Waiting to continue")
    assert (left.status, left.message, left.pause_reason) == (status, message, pause_reason)
    assert (left.requested, left.running, left.doing, left.current_video) == (None, 0, None, 214)
    assert left.lease_id > held.lease_id
    assert (left.finished_at is not None) is (status is Status.CANCELLED)


def test_a_job_says_where_it_continues_after_a_restart() -> None:
    """A job that was paused and resumed does not."""
    restarted = processing().released(at=NOON, message="Waiting").claimed(at=NOON)
    assert (restarted.message, restarted.resumed) == ("Resumed at 214/500 after a restart", 214)
    resumed = processing().paused(at=NOON).enqueued(at=NOON)
    assert resumed.message == "Waiting to continue"
    assert resumed.claimed(at=NOON).message == messages.PROCESSING


def test_a_restart_is_not_announced_again_after_a_pause() -> None:
    restarted = processing().released(at=NOON, message="Waiting").claimed(at=NOON)
    again = restarted.paused(at=NOON).enqueued(at=NOON).claimed(at=NOON)
    assert (again.message, again.resumed) == (messages.PROCESSING, None)


def test_a_resumed_job_has_no_pause_reason_any_more() -> None:
    paused = processing(pause_reason="The disk is full.").paused(at=NOON)
    assert (paused.pause_reason, paused.enqueued(at=NOON).pause_reason) == ("The disk is full.", None)


def test_a_job_error_replaces_what_was_said_and_requested() -> None:
    pausing = processing(failed=2, error="cut off").with_request(
        PAUSE, at=NOON, message="...", pause_reason="The disk is full."
    )
    failed = pausing.with_job_error("The server had a problem.", at=NOON)
    assert (failed.status, failed.error, failed.message) == (Status.FAILED, *["The server had a problem."] * 2)
    assert (failed.requested, failed.pause_reason, failed.finished_at, failed.failed) == (None, None, NOON, 2)


def ended_with(errors: list[str | None]) -> Job:
    """Return an ended job with one video for each of `errors`."""
    return with_results(a_job(total_videos=len(errors)).claimed(at=NOON), errors)


@pytest.mark.parametrize(
    ("total", "videos", "progress"), [(500, 37, 92), (3, 1, 66), (3, 3, 0), (1, 1, 0), (1000, 1, 99)]
)
def test_a_retry_begins_at_the_videos_that_it_leaves(total: int, videos: int, progress: int) -> None:
    end = a_job(
        status=Status.FAILED, total_videos=total, current_video=total, progress=100, finished_at=NOON, pinned=True
    ).evolve(started_at=NOON, pause_reason="old", resumed=3, video_id="v", on_dashboard=False)
    again = end.retried(videos, failed=0, error=None, at=NOON)
    assert (again.status, again.attempt, again.progress) == (Status.PENDING, 2, progress)
    assert again.current_video == total - videos
    assert (again.started_at, again.finished_at, again.pause_reason, again.resumed) == (None, None, None, None)
    assert (again.on_dashboard, again.pinned, again.video_id) == (True, True, None)
    assert again.message == f"Waiting to retry {videos} video{'s' * (videos > 1)}"
    later = NOON + timedelta(hours=1)
    assert again.claimed(at=later).started_at == later


def test_a_retry_leaves_the_failures_that_it_does_not_take() -> None:
    again = ended_with(["cut off", "missing", None]).retried(1, failed=1, error="missing", at=NOON)
    assert (again.current_video, again.failed, again.error) == (2, 1, "missing")
    end = again.claimed(at=NOON).with_result(video_id="v", error=None, fractions=0, running=0, at=NOON)
    assert (end.status, end.message) == (Status.COMPLETED_WITH_ERRORS, "Done, 1 of 3 videos failed")


EVENTS = st.sampled_from(["progress", "good", "bad", "pause", "restart", "failed try"])


@given(st.lists(st.tuples(EVENTS, st.floats(0, 1)), max_size=30))
def test_progress_never_goes_back_within_an_attempt(events: list[tuple[str, float]]) -> None:
    """Whatever happens to the job: progress, results, pauses, restarts of the server, tries that failed."""
    end = ended_with([None] * 20 + ["cut off"] * 40)
    job = end.retried(40, failed=0, error=None, at=NOON).claimed(at=NOON)
    for event, fraction in events:
        before = job
        if event in ("good", "bad"):
            error = "cut off" if event == "bad" else None
            job = job.with_result(video_id="v", error=error, fractions=fraction, running=1, at=NOON)
        elif event == "pause":
            job = job.paused(at=NOON).enqueued(at=NOON).claimed(at=NOON)
        elif event == "restart":
            job = job.released(at=NOON, message="Waiting").claimed(at=NOON)
        else:
            job = job.progressed(fractions=0.0 if event == "failed try" else fraction, running=1, at=NOON)
        assert before.progress <= job.progress <= 99
        assert job.attempt == 2


def test_a_retry_takes_the_videos_without_a_good_result_by_default() -> None:
    assert ended_with([None, "cut off", None]).retryable == 1
    assert processing(failed=14).cancelled(at=NOON).retryable == 300
    assert ended_with([None, None]).retryable == 0


IN_THE_QUEUE = (Action.RUN_NEXT, Action.RUN_LAST)
AT_THE_END = (Action.KEEP, Action.DISMISS, Action.DELETE)


@pytest.mark.parametrize(
    ("job", "actions"),
    [
        (a_job(), (Action.PAUSE, *IN_THE_QUEUE, Action.CANCEL)),
        (a_job(status=Status.PAUSED), (Action.RESUME, *IN_THE_QUEUE, Action.CANCEL)),
        (processing(), (Action.PAUSE, Action.CANCEL)),
        (processing(requested=PAUSE), (Action.RESUME, Action.CANCEL)),
        (processing(requested=CANCEL), ()),
        (ended_with([None]), (Action.RETRY_ALL, *AT_THE_END)),
        (ended_with([None, "cut off"]), (Action.RETRY, Action.RETRY_ALL, *AT_THE_END)),
        (processing().cancelled(at=NOON), (Action.RETRY, Action.RETRY_ALL, *AT_THE_END)),
        (ended_with([None]).evolve(pinned=True), (Action.RETRY_ALL, Action.DISMISS, Action.DELETE)),
        (ended_with([None]).evolve(on_dashboard=False), (Action.RETRY_ALL, Action.DELETE)),
        (a_job(processor=EXTERNAL), (Action.CANCEL,)),
        (processing(processor=EXTERNAL), (Action.CANCEL,)),
        (a_job(processor=EXTERNAL, status=Status.FAILED), AT_THE_END),
    ],
)
def test_a_job_offers_the_actions_of_its_state_the_likeliest_first(job: Job, actions: tuple[Action, ...]) -> None:
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
    job = ended_with(errors)
    assert (job.status, job.message, job.progress, job.finished_at) == (status, message, 100, NOON)
    assert job.failed == sum(error is not None for error in errors)


def test_the_newest_error_stays_until_the_end() -> None:
    assert ended_with(["first", "second", None]).error == "second"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30))
def test_progress_never_goes_back_and_is_100_only_at_the_end(steps: list[tuple[bool, float]]) -> None:
    job = a_job(total_videos=40).claimed(at=NOON)
    for has_result, fraction in steps:
        before = job.progress
        if has_result:
            job = job.with_result(video_id="v", error=None, fractions=0, running=0, at=NOON)
        else:
            job = job.progressed(fractions=fraction, running=1, at=NOON)
        assert before <= job.progress <= 99


def test_progress_is_the_floor_of_finished_and_running_shares() -> None:
    job = a_job(total_videos=20, current_video=9).claimed(at=NOON)
    assert job.progressed(fractions=0.19, running=1, at=NOON).progress == 45
    assert job.progressed(fractions=0.2, running=1, at=NOON).progress == 46


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


def test_an_update_has_an_error_only_when_there_is_one() -> None:
    assert b'"error":"cut off"' in msgspec.json.encode(a_job(error="cut off").update())
    assert b'"error"' not in msgspec.json.encode(a_job().update())
