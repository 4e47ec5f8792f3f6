"""Servers as child processes, for tests and benchmarks: the program itself, `python main.py`, and the tests' own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TypeVar

import httpx

from tests import ROOT
from ui.cli.data import open_accounts

FROM_OUTSIDE = ("DASHBOARD_", "PYTEST_", "NICEGUI_")
START_SECONDS = 60
STOP_SECONDS = 15
TOKEN_SECONDS = 86_400
Result = TypeVar("Result")
Server = TypeVar("Server", bound="ServerProcess")


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """This process's environment without settings of its own, and with those that are given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FROM_OUTSIDE)}
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


class ServerProcess:
    """A server as a child process: its address, its output, and ways to end it."""

    def __init__(self, *arguments: str, port: int, environment: Mapping[str, str], root: Path = ROOT) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.began = time.perf_counter()
        self.lines: list[str] = []
        self._said: Queue[str | None] = Queue()
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=root,
            env=environment,
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

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        return self._process.wait(STOP_SECONDS)

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


class Program(ServerProcess):
    """The real program over a data directory; `root`: where it lies, when it is a copy."""

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        python_path: Path | None = None,
        root: Path = ROOT,
        **settings: object,
    ) -> None:
        self.data_dir = data_dir
        port = port or free_port()
        arguments = ("main.py", "--no-browser", "--port", str(port), "--data-dir", str(data_dir))
        plug_ins = {"PYTHONPATH": str(python_path)} if python_path else {}
        super().__init__(*arguments, port=port, environment=environment(settings) | plug_ins, root=root)

    def sign_in_link(self) -> str:
        """The link that the server prints once it is ready."""
        return self.until_says("Sign in:").split()[-1]


@contextmanager
def running(
    data_dir: Path,
    *,
    port: int | None = None,
    python_path: Path | None = None,
    root: Path = ROOT,
    **settings: object,
) -> Iterator[Program]:
    """The program, ready; killed at the end if it still runs."""
    program = Program(data_dir, port=port, python_path=python_path, root=root, **settings)
    with _ready(program, "Dashboard:") as ready:
        yield ready


@contextmanager
def serving(module: str, *arguments: str, port: int | None = None) -> Iterator[ServerProcess]:
    """`python -m MODULE PORT …` of a module that serves with Uvicorn, ready; killed at the end if it still runs."""
    port = port or free_port()
    server = ServerProcess("-m", module, str(port), *arguments, port=port, environment=environment({}))
    with _ready(server, "Uvicorn running") as ready:
        yield ready


@contextmanager
def _ready(server: Server, line: str) -> Iterator[Server]:
    try:
        server.until_says(line)
        yield server
    finally:
        if server.is_running:
            server.kill()


def token(data_dir: Path, name: str) -> str:
    """A JWT of this user, as the command `token` makes it."""

    async def issue() -> str:
        async with open_accounts(data_dir) as accounts:
            return await accounts.issue_token(await accounts.user(name), lifetime_seconds=TOKEN_SECONDS)

    return apart(issue())


def password_of(name: str) -> str:
    """The password that `add_user` gives."""
    return f"correct horse {name}"


def add_user(data_dir: Path, name: str, *, admin: bool = False) -> str:
    """A new user with the password of that name, as the command `users add` makes it, and their token."""

    async def add() -> None:
        async with open_accounts(data_dir) as accounts:
            await accounts.add_user(name, password_of(name), is_admin=admin)

    apart(add())
    return token(data_dir, name)


def apart(work: Coroutine[Any, Any, Result]) -> Result:
    """What comes of it, in a loop of its own: that of this thread may be Playwright's."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def api(program: Program, jwt: str) -> httpx.Client:
    """A client of the REST routes as the token's user."""
    return httpx.Client(base_url=program.url, headers={"Authorization": f"Bearer {jwt}"}, timeout=60)
