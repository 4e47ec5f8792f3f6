"""Which changes of a job are milestones, and what a milestone says."""

from __future__ import annotations

from datetime import timedelta

from backend.domain.timeline import Milestone
from progress_dashboard.protocol import PAUSE, Status
from tests.support.clock import NOON
from tests.support.jobs import ERA, a_job


def test_the_first_state_of_a_job_is_a_milestone() -> None:
    milestone = Milestone.between(None, a_job(id="job-1", seq=3))
    assert milestone is not None
    assert (milestone.job_id, milestone.seq, milestone.at, milestone.status) == ("job-1", 3, ERA, Status.PENDING)
    assert milestone.previous_at is None


def test_a_change_of_status_is_a_milestone() -> None:
    running = a_job(current_video=4, updated_at=NOON).claimed(at=NOON)
    reason, later = "The disk is full.", NOON + timedelta(minutes=1)
    paused = running.evolve(pause_reason=reason).paused(at=later).evolve(seq=9)
    milestone = Milestone.between(running, paused)
    assert milestone is not None
    assert (milestone.status, milestone.current_video, milestone.pause_reason) == (Status.PAUSED, 4, reason)
    assert (milestone.seq, milestone.at, milestone.previous_at) == (9, later, NOON)
    assert milestone.message == paused.message


def test_a_restart_says_at_how_many_videos_the_job_continues() -> None:
    running = a_job(current_video=4).claimed(at=NOON)
    milestone = Milestone.between(running, running.released(at=NOON, message="Waiting"))
    assert milestone is not None
    assert (milestone.status, milestone.resumed) == (Status.PENDING, 4)


def test_a_new_attempt_is_a_milestone_even_in_the_same_status() -> None:
    waiting = a_job()
    milestone = Milestone.between(waiting, waiting.evolve(attempt=2))
    assert milestone is not None
    assert milestone.attempt == 2


def test_progress_failed_videos_and_requests_are_no_milestones() -> None:
    running = a_job().claimed(at=NOON)
    for after in (
        running.progressed(fractions=0.5, running=1, at=NOON),
        running.with_result(video_id="v", error="cut off", fractions=0, running=0, at=NOON),
        running.with_request(PAUSE, at=NOON, message="Pausing..."),
    ):
        assert Milestone.between(running, after) is None
