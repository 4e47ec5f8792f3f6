"""`watch` against a running server with external jobs."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from backend.domain.usual import MIN_RUNS
from tests.support.servers import Program, ServerProcess, api, free_port, running, token
from tests.support.terminal import in_terminal, start_command

pytestmark = pytest.mark.acceptance  # each test starts the whole program

VIDEOS = 4
WAIT_SECONDS, POLL_SECONDS = 30.0, 0.05
ESCAPE = "\x1b"
SHOW_CURSOR = "\x1b[?25h"
COLOUR = re.compile(r"\x1b\[[0-9;]*[34]\d?m")
FAST_RECONNECT = {"reconnect_delays_seconds": "0.1,0.2", "reconnect_attempts": 200}


@dataclass
class ExternalJob:
    """An external job, and the counter of its sender."""

    http: httpx.Client
    job_id: str
    _reports: list[int] = field(default_factory=lambda: [0])

    def report(self, **facts: object) -> None:
        self._reports[0] += 1
        report = {"n": self._reports[0], **facts}
        self.http.post(f"/api/jobs/{self.job_id}/progress", json=report).raise_for_status()

    def until_slower(self) -> None:
        """Return when the server says that it is slower than usual."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self.http.get(f"/api/jobs/{self.job_id}").raise_for_status().json()["unusual"] != "slower":
            assert time.monotonic() < deadline, "the server never says that the job is slower than usual"
            time.sleep(POLL_SECONDS)

    def cancel(self) -> None:
        self.http.post(f"/api/jobs/{self.job_id}/cancel").raise_for_status()

    def finish(self, *, failed: int = 0) -> None:
        """Report the end of all videos, with an error for the first `failed` ones."""
        for done in range(1, VIDEOS + 1):
            error = {"error": "The file is cut off."} if done <= failed else {}
            self.report(current_video=done, video_id=f"video-{done}", **error)
        self.report(status="completed")


@dataclass
class WatchedServer:
    """A server with its administrator's token, and the command `watch`."""

    program: Program
    jwt: str
    http: httpx.Client

    def job(self, name: str = "nightly.csv") -> ExternalJob:
        order = {"name": name, "video_ids": [f"video-{n}" for n in range(1, VIDEOS + 1)], "processor": "external"}
        return ExternalJob(self.http, self.http.post("/api/jobs", json=order).raise_for_status().json()["job_id"])

    @contextmanager
    def watching(self, *arguments: str, **settings: object) -> Iterator[ServerProcess]:
        access = {"url": self.program.url, "token": self.jwt, **FAST_RECONNECT}
        command = start_command("watch", *arguments, **{**access, **settings})
        try:
            yield command
        finally:
            if command.is_running:
                command.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedServer]:
    data_dir = tmp_path_factory.mktemp("watch") / "data"
    with running(data_dir) as program:
        jwt = token(data_dir, "admin")
        with api(program, jwt) as http:
            yield WatchedServer(program, jwt, http)


@pytest.mark.parametrize(("failed", "word", "status"), [(0, "completed", 0), (1, "completed with errors", 1)])
def test_without_a_terminal_a_job_is_followed_in_plain_lines(
    server: WatchedServer, failed: int, word: str, status: int
) -> None:
    job = server.job()
    with server.watching(job.job_id[:8]) as command:
        command.until_says("pending")
        job.finish(failed=failed)
        last = command.until_says("100 %")
        assert f"nightly.csv {job.job_id[:8]}: {word}, 100 %, 4/4" in last
        assert command.ended() == status
    assert ESCAPE not in command.output
    assert command.output.count("video-1 failed: The file is cut off.") == failed


def test_watch_says_when_a_list_took_longer_than_usual(server: WatchedServer) -> None:
    for _ in range(MIN_RUNS):
        server.job("usual.csv").finish()
    job = server.job("usual.csv")
    job.report(current_video=1, video_id="video-1")
    job.until_slower()
    with server.watching(job.job_id) as command:
        command.until_says("processing")
        job.finish()
        assert command.ended() == 0
    assert f"usual.csv {job.job_id[:8]}: slower than usual, which is " in command.output


def test_watch_exits_with_1_when_the_job_fails(server: WatchedServer) -> None:
    job = server.job()
    with server.watching(job.job_id) as command:
        command.until_says("pending")
        job.report(status="failed", error="The other machine is gone.")
        command.until_says(": failed, ")
        assert command.ended() == 1
    assert command.output.count("failed: The other machine is gone.") == 1


def test_watch_exits_with_1_when_the_job_is_cancelled(server: WatchedServer) -> None:
    job = server.job()
    with server.watching(job.job_id) as command:
        command.until_says("pending")
        job.cancel()
        command.until_says(": cancelled, ")
        assert command.ended() == 1


def test_watch_of_an_ended_job_reports_its_end_and_exits(server: WatchedServer) -> None:
    job = server.job()
    job.finish(failed=1)
    with server.watching(job.job_id) as command:
        command.until_says("already completed with errors, 4/4 videos, 1 failed")
        assert command.ended() == 1


def test_watch_exits_with_1_when_the_job_is_deleted(server: WatchedServer) -> None:
    job = server.job()
    with server.watching(job.job_id) as command:
        command.until_says("pending")
        job.cancel()
        server.http.delete(f"/api/jobs/{job.job_id}").raise_for_status()
        assert command.ended() == 1
    assert "Traceback" not in command.output


def test_watch_loses_nothing_when_the_server_restarts(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, port=port) as program:
        jwt = token(tmp_path, "admin")
        with api(program, jwt) as http:
            server = WatchedServer(program, jwt, http)
            job = server.job()
            job.report(current_video=1, video_id="video-1", error="The file is cut off.")
            with server.watching(job.job_id) as command:
                command.until_says("1 failed")
                program.kill()
                command.until_says("reconnecting: attempt")
                with running(tmp_path, port=port):
                    job.report(current_video=2, video_id="video-2", error="The disk is full.")
                    job.report(status="completed")
                    assert command.ended() == 1
    assert command.output.count("video-2 failed: The disk is full.") == 1
    assert "2 failed" in command.lines[-1]


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        (["0" * 8], {}, "There is no such job"),
        ([], {"token": "no-token"}, "`python main.py token NAME` prints"),
        ([], {"url": "http://127.0.0.1:9", "reconnect_attempts": 1}, "No server answers at http://127.0.0.1:9"),
    ],
    ids=["no such job", "a bad token", "no server"],
)
def test_a_refusal_to_watch_is_one_sentence(
    server: WatchedServer, arguments: list[str], settings: dict[str, object], sentence: str
) -> None:
    with server.watching(*arguments, **settings) as command:
        command.until_says(sentence)
        assert command.ended() == 1
    assert "Traceback" not in command.output


def test_without_a_job_all_jobs_are_followed_until_ctrl_c(server: WatchedServer) -> None:
    with server.watching() as command:
        first, second = server.job("first.csv"), server.job("second.csv")
        for job, name in ((first, "first.csv"), (second, "second.csv")):
            job.finish()
            command.until_says(f"{name} {job.job_id[:8]}: completed, 100 %")
        assert command.stop(signal.SIGINT) == 130
    assert "Traceback" not in command.output


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}], ids=["in colours", "without colours"])
def test_a_terminal_shows_bars_and_is_restored_after_ctrl_c(server: WatchedServer, variables: dict[str, str]) -> None:
    job = server.job()
    access = {"url": server.program.url, "token": server.jwt}
    with in_terminal("watch", job.job_id, width=80, variables=variables, **access) as command:
        command.until_shows(job.job_id[:8])
        job.report(current_video=1, video_id="video-1", error="The file is cut off.")
        command.until_shows("video-1 failed: The file is cut off.")
        assert "━" in command.until_shows("1/4")
        assert command.interrupt() == 130
        command.until_shows(SHOW_CURSOR)
        assert bool(COLOUR.search(command.written)) is not bool(variables)
        assert "Traceback" not in command.written
