"""What the reports of a sender make of an external job."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.job import Job
from backend.errors import IllegalMove
from progress_dashboard.protocol import EXTERNAL, REPORTABLE, SenderReport, Status
from tests.support.clock import NOON
from tests.support.jobs import a_job


def external(total: int = 10) -> Job:
    """Return an external job whose sender has reported already."""
    return a_job(processor=EXTERNAL, total_videos=total).claimed(at=NOON)


def with_reports(job: Job, *reports: SenderReport) -> Job:
    """Return the job after these reports; each one with an error reports another failed video."""
    for report in reports:
        job = job.with_report(report, is_new_failure=bool(report.error and report.video_id), at=NOON)
    return job


RANDOM_REPORTS = st.builds(
    SenderReport,
    n=st.integers(0, 2**53),
    status=st.sampled_from([None, "processing"]),
    progress=st.none() | st.integers(0, 100),
    current_video=st.none() | st.integers(0, 10),
    video_id=st.none() | st.just("v"),
    error=st.none() | st.just("cut off"),
)


@given(st.lists(RANDOM_REPORTS, max_size=10), st.sampled_from(REPORTABLE))
def test_no_report_takes_anything_back_and_the_counts_fit(reports: list[SenderReport], last: Status) -> None:
    job = external()
    for report in reports:
        earlier, job = job, with_reports(job, report)
        assert earlier.progress <= job.progress <= 99
        assert earlier.current_video <= job.current_video
        assert earlier.failed <= job.failed <= job.current_video <= job.total_videos
    end = with_reports(job, SenderReport(n=2**53, status=last))
    assert end.is_finished is (last is not Status.PROCESSING)
    assert (end.progress == 100) is (end.is_finished and (last is not Status.FAILED))


def test_progress_that_is_left_out_is_that_of_the_finished_videos() -> None:
    assert with_reports(external(3), SenderReport(n=1, current_video=2)).progress == 66
    assert with_reports(external(3), SenderReport(n=1, current_video=2, progress=70)).progress == 70


def test_a_failed_video_is_a_finished_one() -> None:
    job = with_reports(external(), SenderReport(n=1, video_id="v", error="cut off"))
    assert (job.current_video, job.failed, job.progress, job.error) == (1, 1, 10, "cut off")
    counted = with_reports(external(), SenderReport(n=1, video_id="v", error="cut off", current_video=4))
    assert (counted.current_video, counted.failed) == (4, 1)


@pytest.mark.parametrize(
    ("failures", "reported", "status", "message"),
    [
        (0, "completed", Status.COMPLETED, "All done: 2 videos"),
        (1, "completed", Status.COMPLETED_WITH_ERRORS, "Done, 1 of 2 videos failed"),
        (1, "completed_with_errors", Status.COMPLETED_WITH_ERRORS, "Done, 1 of 2 videos failed"),
        (0, "completed_with_errors", Status.COMPLETED_WITH_ERRORS, "Done, with errors"),
        (2, "completed", Status.FAILED, "All 2 videos failed"),
    ],
)
def test_a_reported_end_counts_the_failed_videos(failures: int, reported: str, status: Status, message: str) -> None:
    failed = [SenderReport(n=n, video_id=f"v{n}", error="cut off") for n in range(failures)]
    job = with_reports(external(2), *failed, SenderReport(n=9, status=reported))
    assert (job.status, job.message, job.progress, job.current_video) == (status, message, 100, 2)
    assert (job.failed, job.finished_at) == (failures, NOON)


def test_a_job_whose_sender_gave_up_stays_as_far_as_it_was() -> None:
    reports = SenderReport(n=1, current_video=4), SenderReport(n=2, status="failed", error="no disk")
    job = with_reports(external(), *reports)
    assert (job.status, job.current_video, job.progress, job.finished_at) == (Status.FAILED, 4, 40, NOON)
    assert (job.error, job.message) == ("no disk", "no disk")


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.PROCESSING}))
def test_only_a_processing_job_takes_reports(status: Status) -> None:
    with pytest.raises(IllegalMove, match=status.words):
        with_reports(a_job(processor=EXTERNAL, status=status), SenderReport(n=1))
