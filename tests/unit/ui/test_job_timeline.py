"""A job's timeline in the words of its page."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from backend.domain.job import Job
from backend.domain.timeline import Milestone, Timeline
from progress_dashboard.protocol import EXTERNAL, Status
from tests.support.jobs import ERA, a_job
from ui.components.job.job_timeline import Step, steps, still

PENDING, PROCESSING, PAUSED, COMPLETED = Status.PENDING, Status.PROCESSING, Status.PAUSED, Status.COMPLETED
JOB = a_job(total_videos=500, found=500)
QUEUED = (0, PENDING, 0)


def milestone(second: float, status: Status, place: int, **facts: Any) -> Milestone:
    usual = {"attempt": 1, "resumed": None, "trouble": None, "message": "", "heard_at": None}
    at = ERA + timedelta(seconds=second)
    return Milestone(
        job_id=JOB.id, seq=int(second) + 1, at=at, status=status, current_video=place, **{**usual, **facts}
    )


def told(*happened: tuple[Any, ...], job: Job = JOB) -> list[tuple[str, ...]]:
    """Titles and notes of what happened: (second, status, place) each, with more facts where they count."""
    milestones = tuple(milestone(*what[:3], **(what[3] if what[3:] else {})) for what in happened)
    return [(step.title, *step.notes) for step in steps(job, Timeline(milestones))[0]]


def test_a_job_that_ran_through_was_queued_started_and_completed() -> None:
    assert told(QUEUED, (4, PROCESSING, 0), (2472, COMPLETED, 500)) == [
        ("Queued", "500 videos"),
        ("Started", "after 4 s in line"),
        ("Completed", "41 min 8 s later"),
    ]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"found": 500}, "500 videos"),
        ({"found": 498}, "500 videos, 2 without a file"),
        ({"found": 500, "left_out": 12}, "512 rows, 500 ready"),
        ({"found": 498, "left_out": 12}, "512 rows, 500 ready, of these 2 without a file"),
        ({"found": 0, "total_videos": 1, "left_out": 1}, "2 rows, 1 ready, of these 1 without a file"),
    ],
)
def test_the_first_line_says_what_the_list_had(facts: dict[str, Any], words: str) -> None:
    assert told(QUEUED, job=JOB.evolve(**facts)) == [("Queued", words)]


def test_to_go_on_after_a_restart_is_one_line_that_says_what_time_was_lost() -> None:
    heard = {"resumed": 214, "heard_at": ERA + timedelta(seconds=100)}
    assert told(QUEUED, (4, PROCESSING, 0), (109, PENDING, 214, heard), (111, PROCESSING, 214))[2:] == [
        ("Resumed at 214 / 500", "after a restart of the server, 11 s lost")
    ]


def test_until_it_goes_on_after_a_restart_it_is_in_line_again() -> None:
    assert told(QUEUED, (4, PROCESSING, 0), (109, PENDING, 214, {"resumed": 214}))[2:] == [
        ("In line again at 214 / 500", "after a restart of the server")
    ]


def test_to_resume_is_one_line_that_says_how_long_it_was_paused() -> None:
    paused = (QUEUED, (4, PROCESSING, 0), (64, PAUSED, 10), (364, PENDING, 10))
    assert told(*paused)[2:] == [("Paused at 10 / 500", "1 min later"), ("Resumed at 10 / 500", "paused for 5 min")]
    assert told(*paused, (370, PROCESSING, 10)) == told(*paused)


def test_a_pause_that_was_taken_back_is_told() -> None:
    assert told(QUEUED, (4, PROCESSING, 0), (9, PENDING, 3), (10, PROCESSING, 3))[2:] == [
        ("Went on at 3 / 500", "the pause was taken back")
    ]


def test_a_retry_is_a_labelled_attempt() -> None:
    ended = (QUEUED, (4, PROCESSING, 0), (64, Status.COMPLETED_WITH_ERRORS, 500, {"message": "Done, 9 failed"}))
    second = {"attempt": 2}
    assert told(*ended, (184, PENDING, 491, second), (186, PROCESSING, 491, second))[2:] == [
        ("Completed with errors", "1 min later", "Done, 9 failed"),
        ("Attempt 2: 9 videos", "2 min later"),
        ("Started", "after 2 s in line"),
    ]


def test_an_attempt_of_which_only_the_start_is_known_is_labelled_too() -> None:
    assert told(QUEUED, (4, PROCESSING, 0, {"attempt": 3}))[1][0] == "Attempt 3 started"


def test_what_went_wrong_is_said_apart_from_the_rest() -> None:
    milestones = (
        milestone(0, PENDING, 0),
        milestone(4, PROCESSING, 0),
        milestone(7, PAUSED, 3, trouble="3 failures in a row: The disk is full."),
        milestone(9, Status.CANCELLED, 3),
        milestone(90, PENDING, 0, attempt=2),
        milestone(91, Status.FAILED, 0, attempt=2, message="The processor is not there."),
    )
    assert [(step.title, step.trouble) for step in steps(JOB, Timeline(milestones))[0] if step.trouble] == [
        ("Paused by itself at 3 / 500", "3 failures in a row: The disk is full."),
        ("Failed", "The processor is not there."),
    ]


def test_a_job_that_runs_elsewhere_starts_with_its_first_report() -> None:
    job = JOB.evolve(processor=EXTERNAL)
    assert told(QUEUED, (4, PROCESSING, 0), job=job) == [
        ("Made to run elsewhere", "500 videos"),
        ("Started", "after 4 s without a report"),
    ]
    assert still(job, Step(ERA, PENDING, ""), ERA + timedelta(seconds=4)) == " · no report for 4 s"


def test_no_duration_is_negative_and_none_is_told_of_less_than_a_second() -> None:
    assert told(QUEUED, (-3600, PROCESSING, 0), (-3599.5, COMPLETED, 500))[1:] == [("Started",), ("Completed",)]
    back = {"resumed": 0, "heard_at": ERA + timedelta(hours=1)}
    assert told(QUEUED, (1, PROCESSING, 0), (2, PENDING, 0, back), (3, PROCESSING, 0))[2:] == [
        ("Resumed at 0 / 500", "after a restart of the server, 0 s lost")
    ]


def test_of_many_changes_the_newest_are_told_and_the_others_are_counted() -> None:
    newest = (
        milestone(3, PENDING, 7),
        milestone(4, PROCESSING, 7),
        milestone(64, PAUSED, 8),
        milestone(124, PENDING, 8),
    )
    lines, left_out = steps(JOB, Timeline(newest, earlier=29_998))
    assert [step.title for step in lines] == ["Paused at 8 / 500", "Resumed at 8 / 500"]
    assert left_out == 30_000


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (PENDING, " · in line for 12 min"),
        (PROCESSING, " · running for 12 min"),
        (PAUSED, " · paused for 12 min"),
        (COMPLETED, ""),
    ],
)
def test_what_goes_on_says_for_how_long(status: Status, words: str) -> None:
    step = Step(ERA, status, "")
    assert still(JOB, step, ERA + timedelta(minutes=12)) == words
    assert still(JOB, replace(step, at=ERA + timedelta(hours=1)), ERA) == words.replace("12 min", "0 s")
