"""The routes that control jobs: each action, its permissions, late and invalid requests."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from backend.api import control
from tests.support.databases import locked, rows
from tests.support.gated_server import BROKEN, HERE, LOST, MISSING, SLOTS, GatedServer, gated_server, submit
from tests.support.servers import Program, password_of, running
from tests.support.watchers import Watcher

pytestmark = pytest.mark.acceptance  # starts the whole program

UNKNOWN_JOB = "00000000-0000-4000-8000-000000000000"
ALLOWED_ORIGIN = "https://ops.example:8443"
BODIES: dict[str, dict[str, Any]] = {"/priority": {"priority": 1}, "/retry": {"only": "all"}}
ROUTES = sorted(
    (method, route.path.removeprefix("/api/jobs/{job_id}"))
    for route in control.router.routes
    if isinstance(route, APIRoute)
    for method in route.methods or ()
)
UNKNOWN_GROUP = "0123456789ab"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedServer]:
    with gated_server(tmp_path_factory.mktemp("control"), allowed_origins=ALLOWED_ORIGIN) as opened:
        yield opened


@pytest.fixture
def ana(server: GatedServer) -> Iterator[httpx.Client]:
    with server.api("ana") as client:
        yield client


@pytest.fixture
def admin(server: GatedServer) -> Iterator[httpx.Client]:
    with server.api("admin") as client:
        yield client


def request_action(client: httpx.Client, job_id: str, action: str, body: object = None) -> httpx.Response:
    """Request an action such as `/cancel`; "" deletes the job."""
    method = "POST" if action else "DELETE"
    return client.request(method, f"/api/jobs/{job_id}{action}", json=BODIES.get(action) if body is None else body)


def act(client: httpx.Client, job_id: str, action: str, body: object = None) -> dict[str, Any]:
    """Request an action that has to succeed, and return the job."""
    answer = request_action(client, job_id, action, body)
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


def find(client: httpx.Client, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = client.get(f"/api/jobs/{job_id}").json()
    return job


def controlled_fields(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """Return the fields of a job that only actions change, even while it runs."""
    job = find(client, job_id)
    return {name: job[name] for name in ("status", "requested", "attempt", "priority", "kept", "on_dashboard")}


def videos(client: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"/api/jobs/{job_id}/videos").json()["items"]
    return items


# cancel, pause, resume


def test_cancel_is_requested_first_and_may_be_repeated(server: GatedServer, ana: httpx.Client) -> None:
    held = server.hold(ana)
    answer = act(ana, held.job_id, "/cancel")
    assert (answer["status"], answer["requested"]) in (("processing", "cancel"), ("cancelled", None))
    end = server.until(held.job_id, status="cancelled")
    assert (end["requested"], end["message"]) == (None, "Cancelled at 0/2")
    assert [video["status"] for video in videos(ana, held.job_id)] == ["pending", "pending"]
    assert act(ana, held.job_id, "/cancel") == find(ana, held.job_id)


def test_a_paused_job_finishes_running_videos_and_can_resume(server: GatedServer, ana: httpx.Client) -> None:
    held = server.hold(ana, videos=SLOTS + 1)
    pausing = act(ana, held.job_id, "/pause")
    assert (pausing["status"], pausing["requested"], pausing["message"]) == (
        "processing",
        "pause",
        f"Pausing after {SLOTS} running videos",
    )
    assert act(ana, held.job_id, "/pause")["message"] == pausing["message"]
    held.release()
    paused = server.until(held.job_id, status="paused")
    assert paused["message"] == f"Paused at {SLOTS}/{SLOTS + 1}"
    assert act(ana, held.job_id, "/pause")["status"] == "paused"
    assert act(ana, held.job_id, "/resume")["status"] in ("pending", "processing")
    assert server.until(held.job_id, progress=100)["status"] == "completed"
    assert len(held.log.started()) == SLOTS + 1


def test_a_request_to_pause_can_be_withdrawn(server: GatedServer, ana: httpx.Client) -> None:
    held = server.hold(ana)
    act(ana, held.job_id, "/pause")
    assert act(ana, held.job_id, "/resume")["requested"] is None
    held.release()
    assert server.until(held.job_id, progress=100)["status"] == "completed"


def test_a_waiting_job_is_paused_and_cancelled_at_once(server: GatedServer, ana: httpx.Client) -> None:
    server.hold(ana)
    waiting = submit(ana, HERE)
    answers = [act(ana, waiting, action) for action in ("/pause", "/resume", "/cancel")]
    assert [(answer["status"], answer["requested"]) for answer in answers] == [
        ("paused", None),
        ("pending", None),
        ("cancelled", None),
    ]


@pytest.mark.parametrize("action", ["/cancel", "/pause", "/resume", "/priority"])
def test_an_action_that_is_too_late_is_no_error(server: GatedServer, ana: httpx.Client, action: str) -> None:
    job_id = server.ended(ana, HERE)
    before = find(ana, job_id)
    assert act(ana, job_id, action) == before == find(ana, job_id)


# retry


def test_a_retry_takes_failed_videos_and_keeps_earlier_results(server: GatedServer, ana: httpx.Client) -> None:
    job_id = server.ended(ana, HERE, BROKEN, MISSING, LOST)
    answer = ana.post(f"/api/jobs/{job_id}/retry").json()
    assert (answer["attempt"], answer["finished_at"]) == (2, None)
    waiting = server.until(job_id, attempt=2, status="pending")
    assert (waiting["current_video"], waiting["failed"], waiting["total_videos"]) == (1, 0, 4)
    assert server.until(job_id, attempt=2, progress=100)["status"] == "completed_with_errors"
    assert [video["attempts"] for video in videos(ana, job_id)] == [1, 2, 2, 2]
    attempts = ana.get(f"/api/jobs/{job_id}/videos/1/attempts").json()
    assert [(one["attempt"], one["fault"], one["tries"]) for one in attempts] == [
        (1, "permanent", 1),
        (2, "permanent", 1),
    ]
    assert attempts[0]["error"] == attempts[1]["error"] == videos(ana, job_id)[1]["error"]


@pytest.mark.parametrize(
    ("selection", "retried"),
    [
        ({}, 3),
        ({"only": "failed"}, 3),
        ({"only": "all"}, 4),
        ({"video_ids": [MISSING]}, 1),
        ({"video_ids": [HERE, MISSING, MISSING]}, 2),
    ],
)
def test_a_retry_takes_exactly_the_selected_videos(
    server: GatedServer, ana: httpx.Client, selection: dict[str, Any], retried: int
) -> None:
    job_id = server.ended(ana, HERE, BROKEN, MISSING, LOST)
    act(ana, job_id, "/retry", selection)
    assert server.until(job_id, attempt=2)["current_video"] == 4 - retried
    server.until(job_id, attempt=2, progress=100)


def test_the_failed_videos_of_one_cause_can_be_retried(server: GatedServer, ana: httpx.Client) -> None:
    job_id = server.ended(ana, BROKEN, MISSING, LOST)
    commonest, rarest = ana.get(f"/api/jobs/{job_id}/causes").json()
    assert (commonest["count"], commonest["video_id"]) == (2, MISSING)
    assert (commonest["fault"], commonest["transient"]) == ("permanent", False)
    assert (rarest["count"], rarest["video_id"]) == (1, BROKEN)
    assert commonest["first_seen"] <= commonest["last_seen"]
    failed = videos(ana, job_id)
    groups = [rarest["fingerprint"], commonest["fingerprint"], commonest["fingerprint"]]
    assert [video["group"] for video in failed] == groups
    assert {(video["fault"], video["tries"]) for video in failed} == {("permanent", 1)}
    act(ana, job_id, "/retry", {"group": commonest["fingerprint"]})
    assert server.until(job_id, attempt=2)["current_video"] == 1
    server.until(job_id, attempt=2, progress=100)


def test_the_videos_of_several_causes_can_be_retried(server: GatedServer, ana: httpx.Client) -> None:
    job_id = server.ended(ana, HERE, BROKEN, MISSING, LOST)
    groups = [cause["fingerprint"] for cause in ana.get(f"/api/jobs/{job_id}/causes").json()]
    act(ana, job_id, "/retry", {"group": groups})
    assert server.until(job_id, attempt=2)["current_video"] == 1
    server.until(job_id, attempt=2, progress=100)


def test_a_second_retry_does_not_restart_a_running_one(server: GatedServer, ana: httpx.Client) -> None:
    held = server.hold(ana)
    act(ana, held.job_id, "/cancel")
    server.until(held.job_id, status="cancelled")
    answers = [act(ana, held.job_id, "/retry") for _ in range(2)]
    assert [answer["attempt"] for answer in answers] == [2, 2]
    held.release()
    assert server.until(held.job_id, progress=100)["attempt"] == 2


# the dashboard


def test_a_kept_job_leaves_the_dashboard_when_it_is_dismissed(server: GatedServer, ana: httpx.Client) -> None:
    job_id = server.ended(ana, HERE)
    assert [act(ana, job_id, "/keep")["kept"] for _ in range(2)] == [True, True]
    assert [act(ana, job_id, "/dismiss")["on_dashboard"] for _ in range(2)] == [False, False]
    assert act(ana, job_id, "/keep")["on_dashboard"] is False
    server.watcher.until(lambda watcher: job_id in watcher.removed, "the removal")
    assert job_id in {job["job_id"] for job in ana.get("/api/jobs").json()["items"]}


def test_a_higher_priority_runs_before_others_of_its_owner(server: GatedServer, ana: httpx.Client) -> None:
    held = server.hold(ana)
    earlier, later = submit(ana, HERE), submit(ana, HERE)
    assert [act(ana, later, "/priority", {"priority": 7})["priority"] for _ in range(2)] == [7, 7]
    held.release()
    ends = [server.until(job_id, progress=100)["seq"] for job_id in (later, earlier)]
    assert ends == sorted(ends)


# refusals


def test_an_impossible_action_is_409_and_changes_nothing(server: GatedServer, ana: httpx.Client) -> None:
    external = submit(ana, HERE, processor="external")
    held = server.hold(ana)
    waiting, paused = submit(ana, HERE), submit(ana, HERE)
    act(ana, paused, "/pause")
    with server.api("ben") as ben:
        good = server.ended(ben, HERE)
        refused = [
            *((ana, external, action, "external") for action in ("/pause", "/resume", "/retry", "/priority")),
            *((ana, job_id, "/retry", "not ended") for job_id in (held.job_id, waiting, paused)),
            *((ana, job_id, "/dismiss", "not ended") for job_id in (held.job_id, waiting, paused, external)),
            *((ana, job_id, "", "not ended") for job_id in (held.job_id, waiting, paused, external)),
        ]
        for client, job_id, action, words in refused:
            before = controlled_fields(client, job_id)
            answer = request_action(client, job_id, action)
            assert (answer.status_code, words in answer.json()["detail"]) == (409, True), (action, answer.text)
            assert controlled_fields(client, job_id) == before
        assert request_action(ben, good, "/retry", {"only": "failed"}).status_code == 409
        assert request_action(ben, good, "/retry", {"group": UNKNOWN_GROUP}).status_code == 409


def test_an_external_job_is_cancelled_at_once(server: GatedServer, ana: httpx.Client) -> None:
    job_id = submit(ana, HERE, MISSING, processor="external")
    ana.post(f"/api/jobs/{job_id}/progress", json={"n": 1, "current_video": 1})
    cancelled = act(ana, job_id, "/cancel")
    assert (cancelled["status"], cancelled["message"]) == ("cancelled", "Cancelled at 1/2")
    late = ana.post(f"/api/jobs/{job_id}/progress", json={"n": 2})
    assert (late.status_code, late.json()["detail"]) == (409, "This job was cancelled; create a new one.")
    assert request_action(ana, job_id, "").status_code == 204


@pytest.mark.parametrize(("method", "action"), ROUTES)
def test_a_job_of_another_user_answers_like_a_missing_one(
    server: GatedServer, ana: httpx.Client, method: str, action: str
) -> None:
    job_id = server.ended(ana, MISSING)
    before = lasting(find(ana, job_id))
    with server.api("ben") as ben:
        answers = [request_action(ben, given, action) for given in (job_id, UNKNOWN_JOB, "not-an-id", "%00", "%ff")]
    assert {(answer.status_code, answer.text) for answer in answers} == {(404, answers[0].text)}
    assert lasting(find(ana, job_id)) == before


def lasting(job: dict[str, Any]) -> dict[str, Any]:
    """Return the job without what is learned from earlier runs, a moment after it was asked for."""
    return {name: value for name, value in job.items() if name not in ("usual", "unusual")}


def test_an_administrator_controls_the_jobs_of_all_users(
    server: GatedServer, ana: httpx.Client, admin: httpx.Client
) -> None:
    job_id = submit(ana, HERE, processor="external")
    assert act(admin, job_id, "/cancel")["owner"] == "ana"
    assert request_action(admin, job_id, "").status_code == 204
    assert ana.get(f"/api/jobs/{job_id}").status_code == 404


INVALID_BODIES: dict[str, tuple[str, bytes, int, str]] = {
    "no JSON": ("/retry", b"{", 400, "not valid JSON"),
    "not UTF-8": ("/retry", b"\xff", 400, "not valid JSON"),
    "half a character": ("/retry", b'{"video_ids": ["\\ud800"]}', 400, "not valid JSON"),
    "a list": ("/retry", b"[]", 422, "Expected `object`"),
    "deeply nested": ("/retry", b'{"video_ids":' + b"[" * 100_000, 422, "video_ids"),
    "two selections": ("/retry", b'{"only": "all", "video_ids": ["missing"]}', 422, "one of only, video_ids and group"),
    "an unknown field": ("/retry", b'{"onyl": "all"}', 422, "`onyl`"),
    "an unknown word": ("/retry", b'{"only": "some"}', 422, "only must be failed or all"),
    "no video": ("/retry", b'{"video_ids": []}', 422, "one or more"),
    "an invalid video ID": ("/retry", b'{"video_ids": ["a\\u0000b"]}', 422, "must be IDs"),
    "an unknown video": ("/retry", b'{"video_ids": ["never"]}', 422, '"never" is not in this job'),
    "a number for a video": ("/retry", b'{"video_ids": [1]}', 422, "$.video_ids[0]"),
    "10,001 videos": (
        "/retry",
        b'{"video_ids": [' + b",".join(b'"v%d"' % n for n in range(10_001)) + b"]}",
        422,
        "At most 10,000",
    ),
    "an invalid group": ("/retry", b'{"group": "%"}', 422, "fingerprint"),
    "a number for a group": ("/retry", b'{"group": 5}', 422, "$.group"),
    "no group": ("/retry", b'{"group": []}', 422, "fingerprint"),
    "groups with an invalid one": ("/retry", b'{"group": ["0123456789ab", "%"]}', 422, "fingerprint"),
    "too much": ("/retry", b'{"group": "' + b"x" * 2**20 + b'"}', 413, "1 MiB"),
    "no body": ("/priority", b"", 400, "not valid JSON"),
    "no priority": ("/priority", b"{}", 422, "priority"),
    "a word": ("/priority", b'{"priority": "high"}', 422, "$.priority"),
    "true": ("/priority", b'{"priority": true}', 422, "$.priority"),
    "a fraction": ("/priority", b'{"priority": 1.5}', 422, "$.priority"),
    "infinite": ("/priority", b'{"priority": 1e999}', 422, "$.priority"),
    "not a number": ("/priority", b'{"priority": NaN}', 400, "not valid JSON"),
    "above the limit": ("/priority", b'{"priority": 1001}', 422, "from -1,000 to 1,000"),
    "below the limit": ("/priority", b'{"priority": -1001}', 422, "from -1,000 to 1,000"),
    "huge": ("/priority", b'{"priority": ' + b"9" * 10_000 + b"}", 422, "priority"),
    "large": ("/priority", b'{"priority": ' + b"9" * 40 + b"}", 422, "priority"),
}


@pytest.fixture(scope="module")
def failed(server: GatedServer) -> str:
    """Return a failed job of ana."""
    with server.api("ana") as client:
        return server.ended(client, MISSING)


@pytest.mark.parametrize("case", INVALID_BODIES)
def test_an_invalid_body_is_refused_and_changes_nothing(ana: httpx.Client, failed: str, case: str) -> None:
    action, body, status, words = INVALID_BODIES[case]
    before = lasting(find(ana, failed))
    answer = ana.post(f"/api/jobs/{failed}{action}", content=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert len(answer.json()["detail"]) < 300
    assert lasting(find(ana, failed)) == before


# slots


def test_an_administrator_changes_the_slots_of_all_users(
    server: GatedServer, ana: httpx.Client, admin: httpx.Client
) -> None:
    held = server.hold(ana, videos=SLOTS + 2)
    assert ana.get("/api/slots").json() == {"slots": SLOTS}
    changed = [admin.put("/api/slots", json={"slots": SLOTS + 2}) for _ in range(2)]
    assert [(answer.status_code, answer.json()) for answer in changed] == [(200, {"slots": SLOTS + 2})] * 2
    held.log.until_started(SLOTS + 2)
    assert admin.put("/api/slots", json={"slots": SLOTS}).json() == ana.get("/api/slots").json() == {"slots": SLOTS}


def test_only_an_administrator_changes_the_slots(ana: httpx.Client) -> None:
    answer = ana.put("/api/slots", json={"slots": 1})
    assert (answer.status_code, answer.json()["detail"]) == (403, "Only an administrator can change the slots.")
    assert ana.get("/api/slots").json() == {"slots": SLOTS}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b'{"slots": NaN}', 400),
        (b"17", 422),
        (b"{}", 422),
        (b'{"slots": 0}', 422),
        (b'{"slots": 1025}', 422),
        (b'{"slots": 2.5}', 422),
        (b'{"slots": false}', 422),
        (b'{"slots": ' + b"9" * 10_000 + b"}", 422),
        (b'{"slots": 1e999}', 422),
        (b'{"slots": 4, "more": 1}', 422),
    ],
)
def test_invalid_slots_are_refused(admin: httpx.Client, body: bytes, status: int) -> None:
    answer = admin.put("/api/slots", content=body)
    assert (answer.status_code, bool(answer.json()["detail"])) == (status, True)
    assert admin.get("/api/slots").json() == {"slots": SLOTS}


# permissions


@pytest.fixture
def page(server: GatedServer) -> Iterator[httpx.Client]:
    """Yield the browser of ana, signed in on the server's own origin."""
    with httpx.Client(base_url=server.program.url, headers={"Origin": server.program.url}, timeout=60) as browser:
        answer = browser.post("/login", data={"username": "ana", "password": password_of("ana")})
        assert answer.status_code == 303
        yield browser


@pytest.mark.parametrize("origin", [ALLOWED_ORIGIN, "https://evil.example", "null", None])
def test_a_session_controls_jobs_only_from_its_own_origin(
    server: GatedServer, ana: httpx.Client, page: httpx.Client, origin: str | None
) -> None:
    job_id = server.ended(ana, HERE)
    for method, path in (
        ("POST", f"/api/jobs/{job_id}/keep"),
        ("DELETE", f"/api/jobs/{job_id}"),
        ("PUT", "/api/slots"),
    ):
        request = page.build_request(method, path, json={"slots": 1})
        del request.headers["Origin"]
        if origin is not None:
            request.headers["Origin"] = origin
        assert page.send(request).status_code in (401, 403)
    assert find(ana, job_id)["kept"] is False
    assert page.put("/api/slots", json={"slots": 1}).json() == {"detail": "Only an administrator can change the slots."}
    assert page.post(f"/api/jobs/{job_id}/keep").json()["kept"] is True
    assert page.delete(f"/api/jobs/{job_id}").status_code == 204


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_pages_of_allowed_origins_control_jobs_with_a_token(server: GatedServer, method: str) -> None:
    headers = {"Origin": ALLOWED_ORIGIN, "Access-Control-Request-Method": method}
    preflight = httpx.options(f"{server.program.url}/api/slots", headers=headers)
    assert preflight.status_code == 204
    assert method in preflight.headers["access-control-allow-methods"]
    headers = {"Origin": ALLOWED_ORIGIN, "Authorization": f"Bearer {server.tokens['ana']}"}
    answer = httpx.request(method, f"{server.program.url}/api/jobs/{UNKNOWN_JOB}", headers=headers)
    assert answer.headers["access-control-allow-origin"] == ALLOWED_ORIGIN


# a locked database


def test_requests_during_a_locked_database_happen_later(server: GatedServer, ana: httpx.Client) -> None:
    ended, retried, deleted = (server.ended(ana, MISSING) for _ in range(3))
    held = server.hold(ana)
    waiting, ahead = submit(ana, HERE), submit(ana, HERE)
    first = [(waiting, "/pause"), (ahead, "/priority"), (ended, "/keep")]  # before a running job ends
    at_once = [*first, (held.job_id, "/cancel")]
    repeated = [(retried, "/retry"), (deleted, "")]  # these read the database first, so they do not happen later
    with locked(server.program.data_dir), ThreadPoolExecutor(len(first)) as pool:
        answers = list(pool.map(lambda request: request_action(ana, *request), first))
        answers += [request_action(ana, *request) for request in ((held.job_id, "/cancel"), *repeated)]
    assert {answer.status_code for answer in answers} == {503}
    assert all("cannot be written right now" in answer.json()["detail"] for answer in answers)
    server.until(held.job_id, status="cancelled")
    server.until(waiting, status="paused")
    server.until(ahead, progress=100)
    assert (find(ana, ahead)["priority"], find(ana, ended)["kept"]) == (1, True)
    statuses = [request_action(ana, *request).status_code for request in at_once + repeated]
    assert statuses == [200] * 5 + [204]
    server.until(retried, attempt=2, progress=100)


# delete


def test_a_deleted_job_leaves_nothing_behind(tmp_path: Path) -> None:
    key, order = {"Idempotency-Key": "nightly"}, {"video_ids": [HERE, MISSING]}
    with gated_server(tmp_path, cleanup_interval_seconds=0.2) as server:
        with server.api("ana") as ana:
            deleted = ana.post("/api/jobs", json=order, headers=key).json()["job_id"]
            server.until(deleted, progress=100)
            kept = server.ended(ana, HERE)
            outputs = tmp_path / "data" / "outputs" / deleted
            assert outputs.is_dir()
            before = find(ana, kept)["seq"]
            assert request_action(ana, deleted, "").content == b""
            assert statuses_of(ana, deleted) == {404}
            assert {job["job_id"] for job in ana.get("/api/jobs").json()["items"]} == {kept}
            assert deleted not in ana.get("/api/jobs/export.csv").text
            assert ana.post("/api/jobs", json=order, headers=key).json()["job_id"] != deleted
        expect_removal(server.program, server.tokens["ana"], before, deleted)
        server.program.until_says("job_erased")
        assert not outputs.exists()
        assert rows_of(server.program.data_dir, deleted) == 0
        server.program.stop()
        with running(tmp_path / "data", media_dir=tmp_path / "media") as second:
            expect_removal(second, server.tokens["ana"], before, deleted)


def statuses_of(client: httpx.Client, job_id: str) -> set[int]:
    """Return the statuses that the routes of a job answer with."""
    reads = ("", "/videos", "/videos/0/poster", "/videos/0/attempts", "/causes", "/progress-history", "/export.csv")
    answers = [client.get(f"/api/jobs/{job_id}{path}") for path in reads]
    answers += [request_action(client, job_id, action) for _, action in ROUTES]
    answers.append(client.post(f"/api/jobs/{job_id}/progress", json={"n": 1}))
    return {answer.status_code for answer in answers}


def expect_removal(program: Program, jwt: str, after: int, job_id: str) -> None:
    """Check that a client that resumes from before the deletion receives it, and no snapshot."""
    with Watcher(program, jwt, batch=True, after=after) as watcher:
        watcher.until(lambda watcher: job_id in watcher.removed, "the removal")
        assert not any(frame["snapshot"] for frame in watcher.frames)


def rows_of(data_dir: Path, job_id: str) -> int:
    """Count the rows of a job in the database."""
    tables = {
        "job": "id",
        "video": "job_id",
        "result": "job_id",
        "progress_event": "job_id",
        "idempotency_key": "job_id",
    }
    counts = " + ".join(f"(SELECT count(*) FROM {table} WHERE {key} = :job_id)" for table, key in tables.items())
    return int(rows(data_dir, f"SELECT {counts}", job_id=job_id)[0][0])
