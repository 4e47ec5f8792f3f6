"""Commands in a terminal that does not have all characters: the deed is done, and its sentence has a `?`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests import ROOT
from tests.support.servers import Program, add_user, api, environment, running
from tests.support.terminal import in_terminal

pytestmark = pytest.mark.acceptance  # starts the whole program

NAME = "🎬 Übung żółć"
ENCODINGS = {
    "latin-1": "? Übung ?ó??",
    "ascii": "? ?bung ????",
    "ascii:strict": "? ?bung ????",
    "cp1252": "? Übung ?ó??",
}
COMMANDS = ["submit", "watch", "pause", "resume", "cancel", "retry", "export", "backup", "users", "token", "login-link"]


@dataclass(frozen=True)
class Terminal:
    """The program, and a user's client of it."""

    program: Program
    jwt: str
    http: httpx.Client

    def run(self, *arguments: str, encoding: str) -> subprocess.CompletedProcess[bytes]:
        variables = environment({"url": self.program.url, "token": self.jwt}) | {"PYTHONIOENCODING": encoding}
        command = [sys.executable, "main.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, timeout=60, check=False)

    def job(self) -> str:
        """Return the ID of a new job that waits for its first report."""
        order = {"name": NAME, "video_ids": ["abc", "def"], "processor": "external"}
        return str(self.http.post("/api/jobs", json=order).raise_for_status().json()["job_id"])


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    with running(tmp_path_factory.mktemp("terminals") / "data") as program:
        jwt = add_user(program.data_dir, "ana")
        with api(program, jwt) as client:
            yield Terminal(program, jwt, client)


@pytest.mark.parametrize(("encoding", "shown"), ENCODINGS.items())
def test_a_cancelled_job_is_reported_with_what_the_terminal_has(terminal: Terminal, encoding: str, shown: str) -> None:
    """The example of the field: `PYTHONIOENCODING=latin-1 python main.py cancel JOB`."""
    job_id = terminal.job()
    done = terminal.run("cancel", job_id, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding.partition(":")[0]) == f"{shown}: cancelled, 0 of 2 videos done\n"
    assert terminal.http.get(f"/api/jobs/{job_id}").json()["status"] == "cancelled"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_watch_and_submit_end_well_there(terminal: Terminal, tmp_path: Path, encoding: str) -> None:
    job_id = terminal.job()
    terminal.http.post(f"/api/jobs/{job_id}/progress", json={"n": 1, "video_id": "abc", "error": "żółć 🎬"})
    terminal.http.post(f"/api/jobs/{job_id}/progress", json={"n": 2, "status": "completed"})
    watched = terminal.run("watch", job_id, encoding=encoding)
    (tmp_path / f"{NAME}.csv").write_text("video_id\nabc\nżółć\n", encoding="utf-8")
    submitted = terminal.run("submit", str(tmp_path / f"{NAME}.csv"), encoding=encoding)
    missing = terminal.run("submit", str(tmp_path / "🎬.csv"), encoding=encoding)
    assert (watched.returncode, submitted.returncode, missing.returncode) == (1, 0, 1)
    assert ENCODINGS[encoding].encode(encoding) in watched.stdout
    assert ENCODINGS[encoding].encode(encoding) in submitted.stderr
    assert b"?.csv cannot be read" in missing.stderr
    for done in (watched, submitted, missing):
        assert b"Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_an_exported_file_is_utf_8_whatever_the_terminal_is(terminal: Terminal, tmp_path: Path, encoding: str) -> None:
    job_id = terminal.job()
    piped = terminal.run("export", encoding=encoding)
    written = terminal.run("export", "--output", str(tmp_path / "all.csv"), encoding=encoding)
    assert (piped.returncode, written.returncode) == (0, 0)
    for content in (piped.stdout, (tmp_path / "all.csv").read_bytes()):
        assert content.startswith(b"\xef\xbb\xbf")
        assert f"{job_id}" in content.decode()
        assert NAME in content.decode()


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_shown_there(terminal: Terminal, command: str) -> None:
    for encoding in ("latin-1", "ascii"):
        done = terminal.run(*filter(None, [command]), "--help", encoding=encoding)
        assert (done.returncode, b"Usage: python main.py" in done.stdout, done.stderr) == (0, True, b"")
        done.stdout.decode(encoding)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_bars_and_tables_are_drawn_there(terminal: Terminal, encoding: str) -> None:
    job_id, access = terminal.job(), {"url": terminal.program.url, "token": terminal.jwt}
    variables = {"PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    with in_terminal("watch", job_id, width=80, variables=variables, **access) as command:
        command.until_shows("---")
        terminal.http.post(f"/api/jobs/{job_id}/cancel").raise_for_status()
        assert "Traceback" not in command.until_shows("cancelled")
    with in_terminal("export", job_id, width=80, variables=variables, **access) as command:
        assert "Traceback" not in command.until_shows("video_id")
