"""What Problems shows of a cause, in words, and what the browser's messages mean."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from backend.domain.many import JobChoice
from backend.domain.problem import CauseHistory, CauseNote, Example, FailedJob, Problem, Problems
from backend.errors import Fault, Invalid
from backend.jobs.problems import Saying
from progress_dashboard.protocol import Status
from tests.support.clock import NOON
from tests.support.jobs import a_job
from ui.components.dashboard.dashboard_view import choice_of
from ui.components.problems.problem_list import in_order, is_fingerprint, problem_facts
from ui.components.problems.problem_view import saying_of

NAME = "0123456789ab"
PROBLEM = Problem(
    fingerprint=NAME,
    videos=1_200,
    jobs=3,
    first_seen=NOON,
    last_seen=NOON + timedelta(hours=1),
    example=Example(
        job_id="j1",
        job_name="nightly.csv",
        video_id="v1",
        position=4,
        error="No file for this ID in x",
        traceback=None,
        fault=Fault.PERMANENT,
    ),
    history=CauseHistory(jobs=6, since=NOON, retried=33, helped=31),
    said=CauseNote(fingerprint=NAME, known_until=NOON + timedelta(days=1), claimed_by="ben", claimed_at=NOON),
)


def test_a_cause_is_told_in_words() -> None:
    facts = problem_facts(PROBLEM, None, "ana", NOON)
    assert (facts["affected"], facts["retry"]) == ("1,200 videos in 3 jobs", "Retry in all 3 jobs")
    assert (facts["seen"], facts["helped"]) == ("Seen in 6 jobs", "a retry helped 31 of 33 times")
    assert (facts["claimedBy"], facts["isMine"], facts["where"]) == ("ben", False, None)
    assert facts["lies"] == "Caused by the file: fix it, then retry."


def test_one_job_without_a_retry_so_far() -> None:
    facts = problem_facts(replace(PROBLEM, videos=1, jobs=1, history=CauseHistory(jobs=1)), None, "ben", NOON)
    assert (facts["affected"], facts["retry"]) == ("1 video in 1 job", "Retry in 1 job")
    assert (facts["seen"], facts["helped"], facts["isMine"]) == ("Seen in 1 job", "", True)


def test_external_jobs_are_retried_by_their_sender() -> None:
    example = replace(PROBLEM.example, is_external=True)
    facts = problem_facts(replace(PROBLEM, example=example, can_be_retried=False), None, "ana", NOON)
    assert (facts["retry"], facts["lies"]) == ("", "")


def test_a_time_that_is_over_is_not_shown() -> None:
    assert problem_facts(PROBLEM, None, "ana", NOON)["knownUntil"] is not None
    assert problem_facts(PROBLEM, None, "ana", NOON + timedelta(days=1))["knownUntil"] is None


def test_jobs_of_a_cause_say_what_can_be_done_with_them() -> None:
    job = a_job(id="j1", name="nightly.csv", status=Status.FAILED, total_videos=2, current_video=2, failed=2)
    [row] = problem_facts(PROBLEM, [FailedJob(job, 2)], "ana", NOON)["where"]
    assert (row["name"], row["videos"], row["status"]) == ("nightly.csv", "2 videos", "failed")
    assert [offer["act"] for offer in row["offers"]] == ["retry", "keep", "dismiss", "delete"]


def test_causes_keep_their_places_and_new_ones_come_after_them() -> None:
    causes = [replace(PROBLEM, fingerprint=name) for name in ("a", "b", "c")]
    assert [one.fingerprint for one in in_order(Problems(tuple(causes)), ["c", "gone", "a"])] == ["c", "a", "b"]


@pytest.mark.parametrize("sent", [None, 3, "", "short", "x" * 12 + "y", "0123456789a'", ["0123456789ab"]])
def test_what_is_no_fingerprint_is_ignored(sent: object) -> None:
    assert not is_fingerprint(sent)
    assert is_fingerprint(NAME)


def test_a_message_of_the_browser_changes_what_it_names() -> None:
    assert saying_of({"note": "x", "claimed": True}) == Saying(note="x", claimed=True)
    assert saying_of({"known_until": "2026-01-31T12:00:00Z"}) == Saying(known_until=NOON)
    assert saying_of({"known_until": "", "claimed": "yes", "colour": "red"}) == Saying(known_until="")
    with pytest.raises(Invalid):
        saying_of({"known_until": "soon"})


def test_the_view_of_the_dashboard_is_a_choice_of_jobs() -> None:
    assert choice_of({"show": "all", "q": "night"}) == JobChoice(dashboard=True, q="night")
    assert choice_of({"show": "failed"}) == JobChoice(dashboard=True, statuses=frozenset({Status.FAILED}))
    assert choice_of({"show": 7}) == choice_of("nothing") == JobChoice(dashboard=True)
