"""Sentences about numbers, durations and the dashboard as people read them."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime
from typing import Any

import pytest

from backend.jobs import Job, Status
from ui import text

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def a_job(status: Status, **facts: Any) -> Job:
    given = {"total_videos": 10, **facts}
    return Job(
        id="1",
        owner_id="u",
        owner="alice",
        name="n",
        processor="probe",
        created_at=NOON,
        updated_at=NOON,
        status=status,
        **given,
    )


def test_the_examples_in_the_module_are_true() -> None:
    outcome = doctest.testmod(text)
    assert outcome.attempted > 5
    assert outcome.failed == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (3599.7, "1 h"),
        (3660, "1 h 1 min"),
        (86_400, "1 d"),
    ],
)
def test_durations_never_say_sixty_seconds(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words


def test_the_headline_counts_what_runs_and_what_needs_somebody() -> None:
    jobs = [a_job(Status.PROCESSING)] * 3 + [a_job(Status.FAILED), a_job(Status.COMPLETED_WITH_ERRORS)]
    assert text.headline(jobs) == "3 jobs running, 2 need attention."


def test_the_headline_says_one_job_and_needs() -> None:
    assert text.headline([a_job(Status.PROCESSING), a_job(Status.FAILED)]) == "1 job running, 1 needs attention."


def test_where_nothing_runs_the_headline_still_says_what_needs_attention() -> None:
    assert text.headline([a_job(Status.FAILED), a_job(Status.COMPLETED)]) == "1 job needs attention."


def test_the_headline_tells_waiting_jobs_from_running_ones() -> None:
    assert text.headline([a_job(Status.PENDING)]) == "0 jobs running, 1 waiting."


def test_a_dashboard_where_all_went_well_is_all_done() -> None:
    assert text.headline([a_job(Status.COMPLETED), a_job(Status.CANCELLED)]) == "All done."


@pytest.mark.parametrize(
    ("jobs", "state"),
    [
        ([a_job(Status.PROCESSING, progress=40, total_videos=30), a_job(Status.PROCESSING, progress=80)], "(50 %)"),
        ([a_job(Status.PROCESSING, progress=99), a_job(Status.FAILED)], "(99 %)"),
        ([a_job(Status.COMPLETED), a_job(Status.COMPLETED_WITH_ERRORS)], "!"),
        ([a_job(Status.COMPLETED), a_job(Status.CANCELLED)], "✓"),
        ([a_job(Status.COMPLETED), a_job(Status.PENDING)], ""),
        ([a_job(Status.PENDING)], ""),
    ],
)
def test_the_tab_says_the_share_done_by_videos_then_trouble_then_success(jobs: list[Job], state: str) -> None:
    assert text.tab_state(jobs) == state
