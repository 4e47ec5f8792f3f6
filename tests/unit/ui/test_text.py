"""Sentences about numbers, durations and the dashboard."""

from __future__ import annotations

from typing import Any

import pytest

from backend.domain.job import Job
from backend.domain.pace import Estimate
from progress_dashboard.protocol import Status
from tests.support.jobs import a_job
from ui import text


def job(status: Status, **facts: Any) -> Job:
    return a_job(status=status, **facts)


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
def test_a_duration_never_has_sixty_seconds(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words


def test_the_headline_counts_what_runs_and_what_needs_attention() -> None:
    jobs = [job(Status.PROCESSING)] * 3 + [job(Status.FAILED), job(Status.COMPLETED_WITH_ERRORS)]
    assert text.headline(jobs) == "3 jobs running, 2 need attention."


def test_the_headline_counts_what_waits_for_a_worker() -> None:
    waiting = {"waiting_reason": "Waiting for a worker: none is connected"}
    jobs = [job(Status.PROCESSING, **waiting), job(Status.PENDING, **waiting), job(Status.PENDING)]
    assert text.headline(jobs) == "1 job running, 2 waiting, 2 wait for a worker."
    assert text.headline(jobs[:1]) == "1 job running, 1 waits for a worker."


def test_the_headline_has_the_singular() -> None:
    assert text.headline([job(Status.PROCESSING), job(Status.FAILED)]) == "1 job running, 1 needs attention."


def test_the_headline_counts_attention_when_nothing_runs() -> None:
    assert text.headline([job(Status.FAILED), job(Status.COMPLETED)]) == "1 job needs attention."


def test_only_a_job_that_paused_itself_needs_attention() -> None:
    jobs = [job(Status.PAUSED, pause_reason="The disk is full."), job(Status.PAUSED)]
    assert text.headline(jobs) == "1 job needs attention."
    assert text.tab_state(jobs) == "!"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"resumed": 1214}, "resumed at 1,214/5,000 after a restart"),
        ({"resumed": 0}, ""),
        ({"resumed": None}, ""),
        ({"resumed": 1214, "status": Status.COMPLETED}, ""),
    ],
)
def test_an_unfinished_job_says_where_it_continued_after_a_restart(facts: dict[str, Any], words: str) -> None:
    assert text.resumed(a_job(**{"status": Status.PROCESSING, "total_videos": 5000, **facts})) == words


def test_the_headline_counts_waiting_jobs_apart() -> None:
    assert text.headline([job(Status.PENDING)]) == "0 jobs running, 1 waiting."


def test_the_outlook_is_that_of_the_slowest_of_several_jobs() -> None:
    jobs = [job(Status.PROCESSING, id="slow"), job(Status.PROCESSING, id="fast"), job(Status.COMPLETED)]
    estimates = {"slow": Estimate(1560, 1500, 1600, 18), "fast": Estimate(60, 55, 65, 18)}
    assert text.outlook(jobs, lambda job: estimates.get(job.id)) == "The last one ends in about 26 min."


@pytest.mark.parametrize("others", [[Status.PROCESSING], [Status.PENDING, Status.PROCESSING], []])
def test_there_is_no_outlook_without_estimates_of_several_jobs(others: list[Status]) -> None:
    jobs = [job(Status.PROCESSING, id="known"), *map(job, others)]
    assert text.outlook(jobs, lambda job: Estimate(60, 55, 65, 18) if job.id == "known" else None) == ""


def test_a_dashboard_without_failures_is_all_done() -> None:
    assert text.headline([job(Status.COMPLETED), job(Status.CANCELLED)]) == "All done."


@pytest.mark.parametrize(
    ("jobs", "state"),
    [
        ([job(Status.PROCESSING, progress=40, total_videos=30), job(Status.PROCESSING, progress=80)], "(50 %)"),
        ([job(Status.PROCESSING, progress=99), job(Status.FAILED)], "(99 %)"),
        ([job(Status.COMPLETED), job(Status.COMPLETED_WITH_ERRORS)], "!"),
        ([job(Status.COMPLETED), job(Status.CANCELLED)], "✓"),
        ([job(Status.COMPLETED), job(Status.PENDING)], ""),
        ([job(Status.PENDING)], ""),
    ],
)
def test_the_tab_has_the_percent_or_else_failure_or_success(jobs: list[Job], state: str) -> None:
    assert text.tab_state(jobs) == state
