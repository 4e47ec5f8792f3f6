"""Reports on external jobs over HTTP, with the program as a child process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers import Program, add_user, api, running, token
from tests.support.watchers import Watcher

pytestmark = pytest.mark.acceptance  # starts the whole program

IDS = ("one", "two", "three", "four")
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    home = tmp_path_factory.mktemp("external")
    for name in ("ana", "ben"):
        add_user(home / "data", name)
    with running(home / "data", max_running_jobs=1) as started:
        yield started


@pytest.fixture(scope="module")
def tokens(program: Program) -> dict[str, str]:
    return {name: token(program.data_dir, name) for name in ("ana", "ben")}


@pytest.fixture
def client(program: Program, tokens: dict[str, str]) -> Iterator[httpx.Client]:
    with api(program, tokens["ana"]) as opened:
        yield opened


def new_job(client: httpx.Client, *video_ids: str) -> dict[str, Any]:
    """Return a new external job."""
    order = {"video_ids": video_ids or IDS, "processor": "external", "name": "external"}
    answer = client.post("/api/jobs", json=order)
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = answer.json()
    return job


def post_report(client: httpx.Client, job: dict[str, Any], body: Any) -> httpx.Response:
    return client.post(f"/api/jobs/{job['job_id']}/progress", json=body)


def accepted(client: httpx.Client, job: dict[str, Any], body: Any) -> dict[str, Any]:
    """Return the job after a report that is accepted."""
    answer = post_report(client, job, body)
    assert answer.status_code == 200, answer.text
    state: dict[str, Any] = answer.json()
    return state


def test_a_whole_job_is_reported_one_by_one_and_in_a_list(
    program: Program, tokens: dict[str, str], client: httpx.Client
) -> None:
    job = new_job(client)
    assert (job["found"], job["missing"], job["files"]) == (4, 0, "an external job needs no files here")
    with Watcher(program, tokens["ana"]) as watcher:
        watcher.until_status(job["job_id"], "pending")
        first = accepted(client, job, {"n": 1, "status": "processing", "video_id": "one", "message": "Fetching"})
        assert first == client.get(f"/api/jobs/{job['job_id']}").json()
        accepted(client, job, {"n": 2, "current_video": 1, "video_id": "one"})
        accepted(
            client, job, [{"n": 4, "video_id": "three", "error": "gone"}, {"n": 3, "video_id": "two", "error": "cut"}]
        )
        end = accepted(client, job, {"n": 5, "status": "completed"})
        watcher.until_ended(job["job_id"])
        seen = [update for update in watcher.updates if update["job_id"] == job["job_id"]]
    assert (end["status"], end["failed"], end["current_video"], end["progress"]) == ("completed_with_errors", 2, 4, 100)
    assert [update["error"] for update in seen if update["failed"]][:2] == ["cut", "gone"]
    assert {"seq": seen[-1]["seq"], "status": seen[-1]["status"]} == {"seq": end["seq"], "status": end["status"]}
    videos = client.get(f"/api/jobs/{job['job_id']}/videos").json()["items"]
    assert [video["status"] for video in videos] == ["completed", "failed", "failed", "completed"]


def test_external_jobs_take_no_place_of_jobs_that_run_here(
    program: Program, tokens: dict[str, str], client: httpx.Client
) -> None:
    for _ in range(3):
        accepted(client, new_job(client), {"n": 1})
    with Watcher(program, tokens["ana"]) as watcher:
        internal = client.post("/api/jobs", json={"video_ids": ["nowhere"]}).json()["job_id"]
        assert watcher.until_ended(internal)["status"] == "failed"


BODIES: dict[str, tuple[bytes, int, str]] = {
    "no JSON": (b"{", 400, "not valid JSON"),
    "nothing": (b"", 400, "not valid JSON"),
    "bytes that are no text": (b'{"n": 1, "message": "\xff"}', 400, "not valid JSON"),
    "half a character": (b'{"n": 1, "message": "\\ud800"}', 400, "not valid JSON"),
    "a number that is none": (b'{"n": NaN}', 400, "not valid JSON"),
    "two objects": (b'{"n": 1}{"n": 2}', 400, "not valid JSON"),
    "no report": (b"17", 422, "Expected"),
    "a counter that is too large": (b'{"n": 9007199254740993}', 422, "n"),
    "a counter that is huge": (b'{"n": ' + b"9" * 10_000 + b"}", 422, "$.n"),
    "an infinite counter": (b'{"n": 1e999}', 422, "$.n"),
    "a counter below zero": (b'{"n": -1}', 422, "$.n"),
    "a counter with a fraction": (b'{"n": 1.5}', 422, "$.n"),
    "a counter that is a word": (b'{"n": true}', 422, "$.n"),
    "no counter": (b'{"progress": 5}', 422, "n"),
    "more than 100 percent": (b'{"n": 1, "progress": 101}', 422, "$.progress"),
    "a huge number of videos": (b'{"n": 1, "current_video": ' + b"9" * 40 + b"}", 422, "current_video"),
    "a field that is a typo": (b'{"n": 1, "progres": 5}', 422, "`progres`"),
    "a very long field": (b'{"n": 1, "' + b"x" * 100_000 + b'": 5}', 422, "unknown field"),
    "deep nesting": (b"[" * 100_000, 422, "Expected"),
    "a list in a list": (b'[[{"n": 1}]]', 422, "$[0]"),
    "one bad report among good ones": (b'[{"n": 1}, {"n": 2, "status": "cancelled"}]', 422, "status must be"),
    "a text that no database takes": (b'{"n": 1, "error": "a\\u0000b"}', 422, "readable text"),
    "1,001 reports": (b"[" + b",".join(b'{"n": %d}' % n for n in range(1001)) + b"]", 422, "At most 1,000"),
    "over 1 MiB": (b'[{"n": 1, "message": "' + b"x" * 2**20 + b'"}]', 413, "1 MiB"),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_bad_body_is_refused_and_changes_nothing(client: httpx.Client, what: str) -> None:
    body, status, reason = BODIES[what]
    job = new_job(client)
    answer = client.post(f"/api/jobs/{job['job_id']}/progress", content=body)
    assert answer.status_code == status, answer.text
    assert reason in answer.json()["detail"]
    assert len(answer.json()["detail"]) < 300
    assert client.get(f"/api/jobs/{job['job_id']}").json()["status"] == "pending"


def test_the_job_of_another_user_is_like_an_unknown_one(
    program: Program, tokens: dict[str, str], client: httpx.Client
) -> None:
    job = new_job(client)
    with api(program, tokens["ben"]) as ben:
        answers = [post_report(ben, one, {"n": 1}) for one in (job, {"job_id": UNKNOWN}, {"job_id": "%00"})]
    assert {(answer.status_code, answer.text) for answer in answers} == {(404, answers[0].text)}


def test_an_ended_job_and_one_that_runs_here_answer_409(client: httpx.Client) -> None:
    job = new_job(client)
    accepted(client, job, {"n": 1, "status": "failed"})
    internal = client.post("/api/jobs", json={"video_ids": ["nowhere"]}).json()
    for one, reason in ((job, "already ended"), (internal, "is not an external job")):
        answer = post_report(client, one, {"n": 2})
        assert (answer.status_code, reason in answer.json()["detail"]) == (409, True)
    assert post_report(client, job, {"n": 1}).status_code == 200


def test_options_are_refused(client: httpx.Client) -> None:
    order = {"video_ids": ["one"], "processor": "external", "options": {"max_speed": 2}}
    answer = client.post("/api/jobs", json=order)
    assert (answer.status_code, answer.json()["detail"]) == (422, "An external job takes no options.")


def test_answered_reports_survive_a_kill(tmp_path: Path) -> None:
    """What was answered is still there after a kill, and the sender continues."""
    jwt = add_user(tmp_path / "data", "ana")
    reports = [{"n": 8, "video_id": "one", "error": "cut off"}, {"n": 9, "current_video": 2}]
    with running(tmp_path / "data") as first, api(first, jwt) as client:
        job = new_job(client)
        answered = accepted(client, job, reports)
        first.kill()
    with running(tmp_path / "data") as second, api(second, jwt) as client:
        assert client.get(f"/api/jobs/{job['job_id']}").json() == answered
        repeated = accepted(client, job, reports)
        assert (repeated["failed"], repeated["current_video"]) == (1, 2)
        assert accepted(client, job, {"n": 10, "status": "completed"})["status"] == "completed_with_errors"


def test_watchers_see_that_a_sender_is_silent(tmp_path: Path) -> None:
    jwt = add_user(tmp_path / "data", "ana")
    with (
        running(tmp_path / "data", external_timeout_seconds=0.5, cleanup_interval_seconds=0.1) as program,
        api(program, jwt) as client,
        Watcher(program, jwt) as watcher,
    ):
        end = watcher.until_ended(new_job(client)["job_id"])
    assert "no word from the sender" in end["error"].lower()
    assert end["status"] == "failed"
