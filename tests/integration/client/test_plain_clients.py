"""The Python clients of the README, run as they are there, through a kill and a restart of the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import ROOT
from tests.support.examples import example
from tests.support.received import FIELDS
from tests.support.servers import Program, ServerProcess, api, environment, free_port, running, token

pytestmark = pytest.mark.acceptance  # each test starts the whole program

CLIENT_PACKAGE = ROOT / "backend" / "client"
VIDEOS = [f"v{number}" for number in range(6)]


@dataclass
class Installation:
    """A data directory and a port, on which the server is killed and started again."""

    data_dir: Path
    port: int
    jwt: str

    @contextmanager
    def server(self) -> Iterator[tuple[Program, httpx.Client]]:
        with running(self.data_dir, port=self.port) as program, api(program, self.jwt) as http:
            yield program, http

    @contextmanager
    def client(self, name: str, directory: Path, *arguments: str) -> Iterator[ServerProcess]:
        """Run the example of this name as a script while the block runs."""
        script = directory / name
        script.write_text(example(f"# {name}\n"), encoding="utf-8")
        settings = environment({"url": f"http://127.0.0.1:{self.port}", "token": self.jwt})
        variables = settings | {"PYTHONPATH": str(CLIENT_PACKAGE)}
        process = ServerProcess(str(script), *arguments, port=self.port, environment=variables, root=directory)
        try:
            yield process
        finally:
            if process.is_running:
                process.kill()


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    data_dir = tmp_path / "data"
    with running(data_dir):
        return Installation(data_dir, free_port(), token(data_dir, "admin"))


def make_job(http: httpx.Client) -> str:
    order = {"name": "nightly.csv", "video_ids": VIDEOS, "processor": "external"}
    return str(http.post("/api/jobs", json=order).raise_for_status().json()["job_id"])


def report(http: httpx.Client, job_id: str, n: int, **facts: object) -> None:
    http.post(f"/api/jobs/{job_id}/progress", json={"n": n, **facts}).raise_for_status()


def state(http: httpx.Client, job_id: str) -> dict[str, Any]:
    job = http.get(f"/api/jobs/{job_id}").raise_for_status().json()
    return {name: job[name] for name in FIELDS if name in job}


def test_the_client_over_websockets_ends_equal_to_the_api(installation: Installation, tmp_path: Path) -> None:
    with installation.server() as (program, http):
        job_id = make_job(http)
        with installation.client("follow.py", tmp_path) as client:
            client.until_says(job_id)
            report(http, job_id, 1, current_video=1, video_id="v0", error="The file is cut off.")
            client.until_says("The file is cut off.")
            program.kill()
            with installation.server() as (_, later):
                report(later, job_id, 2, status="completed")
                newest = state(later, job_id)
                line = client.until_says(f'"seq": {newest["seq"]}')
    assert json.loads(line) == {job_id: newest}


def test_the_client_of_history_only_gets_every_error_once(installation: Installation, tmp_path: Path) -> None:
    with installation.server() as (program, http):
        job_id = make_job(http)
        with installation.client("poll.py", tmp_path, job_id) as client:
            report(http, job_id, 1, current_video=1, video_id="v0", error="The file is cut off.")
            client.until_says("The file is cut off.")
            program.kill()
            with installation.server() as (_, later):
                report(later, job_id, 2, current_video=2, video_id="v1", error="The disk is full.")
                report(later, job_id, 3, status="completed")
                assert client.ended() == 0
    received = [json.loads(line) for line in client.lines]
    assert [update["seq"] for update in received] == sorted({update["seq"] for update in received})
    assert {update["error"] for update in received if "error" in update} == {
        "The file is cut off.",
        "The disk is full.",
    }
    assert received[-1]["status"] == "completed_with_errors"


def test_the_feed_example_prints_each_state_once(installation: Installation, tmp_path: Path) -> None:
    with installation.server() as (program, http):
        job_id = make_job(http)
        with installation.client("feed.py", tmp_path) as client:
            client.until_says("nightly.csv 0")
            report(http, job_id, 1, current_video=3)
            client.until_says("nightly.csv 50")
            program.kill()
            with installation.server() as (_, later):
                report(later, job_id, 2, status="completed")
                client.until_says("nightly.csv 100")
    assert client.output.count("nightly.csv 100") == 1


@pytest.mark.parametrize("name", ["follow.py", "feed.py"])
def test_a_bad_token_ends_a_client_with_the_reason(installation: Installation, tmp_path: Path, name: str) -> None:
    installation.jwt = "no-token"
    with running(installation.data_dir, port=installation.port), installation.client(name, tmp_path) as client:
        client.until_says("not signed in")
        assert client.ended() != 0
