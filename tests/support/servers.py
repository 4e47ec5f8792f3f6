"""The real program, `python main.py`, as a child process for tests and benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

import httpx

ROOT = Path(__file__).parents[2]
START_SECONDS = 60
STOP_SECONDS = 15


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """This process's environment without settings of its own, and with those that are given."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DASHBOARD_") and name not in ("PYTEST_CURRENT_TEST", "NICEGUI_USER_SIMULATION")
    }
    kept["PYTHONUNBUFFERED"] = "1"
    return kept | {f"DASHBOARD_{name.upper()}": str(value) for name, value in settings.items()}


def run_command(
    *arguments: str, data_dir: Path, stdin: str | None = None, **settings: object
) -> subprocess.CompletedProcess[str]:
    """`python main.py …` to its end."""
    return subprocess.run(
        [sys.executable, "main.py", *arguments, "--data-dir", str(data_dir)],
        cwd=ROOT,
        env=environment(settings),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


class Program:
    """A running server: its address, its output, and ways to end it."""

    def __init__(
        self, data_dir: Path, *, port: int | None = None, python_path: Path | None = None, **settings: object
    ) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.began = time.perf_counter()
        self.lines: list[str] = []
        self._said: Queue[str | None] = Queue()
        self._process = subprocess.Popen(
            [sys.executable, "main.py", "--no-browser", "--port", str(self.port), "--data-dir", str(data_dir)],
            cwd=ROOT,
            env=environment(settings) | ({"PYTHONPATH": str(python_path)} if python_path else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def until_says(self, word: str, seconds: float = START_SECONDS) -> str:
        """The first line from now on that contains `word`; fails with the output when it does not come."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self._said.get(timeout=max(0.0, end - time.monotonic()))
            except Empty:
                line = None
            if line is None:
                raise AssertionError(f"the server never said {word!r}:\n{self.output}")
            if word in line:
                return line

    def sign_in_link(self) -> str:
        """The link that the server prints once it is ready."""
        return self.until_says("Sign in:").split()[-1]

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop; its exit code."""
        if self.is_running:
            self._process.send_signal(number)
        return self._process.wait(STOP_SECONDS)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            self._said.put(line)
        self._said.put(None)


@contextmanager
def running(
    data_dir: Path, *, port: int | None = None, python_path: Path | None = None, **settings: object
) -> Iterator[Program]:
    """The program, ready; killed at the end if it still runs."""
    program = Program(data_dir, port=port, python_path=python_path, **settings)
    try:
        program.until_says("Dashboard:")
        yield program
    finally:
        if program.is_running:
            program.kill()


def token(data_dir: Path, name: str) -> str:
    """A JWT of this user, made by the command."""
    done = run_command("token", name, data_dir=data_dir)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def add_user(data_dir: Path, name: str, *, admin: bool = False) -> str:
    """A new user with the password `correct horse NAME`, and their token."""
    done = run_command(
        "users",
        "add",
        name,
        "--password-stdin",
        *(["--admin"] if admin else []),
        data_dir=data_dir,
        stdin=f"correct horse {name}\n",
    )
    assert done.returncode == 0, done.stderr
    return token(data_dir, name)


def api(program: Program, jwt: str) -> httpx.Client:
    """A client of the REST routes as the token's user."""
    return httpx.Client(base_url=program.url, headers={"Authorization": f"Bearer {jwt}"}, timeout=60)
