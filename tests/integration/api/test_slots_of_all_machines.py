"""The slots of all machines together, over workers on PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.support.gated_server import HERE, SLOTS, GatedServer, gated_server, submit
from tests.support.logging_processor import StartLog
from tests.support.worker_programs import working

pytestmark = [pytest.mark.acceptance, pytest.mark.postgresql_only]  # starts the whole program

TIMEOUT_SECONDS, POLL_SECONDS = 20, 0.05
MORE = 2  # slots of the second machine


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedServer]:
    with gated_server(tmp_path_factory.mktemp("slots")) as opened, ExitStack() as stack:
        plug_ins = opened.home / "plug-ins"
        stack.enter_context(
            working(opened.program.data_dir, "second", slots=MORE, media=opened.home / "media", python_path=plug_ins)
        )
        yield opened


@pytest.fixture
def admin(server: GatedServer) -> Iterator[httpx.Client]:
    with server.api("admin") as client:
        until(lambda: slots_of(client) == SLOTS + MORE)
        yield client


def slots_of(client: httpx.Client) -> int:
    return int(client.get("/api/slots").raise_for_status().json()["slots"])


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT_SECONDS
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(POLL_SECONDS)


def test_the_slots_of_all_machines_are_capped_together(server: GatedServer, admin: httpx.Client) -> None:
    assert admin.put("/api/slots", json={"slots": 2}).json() == {"slots": 2}
    log, gate = StartLog(server.home / "capped.log"), server.home / "capped.gate"
    gate.mkdir()
    ids = [HERE, *(f"{HERE}-{number}" for number in range(1, SLOTS + 1))]
    job_id = submit(admin, *ids, processor="logged", options={"log": str(log.path), "gate": str(gate)})
    log.until_started(2)
    for name in ids[:2]:
        (gate / name).touch()
    log.until_started(4)
    assert sum(machine["running"] for machine in admin.get("/api/workers").json()) <= 2
    assert len(log.started()) == 4
    assert admin.put("/api/slots", json={"slots": SLOTS + MORE}).status_code == 200
    log.until_started(len(ids))
    for name in ids:
        (gate / name).touch()
    server.until(job_id, status="completed")
