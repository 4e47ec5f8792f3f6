"""A job's timeline in the words of its page."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from backend.domain.job import Action, Job
from backend.domain.notification import ChannelKind, DeliveryState, EventKind
from backend.domain.timeline import ChannelDelivery, Milestone, SharedAction, Timeline
from progress_dashboard.protocol import EXTERNAL, Status
from tests.support.jobs import ERA, a_job
from ui.components.job.job_timeline import TimelineStep, ongoing, steps, with_deliveries, with_shared_actions

PENDING, PROCESSING, PAUSED, COMPLETED = Status.PENDING, Status.PROCESSING, Status.PAUSED, Status.COMPLETED
JOB = a_job(total_videos=500, found=500)
QUEUED = (0, PENDING, 0)


def milestone(second: float, status: Status, place: int, **facts: Any) -> Milestone:
    usual = {"attempt": 1, "resumed": None, "pause_reason": None, "message": "", "previous_at": None}
    at = ERA + timedelta(seconds=second)
    return Milestone(
        job_id=JOB.id, seq=int(second) + 1, at=at, status=status, current_video=place, **{**usual, **facts}
    )


def lines(*changes: tuple[Any, ...], job: Job = JOB) -> list[tuple[str, ...]]:
    """Return the titles and notes of changes: (second, status, place), and further facts if they matter."""
    milestones = tuple(milestone(*change[:3], **(change[3] if change[3:] else {})) for change in changes)
    return [(step.title, *step.notes) for step in steps(job, Timeline(milestones))[0]]


def test_an_uninterrupted_job_was_queued_started_and_completed() -> None:
    assert lines(QUEUED, (4, PROCESSING, 0), (2472, COMPLETED, 500)) == [
        ("Queued", "500 videos"),
        ("Started", "after 4 s in the queue"),
        ("Completed", "41 min 8 s later"),
    ]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"found": 500}, "500 videos"),
        ({"found": 498}, "500 videos, 2 without a file"),
        ({"found": 500, "skipped_rows": 12}, "512 rows, 500 ready"),
        ({"found": 498, "skipped_rows": 12}, "512 rows, 500 ready, of these 2 without a file"),
        ({"found": 0, "total_videos": 1, "skipped_rows": 1}, "2 rows, 1 ready, of these 1 without a file"),
    ],
)
def test_the_first_line_has_the_numbers_of_the_list(facts: dict[str, Any], words: str) -> None:
    assert lines(QUEUED, job=JOB.evolve(**facts)) == [("Queued", words)]


def test_a_continuation_after_a_restart_has_the_lost_time() -> None:
    restarted = {"resumed": 214, "previous_at": ERA + timedelta(seconds=100)}
    assert lines(QUEUED, (4, PROCESSING, 0), (109, PENDING, 214, restarted), (111, PROCESSING, 214))[2:] == [
        ("Resumed at 214 / 500", "after a restart of the server, 11 s lost")
    ]


def test_until_it_continues_after_a_restart_a_job_is_queued_again() -> None:
    assert lines(QUEUED, (4, PROCESSING, 0), (109, PENDING, 214, {"resumed": 214}))[2:] == [
        ("Queued again at 214 / 500", "after a restart of the server")
    ]


def test_a_resume_is_one_line_with_the_length_of_the_pause() -> None:
    paused = (QUEUED, (4, PROCESSING, 0), (64, PAUSED, 10), (364, PENDING, 10))
    assert lines(*paused)[2:] == [("Paused at 10 / 500", "1 min later"), ("Resumed at 10 / 500", "paused for 5 min")]
    assert lines(*paused, (370, PROCESSING, 10)) == lines(*paused)


def test_a_pause_that_was_withdrawn_is_a_line() -> None:
    assert lines(QUEUED, (4, PROCESSING, 0), (9, PENDING, 3), (10, PROCESSING, 3))[2:] == [
        ("Continued at 3 / 500", "the pause was withdrawn")
    ]


def test_a_retry_is_a_labelled_attempt() -> None:
    ended = (QUEUED, (4, PROCESSING, 0), (64, Status.COMPLETED_WITH_ERRORS, 500, {"message": "Done, 9 failed"}))
    second = {"attempt": 2}
    assert lines(*ended, (184, PENDING, 491, second), (186, PROCESSING, 491, second))[2:] == [
        ("Completed with errors", "1 min later", "Done, 9 failed"),
        ("Attempt 2: 9 videos", "2 min later"),
        ("Started", "after 2 s in the queue"),
    ]


def test_an_attempt_with_an_unknown_creation_is_labelled_too() -> None:
    assert lines(QUEUED, (4, PROCESSING, 0, {"attempt": 3}))[1][0] == "Attempt 3 started"


def test_an_error_is_apart_from_the_notes() -> None:
    milestones = (
        milestone(0, PENDING, 0),
        milestone(4, PROCESSING, 0),
        milestone(7, PAUSED, 3, pause_reason="3 failures in a row: The disk is full."),
        milestone(9, Status.CANCELLED, 3),
        milestone(90, PENDING, 0, attempt=2),
        milestone(91, Status.FAILED, 0, attempt=2, message="The processor is not there."),
    )
    assert [(step.title, step.error) for step in steps(JOB, Timeline(milestones))[0] if step.error] == [
        ("Paused by itself at 3 / 500", "3 failures in a row: The disk is full."),
        ("Failed", "The processor is not there."),
    ]


def test_an_external_job_starts_with_its_first_report() -> None:
    job = JOB.evolve(processor=EXTERNAL)
    assert lines(QUEUED, (4, PROCESSING, 0), job=job) == [
        ("Created as an external job", "500 videos"),
        ("Started", "after 4 s without a report"),
    ]
    assert ongoing(job, TimelineStep(ERA, PENDING, ""), ERA + timedelta(seconds=4)) == " · no report for 4 s"


def test_durations_below_a_second_are_left_out_and_none_is_negative() -> None:
    assert lines(QUEUED, (-3600, PROCESSING, 0), (-3599.5, COMPLETED, 500))[1:] == [("Started",), ("Completed",)]
    restarted = {"resumed": 0, "previous_at": ERA + timedelta(hours=1)}
    assert lines(QUEUED, (1, PROCESSING, 0), (2, PENDING, 0, restarted), (3, PROCESSING, 0))[2:] == [
        ("Resumed at 0 / 500", "after a restart of the server, 0 s lost")
    ]


def test_only_the_newest_of_many_changes_are_lines() -> None:
    newest = (
        milestone(3, PENDING, 7),
        milestone(4, PROCESSING, 7),
        milestone(64, PAUSED, 8),
        milestone(124, PENDING, 8),
    )
    shown, omitted = steps(JOB, Timeline(newest, earlier=29_998))
    assert [step.title for step in shown] == ["Paused at 8 / 500", "Resumed at 8 / 500"]
    assert omitted == 30_000


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (PENDING, " · queued for 12 min"),
        (PROCESSING, " · running for 12 min"),
        (PAUSED, " · paused for 12 min"),
        (COMPLETED, ""),
    ],
)
def test_an_unfinished_step_has_a_duration(status: Status, words: str) -> None:
    step = TimelineStep(ERA, status, "")
    assert ongoing(JOB, step, ERA + timedelta(minutes=12)) == words
    assert ongoing(JOB, replace(step, at=ERA + timedelta(hours=1)), ERA) == words.replace("12 min", "0 s")


def test_what_was_asked_of_several_jobs_at_once_has_a_line_before_what_it_led_to() -> None:
    asked = SharedAction("j", ERA + timedelta(seconds=5), Action.CANCEL, "ana", 214)
    drawn = [TimelineStep(ERA, PENDING, "Queued"), TimelineStep(asked.at, Status.CANCELLED, "Cancelled at 1 / 2")]
    shown = with_shared_actions(drawn, Timeline((), actions=(asked,)))
    assert [step.title for step in shown] == [
        "Queued",
        "Cancelling asked for 214 jobs at once",
        "Cancelled at 1 / 2",
    ]
    assert (shown[1].notes, shown[1].icon) == (("by ana",), "checklist")


def delivery_line(state: DeliveryState, **facts: Any) -> tuple[str, ...]:
    """Return the title, notes and error of a delivery's line."""
    usual = {"event": EventKind.FAILED, "attempt": 1, "channel_name": "ops", "kind": ChannelKind.WEBHOOK, "tries": 1}
    [step] = with_deliveries([], [ChannelDelivery(state=state, at=ERA, **{**usual, **facts})])
    return (step.title, *step.notes, *filter(None, [step.error]))


@pytest.mark.parametrize(
    ("state", "facts", "words"),
    [
        (DeliveryState.SENT, {}, ("Told by ops: failed",)),
        (DeliveryState.SENT, {"tries": 3, "attempt": 2}, ("Told by ops: failed", "attempt 2", "3 tries")),
        (DeliveryState.GROUPED, {"together": 12}, ("Told by ops: failed", "together with 11 other events")),
        (DeliveryState.WAITING, {"tries": 0}, ("To be told by ops: failed",)),
        (DeliveryState.WAITING, {"tries": 2, "error": "No."}, ("To be told by ops: failed", "2 tries", "No.")),
        (DeliveryState.FAILED, {"tries": 4, "error": "No."}, ("Not taken by ops: failed", "4 tries", "No.")),
        (DeliveryState.MUTED, {}, ("Not told by ops: failed", "muted")),
        (DeliveryState.MUTED, {"error": "It is off."}, ("Not told by ops: failed", "It is off.")),
    ],
)
def test_what_became_of_an_event_on_a_channel_is_a_line(
    state: DeliveryState, facts: dict[str, Any], words: tuple[str, ...]
) -> None:
    assert delivery_line(state, **facts) == words


def test_deliveries_stand_where_they_were_sent() -> None:
    told = ChannelDelivery(
        event=EventKind.COMPLETED,
        attempt=1,
        channel_name="ops",
        kind=ChannelKind.APPRISE,
        state=DeliveryState.SENT,
        tries=1,
        at=ERA + timedelta(seconds=1),
        sent_at=ERA + timedelta(seconds=5),
    )
    ended = [TimelineStep(ERA + timedelta(seconds=second), COMPLETED, f"{second}") for second in (1, 9)]
    assert [step.title for step in with_deliveries(ended, [told])] == ["1", "Told by ops: completed", "9"]
