"""The README's clients in Python, run as they stand there, through a kill and a restart of the server."""

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
from tests.support.servers import Program, ServerProcess, api, environment, free_port, running, token
from tests.support.received import FIELDS

VIDEOS = 6


@dataclass
class Ground:
    """A server that is killed and started again, and jobs that are reported to it."""

    data_dir: Path
    port: int
    jwt: str

    @contextmanager
    def server(self) -> Iterator[tuple[Program, httpx.Client]]:
        with running(self.data_dir, port=self.port) as program, api(program, self.jwt) as http:
            yield program, http

    @contextmanager
    def client(self, name: str, directory: Path, *arguments: str) -> Iterator[ServerProcess]:
        """The README's example of this name as a script."""
        script = directory / name
        script.write_text(example(f"# {name}\n"), encoding="utf-8")
        settings = {"url": f"http://127.0.0.1:{self.port}", "token": self.jwt}
        installed = {"PYTHONPATH": str(ROOT)}
        process = ServerProcess(str(script), *arguments, port=self.port, environment=environment(settings) | installed)
        try:
            yield process
        finally:
            if process.is_running:
                process.kill()


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    data_dir = tmp_path / "data"
    with running(data_dir):
        return Ground(data_dir, free_port(), token(data_dir, "admin"))


def make(http: httpx.Client) -> str:
    order = {"name": "nightly.csv", "video_ids": [f"v{n}" for n in range(VIDEOS)], "processor": "external"}
    return str(http.post("/api/jobs", json=order).raise_for_status().json()["job_id"])


def say(http: httpx.Client, job_id: str, n: int, **facts: object) -> None:
    http.post(f"/api/jobs/{job_id}/progress", json={"n": n, **facts}).raise_for_status()


def state(http: httpx.Client, job_id: str) -> dict[str, Any]:
    job = http.get(f"/api/jobs/{job_id}").raise_for_status().json()
    return {name: job[name] for name in FIELDS if name in job}


def test_the_client_over_websockets_ends_equal_to_the_api(ground: Ground, tmp_path: Path) -> None:
    with ground.server() as (program, http):
        job_id = make(http)
        with ground.client("follow.py", tmp_path) as client:
            client.until_says(job_id)
            say(http, job_id, 1, current_video=1, video_id="v0", error="The file is cut off.")
            client.until_says("The file is cut off.")
            program.kill()
            with ground.server() as (_, later):
                say(later, job_id, 2, status="completed")
                newest = state(later, job_id)
                line = client.until_says(f'"seq": {newest["seq"]}')
    assert json.loads(line) == {job_id: newest}


def test_whoever_only_asks_for_history_hears_every_error_once(ground: Ground, tmp_path: Path) -> None:
    with ground.server() as (program, http):
        job_id = make(http)
        with ground.client("poll.py", tmp_path, job_id) as client:
            say(http, job_id, 1, current_video=1, video_id="v0", error="The file is cut off.")
            client.until_says("The file is cut off.")
            program.kill()
            with ground.server() as (_, later):
                say(later, job_id, 2, current_video=2, video_id="v1", error="The disk is full.")
                say(later, job_id, 3, status="completed")
                assert client.ended() == 0
    told = [json.loads(line) for line in client.lines]
    assert [update["seq"] for update in told] == sorted({update["seq"] for update in told})
    assert {update["error"] for update in told if "error" in update} == {"The file is cut off.", "The disk is full."}
    assert told[-1]["status"] == "completed_with_errors"


def test_the_feed_in_six_lines_prints_what_happens(ground: Ground, tmp_path: Path) -> None:
    with ground.server() as (program, http):
        job_id = make(http)
        with ground.client("feed.py", tmp_path) as client:
            client.until_says("nightly.csv 0")
            say(http, job_id, 1, current_video=3)
            client.until_says("nightly.csv 50")
            program.kill()
            with ground.server() as (_, later):
                say(later, job_id, 2, status="completed")
                client.until_says("nightly.csv 100")
    assert client.output.count("nightly.csv 100") == 1


@pytest.mark.parametrize("name", ["follow.py", "feed.py"])
def test_a_bad_token_ends_the_client_with_the_reason(ground: Ground, tmp_path: Path, name: str) -> None:
    ground.jwt = "no-token"
    with running(ground.data_dir, port=ground.port), ground.client(name, tmp_path) as client:
        client.until_says("not signed in")
        assert client.ended() != 0
