"""`watch`, as it is typed against a running server that jobs are reported to."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.support.servers import Program, ServerProcess, api, free_port, running, token
from tests.support.terminal import in_terminal, typed

VIDEOS = 4
ESCAPE = "\x1b"
SHOW_CURSOR = "\x1b[?25h"
COLOUR = re.compile(r"\x1b\[[0-9;]*[34]\d?m")
QUICK = {"reconnect_delays_seconds": "0.1,0.2", "reconnect_attempts": 200}


@dataclass
class Reported:
    """A job that runs elsewhere, and its sender's counter."""

    http: httpx.Client
    job_id: str
    _said: list[int] = field(default_factory=lambda: [0])

    def say(self, **facts: object) -> None:
        self._said[0] += 1
        report = {"n": self._said[0], **facts}
        self.http.post(f"/api/jobs/{self.job_id}/progress", json=report).raise_for_status()

    def cancel(self) -> None:
        self.http.post(f"/api/jobs/{self.job_id}/cancel").raise_for_status()

    def finish(self, *, failed: int = 0) -> None:
        """All videos done, the first ones with an error."""
        for done in range(1, VIDEOS + 1):
            error = {"error": "The file is cut off."} if done <= failed else {}
            self.say(current_video=done, video_id=f"video-{done}", **error)
        self.say(status="completed")


@dataclass
class Ground:
    """A server, its administrator's token, and a way to watch it."""

    program: Program
    jwt: str
    http: httpx.Client

    def job(self, name: str = "nightly.csv") -> Reported:
        order = {"name": name, "video_ids": [f"video-{n}" for n in range(1, VIDEOS + 1)], "processor": "external"}
        return Reported(self.http, self.http.post("/api/jobs", json=order).raise_for_status().json()["job_id"])

    @contextmanager
    def watching(self, *words: str, **settings: object) -> Iterator[ServerProcess]:
        access = {"url": self.program.url, "token": self.jwt, **QUICK}
        command = typed("watch", *words, **{**access, **settings})
        try:
            yield command
        finally:
            if command.is_running:
                command.kill()


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    data_dir = tmp_path_factory.mktemp("watch") / "data"
    with running(data_dir) as program:
        jwt = token(data_dir, "admin")
        with api(program, jwt) as http:
            yield Ground(program, jwt, http)


@pytest.mark.parametrize(("failed", "word", "status"), [(0, "completed", 0), (1, "completed with errors", 1)])
def test_a_job_is_followed_to_its_end_in_plain_lines(ground: Ground, failed: int, word: str, status: int) -> None:
    job = ground.job()
    with ground.watching(job.job_id[:8]) as command:
        command.until_says("pending")
        job.finish(failed=failed)
        last = command.until_says("100 %")
        assert f"nightly.csv {job.job_id[:8]}: {word}, 100 %, 4/4" in last
        assert command.ended() == status
    assert ESCAPE not in command.output
    assert command.output.count("video-1 failed: The file is cut off.") == failed


def test_a_job_that_fails_ends_the_watching_with_1(ground: Ground) -> None:
    job = ground.job()
    with ground.watching(job.job_id) as command:
        command.until_says("pending")
        job.say(status="failed", error="The other machine is gone.")
        command.until_says(": failed, ")
        assert command.ended() == 1
    assert command.output.count("failed: The other machine is gone.") == 1


def test_a_job_that_is_cancelled_ends_the_watching_with_1(ground: Ground) -> None:
    job = ground.job()
    with ground.watching(job.job_id) as command:
        command.until_says("pending")
        job.cancel()
        command.until_says(": cancelled, ")
        assert command.ended() == 1


def test_a_job_that_has_ended_is_said_to_have_and_not_watched(ground: Ground) -> None:
    job = ground.job()
    job.finish(failed=1)
    with ground.watching(job.job_id) as command:
        command.until_says("it is completed with errors already, 4/4 videos, 1 failed")
        assert command.ended() == 1


def test_a_job_that_is_deleted_meanwhile_ends_the_watching_in_one_sentence(ground: Ground) -> None:
    job = ground.job()
    with ground.watching(job.job_id) as command:
        command.until_says("pending")
        job.cancel()
        ground.http.delete(f"/api/jobs/{job.job_id}").raise_for_status()
        assert command.ended() == 1
    assert "Traceback" not in command.output


def test_a_restart_of_the_server_loses_nothing_that_is_watched(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, port=port) as program:
        jwt = token(tmp_path, "admin")
        with api(program, jwt) as http:
            ground = Ground(program, jwt, http)
            job = ground.job()
            job.say(current_video=1, video_id="video-1", error="The file is cut off.")
            with ground.watching(job.job_id) as command:
                command.until_says("1 failed")
                program.kill()
                command.until_says("reconnecting: attempt")
                with running(tmp_path, port=port):
                    job.say(current_video=2, video_id="video-2", error="The disk is full.")
                    job.say(status="completed")
                    assert command.ended() == 1
    assert command.output.count("video-2 failed: The disk is full.") == 1
    assert "2 failed" in command.lines[-1]


@pytest.mark.parametrize(
    ("words", "settings", "sentence"),
    [
        (["0" * 8], {}, "There is no such job"),
        ([], {"token": "no-token"}, "`python main.py token NAME` prints"),
        ([], {"url": "http://127.0.0.1:9", "reconnect_attempts": 1}, "No server answers at http://127.0.0.1:9"),
    ],
    ids=["no such job", "a bad token", "no server"],
)
def test_why_nothing_can_be_watched_is_said_in_one_sentence(
    ground: Ground, words: list[str], settings: dict[str, object], sentence: str
) -> None:
    with ground.watching(*words, **settings) as command:
        command.until_says(sentence)
        assert command.ended() == 1
    assert "Traceback" not in command.output


def test_without_a_job_all_are_followed_until_ctrl_c(ground: Ground) -> None:
    with ground.watching() as command:
        first, second = ground.job("first.csv"), ground.job("second.csv")
        for job, name in ((first, "first.csv"), (second, "second.csv")):
            job.finish()
            command.until_says(f"{name} {job.job_id[:8]}: completed, 100 %")
        assert command.stop(signal.SIGINT) == 130
    assert "Traceback" not in command.output


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}], ids=["in colours", "without colours"])
def test_a_terminal_has_bars_and_is_whole_after_ctrl_c(ground: Ground, variables: dict[str, str]) -> None:
    job = ground.job()
    access = {"url": ground.program.url, "token": ground.jwt}
    with in_terminal("watch", job.job_id, width=80, variables=variables, **access) as command:
        command.until_shows("connected")
        job.say(current_video=1, video_id="video-1", error="The file is cut off.")
        command.until_shows("video-1 failed: The file is cut off.")
        written = command.until_shows("1/4")
        assert "━" in written
        assert command.interrupt() == 130
        command.until_shows(SHOW_CURSOR)
        assert bool(COLOUR.search(command.written)) is not bool(variables)
        assert "Traceback" not in command.written
