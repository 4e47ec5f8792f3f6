"""Steering jobs over HTTP: every route, whose jobs it takes, when it is too late, and what nobody may break by it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from backend.api import control
from tests.support.servers import Program, password_of, running
from tests.support.gated_server import BROKEN, GONE, HERE, LOST, SLOTS, Steered, steering, submit
from tests.support.watchers import Watcher

NOBODYS = "00000000-0000-4000-8000-000000000000"
FRIEND = "https://ops.example:8443"
BODIES: dict[str, dict[str, Any]] = {"/priority": {"priority": 1}, "/retry": {"only": "all"}}
STEERING = sorted(
    (method, route.path.removeprefix("/api/jobs/{job_id}"))
    for route in control.router.routes
    if isinstance(route, APIRoute)
    for method in route.methods or ()
)
UNKNOWN_GROUP = "0123456789ab"


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steered]:
    with steering(tmp_path_factory.mktemp("control"), allowed_origins=FRIEND) as opened:
        yield opened


@pytest.fixture
def ana(steered: Steered) -> Iterator[httpx.Client]:
    with steered.api("ana") as client:
        yield client


@pytest.fixture
def admin(steered: Steered) -> Iterator[httpx.Client]:
    with steered.api("admin") as client:
        yield client


def steer(client: httpx.Client, job_id: str, what: str, body: object = None) -> httpx.Response:
    """One request of a control route: `/cancel` and the like, or "" to delete."""
    method = "POST" if what else "DELETE"
    return client.request(method, f"/api/jobs/{job_id}{what}", json=BODIES.get(what) if body is None else body)


def done(client: httpx.Client, job_id: str, what: str, body: object = None) -> dict[str, Any]:
    """The same, which has to go well: the job."""
    answer = steer(client, job_id, what, body)
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


def find(client: httpx.Client, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = client.get(f"/api/jobs/{job_id}").json()
    return job


def settled(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """What only steering changes of a job, also while it runs."""
    job = find(client, job_id)
    return {name: job[name] for name in ("status", "requested", "attempt", "priority", "kept", "on_dashboard")}


def videos(client: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"/api/jobs/{job_id}/videos").json()["items"]
    return items


# cancel, pause, resume


def test_a_cancelled_job_is_cancelling_until_it_is_cancelled_and_twice_is_no_error(
    steered: Steered, ana: httpx.Client
) -> None:
    held = steered.hold(ana)
    answer = done(ana, held.job_id, "/cancel")
    assert (answer["status"], answer["requested"]) in (("processing", "cancel"), ("cancelled", None))
    end = steered.until(held.job_id, status="cancelled")
    assert (end["requested"], end["message"]) == (None, "Cancelled at 0/2")
    assert [video["status"] for video in videos(ana, held.job_id)] == ["pending", "pending"]
    assert done(ana, held.job_id, "/cancel") == find(ana, held.job_id)


def test_a_paused_job_finishes_what_runs_and_goes_on_when_it_is_resumed(steered: Steered, ana: httpx.Client) -> None:
    held = steered.hold(ana, videos=SLOTS + 1)
    asked = done(ana, held.job_id, "/pause")
    assert (asked["status"], asked["requested"], asked["message"]) == (
        "processing",
        "pause",
        f"Pausing after {SLOTS} running videos",
    )
    assert done(ana, held.job_id, "/pause")["message"] == asked["message"]
    held.let_go()
    paused = steered.until(held.job_id, status="paused")
    assert paused["message"] == f"Paused at {SLOTS}/{SLOTS + 1}"
    assert done(ana, held.job_id, "/pause")["status"] == "paused"
    assert done(ana, held.job_id, "/resume")["status"] in ("pending", "processing")
    assert steered.until(held.job_id, progress=100)["status"] == "completed"
    assert len(held.log.started()) == SLOTS + 1


def test_the_wish_to_pause_can_be_taken_back(steered: Steered, ana: httpx.Client) -> None:
    held = steered.hold(ana)
    done(ana, held.job_id, "/pause")
    assert done(ana, held.job_id, "/resume")["requested"] is None
    held.let_go()
    assert steered.until(held.job_id, progress=100)["status"] == "completed"


def test_a_waiting_job_is_paused_and_cancelled_at_once(steered: Steered, ana: httpx.Client) -> None:
    steered.hold(ana)
    waiting = submit(ana, HERE)
    answers = [done(ana, waiting, what) for what in ("/pause", "/resume", "/cancel")]
    assert [(answer["status"], answer["requested"]) for answer in answers] == [
        ("paused", None),
        ("pending", None),
        ("cancelled", None),
    ]


@pytest.mark.parametrize("what", ["/cancel", "/pause", "/resume", "/priority"])
def test_too_late_is_no_error(steered: Steered, ana: httpx.Client, what: str) -> None:
    job_id = steered.ended(ana, HERE)
    before = find(ana, job_id)
    assert done(ana, job_id, what) == before == find(ana, job_id)


# retry


def test_a_retry_takes_the_failed_videos_and_keeps_what_came_before(steered: Steered, ana: httpx.Client) -> None:
    job_id = steered.ended(ana, HERE, BROKEN, GONE, LOST)
    answer = ana.post(f"/api/jobs/{job_id}/retry").json()
    assert (answer["attempt"], answer["finished_at"]) == (2, None)
    waiting = steered.until(job_id, attempt=2, status="pending")
    assert (waiting["current_video"], waiting["failed"], waiting["total_videos"]) == (1, 0, 4)
    assert steered.until(job_id, attempt=2, progress=100)["status"] == "completed_with_errors"
    assert [video["attempts"] for video in videos(ana, job_id)] == [1, 2, 2, 2]
    attempts = ana.get(f"/api/jobs/{job_id}/videos/1/attempts").json()
    assert [(one["attempt"], one["fault"], one["tries"]) for one in attempts] == [
        (1, "permanent", 1),
        (2, "permanent", 1),
    ]
    assert attempts[0]["error"] == attempts[1]["error"] == videos(ana, job_id)[1]["error"]


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        ({}, 3),
        ({"only": "failed"}, 3),
        ({"only": "all"}, 4),
        ({"video_ids": [GONE]}, 1),
        ({"video_ids": [HERE, GONE, GONE]}, 2),
    ],
)
def test_a_retry_takes_exactly_what_it_is_told(
    steered: Steered, ana: httpx.Client, selection: dict[str, Any], taken: int
) -> None:
    job_id = steered.ended(ana, HERE, BROKEN, GONE, LOST)
    done(ana, job_id, "/retry", selection)
    assert steered.until(job_id, attempt=2)["current_video"] == 4 - taken
    steered.until(job_id, attempt=2, progress=100)


def test_causes_group_the_failed_videos_and_one_of_them_can_be_retried(steered: Steered, ana: httpx.Client) -> None:
    job_id = steered.ended(ana, BROKEN, GONE, LOST)
    most, least = ana.get(f"/api/jobs/{job_id}/causes").json()
    assert (most["count"], most["video_id"], most["fault"], most["transient"]) == (2, GONE, "permanent", False)
    assert (least["count"], least["video_id"]) == (1, BROKEN)
    assert most["first_seen"] <= most["last_seen"]
    shown = videos(ana, job_id)
    assert [video["group"] for video in shown] == [least["fingerprint"], most["fingerprint"], most["fingerprint"]]
    assert {(video["fault"], video["tries"]) for video in shown} == {("permanent", 1)}
    done(ana, job_id, "/retry", {"group": most["fingerprint"]})
    assert steered.until(job_id, attempt=2)["current_video"] == 1
    steered.until(job_id, attempt=2, progress=100)


def test_the_videos_of_several_causes_are_retried_together(steered: Steered, ana: httpx.Client) -> None:
    job_id = steered.ended(ana, HERE, BROKEN, GONE, LOST)
    groups = [cause["fingerprint"] for cause in ana.get(f"/api/jobs/{job_id}/causes").json()]
    done(ana, job_id, "/retry", {"group": groups})
    assert steered.until(job_id, attempt=2)["current_video"] == 1
    steered.until(job_id, attempt=2, progress=100)


def test_a_retry_that_goes_on_is_not_begun_again(steered: Steered, ana: httpx.Client) -> None:
    held = steered.hold(ana)
    done(ana, held.job_id, "/cancel")
    steered.until(held.job_id, status="cancelled")
    answers = [done(ana, held.job_id, "/retry") for _ in range(2)]
    assert [answer["attempt"] for answer in answers] == [2, 2]
    held.let_go()
    assert steered.until(held.job_id, progress=100)["attempt"] == 2


# the dashboard


def test_a_kept_job_leaves_the_dashboard_when_it_is_dismissed(steered: Steered, ana: httpx.Client) -> None:
    job_id = steered.ended(ana, HERE)
    assert [done(ana, job_id, "/keep")["kept"] for _ in range(2)] == [True, True]
    assert [done(ana, job_id, "/dismiss")["on_dashboard"] for _ in range(2)] == [False, False]
    assert done(ana, job_id, "/keep")["on_dashboard"] is False
    steered.watcher.until(lambda watcher: job_id in watcher.removed, "the removal")
    assert job_id in {job["job_id"] for job in ana.get("/api/jobs").json()["items"]}


def test_priority_puts_a_waiting_job_before_the_others_of_its_owner(steered: Steered, ana: httpx.Client) -> None:
    held = steered.hold(ana)
    earlier, later = submit(ana, HERE), submit(ana, HERE)
    assert [done(ana, later, "/priority", {"priority": 7})["priority"] for _ in range(2)] == [7, 7]
    held.let_go()
    ends = [steered.until(job_id, progress=100)["seq"] for job_id in (later, earlier)]
    assert ends == sorted(ends)


# what is refused


def test_what_cannot_be_is_409_with_a_reason_and_changes_nothing(steered: Steered, ana: httpx.Client) -> None:
    elsewhere = submit(ana, HERE, processor="external")
    held = steered.hold(ana)
    waiting, paused = submit(ana, HERE), submit(ana, HERE)
    done(ana, paused, "/pause")
    with steered.api("ben") as ben:
        good = steered.ended(ben, HERE)
        refused = [
            *((ana, elsewhere, what, "runs elsewhere") for what in ("/pause", "/resume", "/retry", "/priority")),
            *((ana, job_id, "/retry", "not ended") for job_id in (held.job_id, waiting, paused)),
            *((ana, job_id, "/dismiss", "not ended") for job_id in (held.job_id, waiting, paused, elsewhere)),
            *((ana, job_id, "", "not ended") for job_id in (held.job_id, waiting, paused, elsewhere)),
        ]
        for client, job_id, what, words in refused:
            before = settled(client, job_id)
            answer = steer(client, job_id, what)
            assert (answer.status_code, words in answer.json()["detail"]) == (409, True), (what, answer.text)
            assert settled(client, job_id) == before
        assert steer(ben, good, "/retry", {"only": "failed"}).status_code == 409
        assert steer(ben, good, "/retry", {"group": UNKNOWN_GROUP}).status_code == 409


def test_a_job_that_runs_elsewhere_is_cancelled_at_once_and_its_sender_hears_of_it(
    steered: Steered, ana: httpx.Client
) -> None:
    job_id = submit(ana, HERE, GONE, processor="external")
    ana.post(f"/api/jobs/{job_id}/progress", json={"n": 1, "current_video": 1})
    cancelled = done(ana, job_id, "/cancel")
    assert (cancelled["status"], cancelled["message"]) == ("cancelled", "Cancelled at 1/2")
    late = ana.post(f"/api/jobs/{job_id}/progress", json={"n": 2})
    assert (late.status_code, late.json()["detail"]) == (409, "This job was cancelled; make a new one.")
    assert steer(ana, job_id, "").status_code == 204


@pytest.mark.parametrize(("method", "what"), STEERING)
def test_somebody_elses_job_is_one_that_is_not_there(
    steered: Steered, ana: httpx.Client, method: str, what: str
) -> None:
    job_id = steered.ended(ana, GONE)
    before = find(ana, job_id)
    with steered.api("ben") as ben:
        answers = [steer(ben, one, what) for one in (job_id, NOBODYS, "not-an-id", "%00", "%ff")]
    assert {(answer.status_code, answer.text) for answer in answers} == {(404, answers[0].text)}
    assert find(ana, job_id) == before


def test_an_administrator_steers_everybodys_jobs(steered: Steered, ana: httpx.Client, admin: httpx.Client) -> None:
    job_id = submit(ana, HERE, processor="external")
    assert done(admin, job_id, "/cancel")["owner"] == "ana"
    assert steer(admin, job_id, "").status_code == 204
    assert ana.get(f"/api/jobs/{job_id}").status_code == 404


MISFITS: dict[str, tuple[str, bytes, int, str]] = {
    "no JSON": ("/retry", b"{", 400, "not valid JSON"),
    "no text": ("/retry", b"\xff", 400, "not valid JSON"),
    "half a character": ("/retry", b'{"video_ids": ["\\ud800"]}', 400, "not valid JSON"),
    "a list": ("/retry", b"[]", 422, "Expected `object`"),
    "nested rubbish": ("/retry", b'{"video_ids":' + b"[" * 100_000, 422, "video_ids"),
    "two selections": ("/retry", b'{"only": "all", "video_ids": ["gone"]}', 422, "one of only, video_ids and group"),
    "an unknown field": ("/retry", b'{"onyl": "all"}', 422, "`onyl`"),
    "another word": ("/retry", b'{"only": "some"}', 422, "only must be failed or all"),
    "no video": ("/retry", b'{"video_ids": []}', 422, "one or more"),
    "a video that is no ID": ("/retry", b'{"video_ids": ["a\\u0000b"]}', 422, "must be IDs"),
    "a video of no list": ("/retry", b'{"video_ids": ["never"]}', 422, '"never" is not in this job'),
    "a number for a video": ("/retry", b'{"video_ids": [1]}', 422, "$.video_ids[0]"),
    "10,001 videos": (
        "/retry",
        b'{"video_ids": [' + b",".join(b'"v%d"' % n for n in range(10_001)) + b"]}",
        422,
        "At most 10,000",
    ),
    "a group that is none": ("/retry", b'{"group": "%"}', 422, "fingerprint"),
    "a group of nobody": ("/retry", b'{"group": 5}', 422, "$.group"),
    "no group": ("/retry", b'{"group": []}', 422, "fingerprint"),
    "groups of which one is none": ("/retry", b'{"group": ["0123456789ab", "%"]}', 422, "fingerprint"),
    "too much": ("/retry", b'{"group": "' + b"x" * 2**20 + b'"}', 413, "1 MiB"),
    "no body": ("/priority", b"", 400, "not valid JSON"),
    "no priority": ("/priority", b"{}", 422, "priority"),
    "a word": ("/priority", b'{"priority": "high"}', 422, "$.priority"),
    "true": ("/priority", b'{"priority": true}', 422, "$.priority"),
    "a fraction": ("/priority", b'{"priority": 1.5}', 422, "$.priority"),
    "without end": ("/priority", b'{"priority": 1e999}', 422, "$.priority"),
    "a number that is none": ("/priority", b'{"priority": NaN}', 400, "not valid JSON"),
    "above all": ("/priority", b'{"priority": 1001}', 422, "from -1,000 to 1,000"),
    "below all": ("/priority", b'{"priority": -1001}', 422, "from -1,000 to 1,000"),
    "huge": ("/priority", b'{"priority": ' + b"9" * 10_000 + b"}", 422, "priority"),
    "large": ("/priority", b'{"priority": ' + b"9" * 40 + b"}", 422, "priority"),
}


@pytest.fixture(scope="module")
def failed(steered: Steered) -> str:
    """A job of ana's that failed."""
    with steered.api("ana") as client:
        return steered.ended(client, GONE)


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_body_that_does_not_fit_is_refused_in_words_and_changes_nothing(
    ana: httpx.Client, failed: str, misfit: str
) -> None:
    what, body, status, words = MISFITS[misfit]
    before = find(ana, failed)
    answer = ana.post(f"/api/jobs/{failed}{what}", content=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert len(answer.json()["detail"]) < 300
    assert find(ana, failed) == before


# slots


def test_an_administrator_changes_the_slots_and_everybody_sees_how_many(
    steered: Steered, ana: httpx.Client, admin: httpx.Client
) -> None:
    held = steered.hold(ana, videos=SLOTS + 2)
    assert ana.get("/api/slots").json() == {"slots": SLOTS}
    changed = [admin.put("/api/slots", json={"slots": SLOTS + 2}) for _ in range(2)]
    assert [(answer.status_code, answer.json()) for answer in changed] == [(200, {"slots": SLOTS + 2})] * 2
    held.log.until_started(SLOTS + 2)
    assert admin.put("/api/slots", json={"slots": SLOTS}).json() == ana.get("/api/slots").json() == {"slots": SLOTS}


def test_the_slots_are_not_everybodys_to_change(ana: httpx.Client) -> None:
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
def test_slots_that_are_none_are_refused(admin: httpx.Client, body: bytes, status: int) -> None:
    answer = admin.put("/api/slots", content=body)
    assert (answer.status_code, bool(answer.json()["detail"])) == (status, True)
    assert admin.get("/api/slots").json() == {"slots": SLOTS}


# who may ask


@pytest.fixture
def page(steered: Steered) -> Iterator[httpx.Client]:
    """Ana's browser, signed in on the page's own origin."""
    with httpx.Client(base_url=steered.program.url, headers={"Origin": steered.program.url}, timeout=60) as browser:
        answer = browser.post("/login", data={"username": "ana", "password": password_of("ana")})
        assert answer.status_code == 303
        yield browser


@pytest.mark.parametrize("origin", [FRIEND, "https://evil.example", "null", None])
def test_a_session_steers_only_from_the_pages_own_origin(
    steered: Steered, ana: httpx.Client, page: httpx.Client, origin: str | None
) -> None:
    job_id = steered.ended(ana, HERE)
    for method, path in (
        ("POST", f"/api/jobs/{job_id}/keep"),
        ("DELETE", f"/api/jobs/{job_id}"),
        ("PUT", "/api/slots"),
    ):
        asked = page.build_request(method, path, json={"slots": 1})
        del asked.headers["Origin"]
        if origin is not None:
            asked.headers["Origin"] = origin
        assert page.send(asked).status_code in (401, 403)
    assert find(ana, job_id)["kept"] is False
    assert page.put("/api/slots", json={"slots": 1}).json() == {"detail": "Only an administrator can change the slots."}
    assert page.post(f"/api/jobs/{job_id}/keep").json()["kept"] is True
    assert page.delete(f"/api/jobs/{job_id}").status_code == 204


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_pages_of_allowed_origins_may_steer_with_a_token(steered: Steered, method: str) -> None:
    asked = {"Origin": FRIEND, "Access-Control-Request-Method": method}
    preflight = httpx.options(f"{steered.program.url}/api/slots", headers=asked)
    assert preflight.status_code == 204
    assert method in preflight.headers["access-control-allow-methods"]
    given = {"Origin": FRIEND, "Authorization": f"Bearer {steered.tokens['ana']}"}
    answer = httpx.request(method, f"{steered.program.url}/api/jobs/{NOBODYS}", headers=given)
    assert answer.headers["access-control-allow-origin"] == FRIEND


# while nothing can be stored


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """From outside, keep everybody else from writing to the database."""
    database = sqlite3.connect(data_dir / "dashboard.sqlite3", timeout=30, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        database.rollback()
        database.close()


def test_what_is_asked_while_the_database_is_locked_is_503_and_happens_afterwards(
    steered: Steered, ana: httpx.Client
) -> None:
    ended, retried, deleted = (steered.ended(ana, GONE) for _ in range(3))
    held = steered.hold(ana)
    waiting, ahead = submit(ana, HERE), submit(ana, HERE)
    first = [(waiting, "/pause"), (ahead, "/priority"), (ended, "/keep")]  # before a place to run is free
    wishes = [*first, (held.job_id, "/cancel")]
    again = [(retried, "/retry"), (deleted, "")]  # what they touch is read from the database, so they have to wait
    with locked(steered.program.data_dir), ThreadPoolExecutor(len(first)) as pool:
        answers = list(pool.map(lambda wish: steer(ana, *wish), first))
        answers += [steer(ana, *wish) for wish in ((held.job_id, "/cancel"), *again)]
    assert {answer.status_code for answer in answers} == {503}
    assert all("cannot be written right now" in answer.json()["detail"] for answer in answers)
    steered.until(held.job_id, status="cancelled")
    steered.until(waiting, status="paused")
    steered.until(ahead, progress=100)
    assert (find(ana, ahead)["priority"], find(ana, ended)["kept"]) == (1, True)
    assert [steer(ana, *wish).status_code for wish in wishes + again] == [200, 200, 200, 200, 200, 204]
    steered.until(retried, attempt=2, progress=100)


# delete


def test_a_deleted_job_is_gone_from_everywhere_also_for_who_comes_back(tmp_path: Path) -> None:
    key, order = {"Idempotency-Key": "nightly"}, {"video_ids": [HERE, GONE]}
    with steering(tmp_path, cleanup_interval_seconds=0.2) as steered:
        with steered.api("ana") as ana:
            made = ana.post("/api/jobs", json=order, headers=key).json()["job_id"]
            steered.until(made, progress=100)
            kept = steered.ended(ana, HERE)
            outputs = tmp_path / "data" / "outputs" / made
            assert outputs.is_dir()
            before = find(ana, kept)["seq"]
            assert steer(ana, made, "").content == b""
            assert not_there(ana, made) == {404}
            assert {job["job_id"] for job in ana.get("/api/jobs").json()["items"]} == {kept}
            assert made not in ana.get("/api/jobs/export.csv").text
            assert ana.post("/api/jobs", json=order, headers=key).json()["job_id"] != made
        hears_of_removal(steered.program, steered.tokens["ana"], before, made)
        steered.program.until_says("job_erased")
        assert not outputs.exists()
        assert rows_of(steered.program.data_dir, made) == 0
        steered.program.stop()
        with running(tmp_path / "data", media_dir=tmp_path / "media") as second:
            hears_of_removal(second, steered.tokens["ana"], before, made)


def not_there(client: httpx.Client, job_id: str) -> set[int]:
    """What the routes of a job answer."""
    reads = ("", "/videos", "/videos/0/poster", "/videos/0/attempts", "/causes", "/progress-history", "/export.csv")
    answers = [client.get(f"/api/jobs/{job_id}{path}") for path in reads]
    answers += [steer(client, job_id, what) for _, what in STEERING]
    answers.append(client.post(f"/api/jobs/{job_id}/progress", json={"n": 1}))
    return {answer.status_code for answer in answers}


def hears_of_removal(program: Program, jwt: str, after: int, job_id: str) -> None:
    """A client that resumes from before the deletion is told of it, and is not sent a snapshot."""
    with Watcher(program, jwt, batch=True, after=after) as watcher:
        watcher.until(lambda one: job_id in one.removed, "the removal")
        assert not any(frame["snapshot"] for frame in watcher.frames)


def rows_of(data_dir: Path, job_id: str) -> int:
    """How much of a job the database holds."""
    tables = {
        "job": "id",
        "video": "job_id",
        "result": "job_id",
        "progress_event": "job_id",
        "idempotency_key": "job_id",
    }
    with sqlite3.connect(f"file:{data_dir / 'dashboard.sqlite3'}?mode=ro", uri=True) as database:
        counts = [
            database.execute(f"SELECT count(*) FROM {table} WHERE {key} = ?", (job_id,)).fetchone()[0]
            for table, key in tables.items()
        ]
    database.close()
    return sum(counts)
