"""The routes of the machines, and what a job says that waits for one."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.gated_server import HERE, SLOTS, GatedServer, gated_server

TIMEOUT_SECONDS, POLL_SECONDS = 20, 0.05
pytestmark = pytest.mark.acceptance  # starts the whole program


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedServer]:
    with gated_server(tmp_path_factory.mktemp("workers")) as opened:
        with opened.api("admin") as client:
            until_machine(client, state="working")  # on PostgreSQL it connects like every other one
        yield opened


@pytest.fixture
def ana(server: GatedServer) -> Iterator[httpx.Client]:
    with server.api("ana") as client:
        yield client


@pytest.fixture
def admin(server: GatedServer) -> Iterator[httpx.Client]:
    with server.api("admin") as client:
        yield client
        change(client, only(client)["name"], slots=SLOTS, drain=False)


def only(admin: httpx.Client) -> dict[str, Any]:
    """Return the only machine."""
    answer = admin.get("/api/workers")
    assert answer.status_code == 200, answer.text
    [machine] = answer.json()
    return dict(machine)


def until_machine(admin: httpx.Client, **facts: object) -> dict[str, Any]:
    """Return the only machine as soon as it is like that; what machines say of themselves comes ten times a second."""
    end = time.monotonic() + TIMEOUT_SECONDS
    while True:
        for machine in admin.get("/api/workers").raise_for_status().json():
            if all(machine[name] == value for name, value in facts.items()):
                return dict(machine)
        assert time.monotonic() < end, f"no machine has {facts}"
        time.sleep(POLL_SECONDS)


def change(admin: httpx.Client, name: str, **changes: object) -> dict[str, Any]:
    """Change a machine, and return it as it is then."""
    answer = admin.put(f"/api/workers/{name}", json=changes)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_server_alone_is_one_machine(admin: httpx.Client) -> None:
    machine = only(admin)
    facts = ("state", "slots", "own_slots", "running", "draining", "resting")
    assert [machine[name] for name in facts] == ["working", SLOTS, SLOTS, 0, False, None]
    assert {"probe", "logged"} <= set(machine["processors"])
    assert machine["node"]
    assert machine["version"]
    assert machine["last_seen"].endswith("Z")


def test_only_administrators_see_and_change_machines(ana: httpx.Client, admin: httpx.Client) -> None:
    before = only(admin)
    answers = [ana.get("/api/workers"), ana.put(f"/api/workers/{before['name']}", json={"drain": True})]
    answers.append(ana.put("/api/workers/never-was", json={"drain": True}))
    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert answers[0].json() == {"detail": "Only an administrator can see the machines."}
    assert answers[1].json() == answers[2].json() == {"detail": "Only an administrator can change the machines."}
    after = only(admin)
    assert (after["draining"], after["slots"]) == (before["draining"], before["slots"])


def test_strangers_learn_nothing_of_machines(server: GatedServer, admin: httpx.Client) -> None:
    name = only(admin)["name"]
    with httpx.Client(base_url=server.program.url) as stranger:
        assert stranger.get("/api/workers").status_code == 401
        assert stranger.put(f"/api/workers/{name}", json={"drain": True}).status_code == 401
        assert stranger.get("/healthz").text == "ok"


def test_the_signed_in_see_in_the_health_what_machines_do(ana: httpx.Client, admin: httpx.Client) -> None:
    name = only(admin)["name"]
    assert ana.get("/healthz").json()["workers"] == {name: "working"}
    change(admin, name, drain=True)
    assert ana.get("/healthz").json()["workers"] == {name: "draining"}


def test_a_drained_machine_ends_its_videos_and_the_job_says_what_it_waits_for(
    server: GatedServer, ana: httpx.Client, admin: httpx.Client
) -> None:
    name, held = only(admin)["name"], server.hold(ana, videos=SLOTS + 2)
    drained = change(admin, name, drain=True)
    assert (drained["state"], drained["draining"]) == ("draining", True)
    assert until_machine(admin, running=SLOTS)["state"] == "draining"
    assert ana.get(f"/api/jobs/{held.job_id}").json()["waiting"] is None
    held.release()
    reason = f"Waiting for a worker: {name} is draining"
    update = server.until(held.job_id, message=reason)
    assert (update["status"], update["current_video"]) == ("processing", SLOTS)
    job = ana.get(f"/api/jobs/{held.job_id}").json()
    assert job["waiting"] == {"place": None, "reason": reason, "starts_at": None}
    [listed] = ana.get("/api/jobs", params={"status": "processing"}).json()["items"]
    assert (listed["waiting"], listed["message"]) == (job["waiting"], reason)
    assert len(held.log.started()) == SLOTS
    assert change(admin, name, drain=False)["state"] == "working"
    server.until(held.job_id, status="completed")
    assert ana.get(f"/api/jobs/{held.job_id}").json()["waiting"] is None


def test_every_result_names_its_machine(server: GatedServer, ana: httpx.Client, admin: httpx.Client) -> None:
    job_id = server.ended(ana, HERE, "missing")
    name = only(admin)["name"]
    videos = ana.get(f"/api/jobs/{job_id}/videos").json()["items"]
    assert [(video["status"], video["machine"]) for video in videos] == [("completed", name), ("failed", name)]
    assert [attempt["machine"] for attempt in ana.get(f"/api/jobs/{job_id}/videos/1/attempts").json()] == [name]
    text = ana.get(f"/api/jobs/{job_id}/export.csv").content.decode("utf-8-sig")
    exported = list(csv.DictReader(text.splitlines()))
    assert [(row["video_id"], row["machine"]) for row in exported] == [(HERE, name), ("missing", name)]


def test_a_machine_works_on_fewer_videos(server: GatedServer, ana: httpx.Client, admin: httpx.Client) -> None:
    name = only(admin)["name"]
    assert change(admin, name, slots=2)["slots"] == 2
    held = server.hold(ana, videos=2)
    assert until_machine(admin, running=2)["slots"] == 2
    held.release()
    server.until(held.job_id, status="completed")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 422),
        (b'{"slots": 0}', 422),
        (b'{"slots": 1025}', 422),
        (b'{"slots": true}', 422),
        (b'{"slots": 1e999}', 422),
        (b'{"drain": "yes"}', 422),
        (b'{"drain": 1}', 422),
        (b'{"drain": true, "more": 1}', 422),
    ],
)
def test_an_invalid_change_is_refused_and_changes_nothing(admin: httpx.Client, body: bytes, status: int) -> None:
    before = only(admin)
    answer = admin.put(f"/api/workers/{before['name']}", content=body)
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    after = only(admin)
    assert (after["draining"], after["slots"]) == (before["draining"], before["slots"])


@pytest.mark.parametrize("name", ["never-was", "%2F", "%00", "x" * 4_000, "ö"])
def test_a_machine_that_is_not_known_is_not_found(admin: httpx.Client, name: str) -> None:
    answer = admin.put(f"/api/workers/{name}", json={"drain": True})
    assert (answer.status_code, list(answer.json())) == (404, ["detail"])
