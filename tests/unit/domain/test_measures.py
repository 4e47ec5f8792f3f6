"""What results and changes of jobs add to the tallies."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backend.clock import to_millis
from backend.domain.measures import QUARTER_MILLIS, Ledger, MeasureKind, VideoResult, job_measures
from progress_dashboard.protocol import EXTERNAL, Status
from tests.support.clock import NOON
from tests.support.jobs import a_job

AT = to_millis(NOON)


def a_result(**given: object) -> VideoResult:
    """Return a good result that began at noon and took 2 s."""
    usual = {"job_id": "job-1", "position": 0, "attempt": 1, "started_at": AT, "millis": 2000}
    return VideoResult(**{**usual, **given})  # type: ignore[arg-type]


def sums(ledger: Ledger) -> dict[tuple[int, str], tuple[int, int, int]]:
    """Return count, time and work by quarter (0: that of noon) and kind, without what cancels out."""
    found = {
        ((at - AT) // QUARTER_MILLIS, str(kind)): (tally.count, tally.millis, tally.work_millis)
        for (at, _, _, kind), tally in ledger.tallies.items()
    }
    return {key: tally for key, tally in found.items() if any(tally)}


def test_a_result_counts_in_the_quarter_in_which_it_ended() -> None:
    ledger = Ledger()
    ledger.add_result(a_result(started_at=AT + QUARTER_MILLIS - 1000), owner_id="ana", processor="probe")
    assert sums(ledger) == {(1, "ok"): (1, 2000, 1000), (0, "work"): (0, 0, 1000)}


def test_long_work_is_shared_by_all_its_quarters() -> None:
    ledger = Ledger()
    ledger.add_result(a_result(millis=int(2.5 * QUARTER_MILLIS)), owner_id="ana", processor="probe")
    work = {quarter: tally[2] for (quarter, _), tally in sums(ledger).items()}
    assert work == {0: QUARTER_MILLIS, 1: QUARTER_MILLIS, 2: QUARTER_MILLIS // 2}


def test_a_newer_result_takes_the_earlier_one_out_of_its_quarter() -> None:
    failed = a_result(has_failed=True, fingerprint="f" * 12)
    retried = a_result(attempt=2, started_at=AT + QUARTER_MILLIS, millis=3000)
    ledger = Ledger()
    ledger.add_result(failed, owner_id="ana", processor="probe")
    ledger.add_result(retried, previous=failed, owner_id="ana", processor="probe")
    assert sums(ledger) == {
        (0, "failed"): (0, 0, 2000),  # the work was done
        (1, "ok"): (1, 3000, 3000),
        (1, "retry"): (1, 0, 0),
        (1, "helped"): (1, 0, 0),
    }
    assert not any(ledger.causes.values())
    assert all(tally.histogram >= 0 for tally in ledger.tallies.values())


def test_a_retry_of_a_good_video_is_none_that_could_help() -> None:
    ledger = Ledger()
    ledger.add_result(a_result(), owner_id="ana", processor="probe")
    ledger.add_result(a_result(attempt=2), previous=a_result(), owner_id="ana", processor="probe")
    assert sums(ledger) == {(0, "ok"): (1, 2000, 4000)}


def test_an_unknown_duration_is_in_no_percentile() -> None:
    ledger = Ledger()
    ledger.add_result(a_result(millis=0, has_failed=True), owner_id="ana", processor="probe")
    (tally,) = ledger.tallies.values()
    assert (tally.count, tally.histogram) == (1, 0)


def test_a_first_start_is_a_wait() -> None:
    waiting = a_job(created_at=NOON, updated_at=NOON)
    started = waiting.claimed(at=NOON + timedelta(seconds=90))
    (measure,) = job_measures(waiting, started)
    assert (measure.kind, measure.millis) == (MeasureKind.WAIT, 90_000)


def test_starting_again_is_no_wait() -> None:
    started = a_job(created_at=NOON, updated_at=NOON).claimed(at=NOON)
    released = started.released(at=NOON, message="")
    assert not list(job_measures(released, released.claimed(at=NOON + timedelta(hours=1))))


def test_a_retry_is_a_run_but_no_wait() -> None:
    failed = a_job(total_videos=1).claimed(at=NOON).with_job_error("It broke.", at=NOON)
    retried = failed.retried(1, failed=0, error=None, at=NOON)
    again = retried.claimed(at=NOON + timedelta(minutes=1))
    assert not list(job_measures(retried, again))
    ended = again.with_result(video_id="a", error=None, fractions=0, running=0, at=NOON + timedelta(minutes=3))
    (measure,) = job_measures(again, ended)
    assert (measure.kind, measure.millis) == (MeasureKind.RUN, 120_000)


def test_a_cancelled_run_says_nothing_about_how_long_jobs_take() -> None:
    started = a_job().claimed(at=NOON)
    assert not list(job_measures(started, started.cancelled(at=NOON + timedelta(hours=1))))


def test_a_job_that_pauses_itself_counts_when_it_is_paused() -> None:
    started = a_job().claimed(at=NOON)
    asked = started.with_request("pause", at=NOON, message="", pause_reason="The disk is full.")
    assert not list(job_measures(started, asked))
    (measure,) = job_measures(asked, asked.released(at=NOON, message=""))
    assert measure.kind is MeasureKind.SELF_PAUSE


def test_a_pause_that_a_user_asked_for_is_no_self_pause() -> None:
    asked = a_job().claimed(at=NOON).with_request("pause", at=NOON, message="")
    assert not list(job_measures(asked, asked.released(at=NOON, message="")))


@pytest.mark.parametrize(("done", "failed"), [(10, 3), (10, 0)])
def test_the_good_videos_of_an_external_job_count_at_its_end(done: int, failed: int) -> None:
    started = a_job(processor=EXTERNAL, current_video=done, failed=failed).claimed(at=NOON)
    ended = started.evolve(status=Status.COMPLETED_WITH_ERRORS, finished_at=NOON)
    counted = {measure.kind: measure.number for measure in job_measures(started, ended)}
    assert counted == {MeasureKind.RUN: 1, MeasureKind.OK: done - failed}


def test_the_good_videos_of_a_cancelled_external_job_count_too() -> None:
    """Its failures were counted as they came: without the good ones it would look as if all had failed."""
    started = a_job(processor=EXTERNAL, current_video=10, failed=3).claimed(at=NOON)
    (measure,) = job_measures(started, started.cancelled(at=NOON))
    assert (measure.kind, measure.number) == (MeasureKind.OK, 7)
