"""Servers as child processes, for tests and benchmarks: the program itself, `python main.py`, and test servers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Protocol, TypeVar

import httpx

from backend.accounts.accounts import Accounts
from backend.clock import SystemClock
from backend.data_directory import prepare_data_directory
from tests import ROOT
from tests.support.accounts import open_account_store
from tests.support.databases import database_settings, settings_of
from tests.support.forked_python import ForkedPython, run_forked
from ui.cli.data import LINK_SECONDS

REMOVED_VARIABLES = ("DASHBOARD_", "PYTEST_", "NICEGUI_")
# Tests whose servers and commands are traced for the coverage. They reach nearly all that only runs in the program
# itself; to trace it in every test would double the time of the gate.
MEASURED_TESTS = (
    "tests/browser/test_notification_settings.py",
    "tests/browser/test_pages.py",
    "tests/browser/test_problems.py",
    "tests/browser/test_statistics.py",
    "tests/integration/api/test_control.py",
    "tests/integration/api/test_jobs_api.py",
    "tests/integration/cli/test_watch_command.py",
)
# Tests whose programs start as users start them, and are not forked from one process that has loaded the libraries.
FRESH_TESTS = (
    *MEASURED_TESTS,
    "tests/integration/cli/test_start.py",
    "tests/integration/cli/test_launch.py::test_a_signal_stops",
    "tests/integration/cli/test_launch.py::test_the_first_start",
)
UNSHARED = ("unshare", "--mount")
START_SECONDS = 60
STOP_SECONDS = 15
TOKEN_SECONDS = 86_400
TLS = ssl.create_default_context()  # for all clients: to load the certificates takes longer than most requests
Result = TypeVar("Result")
Server = TypeVar("Server", bound="ServerProcess")


def free_port() -> int:
    """Return a port that no process listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Return this process's environment with these settings and no others."""
    is_measured = os.environ.get("PYTEST_CURRENT_TEST", "").startswith(MEASURED_TESTS)
    removed = REMOVED_VARIABLES if is_measured else (*REMOVED_VARIABLES, "COVERAGE_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(removed)}
    inherited["PYTHONUNBUFFERED"] = "1"
    return inherited | {f"DASHBOARD_{name.upper()}": str(value) for name, value in settings.items()}


def can_fork(root: Path, python_path: Path | None) -> bool:
    """Return True if a program of this directory begins as that of the checkout does."""
    return root == ROOT and not (python_path is not None and (python_path / "sitecustomize.py").exists())


def _is_for_a_test() -> bool:
    """Return True if this test's programs may be forked; benchmarks start them as users do."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "")
    return bool(test) and not test.startswith(FRESH_TESTS)


def python_paths(first: Path | None) -> dict[str, str]:
    """Return the variable with which a program finds packages in this directory, too."""
    inherited = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(first), *([inherited] if inherited else [])])} if first else {}


def run_command(
    *arguments: str, data_dir: Path, stdin: str | None = None, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run `python main.py …` until it exits."""
    given = ["main.py", *arguments, "--data-dir", str(data_dir)]
    variables = environment({**database_settings(data_dir), **settings})
    if _is_for_a_test():
        return run_forked(given, cwd=ROOT, env=variables, stdin=stdin, timeout=START_SECONDS)
    return subprocess.run(
        [sys.executable, *given],
        cwd=ROOT,
        env=variables,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


class ServerProcess:
    """A server as a child process: its address, its output, and ways to stop it.

    With `own_mounts`, what is unmounted in it stays mounted elsewhere.
    """

    def __init__(
        self,
        *arguments: str,
        port: int,
        environment: Mapping[str, str],
        root: Path = ROOT,
        program: str | Path = sys.executable,
        prefix: Sequence[str] = (),
        may_fork: bool = False,
        own_mounts: bool = False,
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.began = time.perf_counter()
        self.lines: list[str] = []
        self._unread: Queue[str | None] = Queue()
        self._process: subprocess.Popen[str] | ForkedPython
        if may_fork and _is_for_a_test():
            self._process = ForkedPython(arguments, cwd=root, env=environment, own_mounts=own_mounts)
        else:
            self._process = subprocess.Popen(
                [*prefix, *(UNSHARED if own_mounts else ()), program, *arguments],
                cwd=root,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

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
        """Return the first new line that contains `word`. Fails with the output if there is none in time."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self._unread.get(timeout=max(0.0, end - time.monotonic()))
            except Empty:
                line = None
            if line is None:
                raise AssertionError(f"the server did not print {word!r}:\n{self.output}")
            if word in line:
                return line

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def ended(self) -> int:
        """Wait until it exits without a signal, perhaps before it was ready, and return its exit code.

        All that it printed is in `lines` by then.
        """
        code = self._process.wait(START_SECONDS)
        self._listener.join(STOP_SECONDS)
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal to stop, and return its exit code."""
        if self.is_running:
            self._process.send_signal(number)
        return self._process.wait(STOP_SECONDS)

    def end(self) -> None:
        """Stop it like a user, so that what was measured is written; kill it if that does not help."""
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self.lines.append(line)
                self._unread.put(line)
        self._unread.put(None)


class Program(ServerProcess):
    """The real program over a data directory; `root` is its directory if it is a copy."""

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        python_path: Path | None = None,
        root: Path = ROOT,
        max_descriptors: int | None = None,
        **settings: object,
    ) -> None:
        self.data_dir = data_dir
        port = port or free_port()
        arguments = ("main.py", "--no-browser", "--port", str(port), "--data-dir", str(data_dir))
        variables = environment({**database_settings(data_dir), **settings}) | python_paths(python_path)
        if max_descriptors is None:
            may_fork = can_fork(root, python_path)
            super().__init__(*arguments, port=port, environment=variables, root=root, may_fork=may_fork)
        else:
            limited = ("-c", f'ulimit -n {max_descriptors} && exec "$@"', "sh", sys.executable, *arguments)
            super().__init__(*limited, port=port, environment=variables, root=root, program="/bin/sh")

    def sign_in_link(self) -> str:
        """Return the link that the server prints when it is ready."""
        return self.until_says("Sign in:").split()[-1]


@contextmanager
def running(
    data_dir: Path,
    *,
    port: int | None = None,
    python_path: Path | None = None,
    root: Path = ROOT,
    max_descriptors: int | None = None,
    **settings: object,
) -> Iterator[Program]:
    """Start the program and wait until it is ready. Ends it afterwards."""
    program = Program(
        data_dir, port=port, python_path=python_path, root=root, max_descriptors=max_descriptors, **settings
    )
    with _ready(program, "Dashboard:") as ready:
        yield ready


@contextmanager
def serving(module: str, *arguments: str, port: int | None = None) -> Iterator[ServerProcess]:
    """Start `python -m MODULE PORT …`, a module that serves with Uvicorn. Ends it afterwards."""
    port = port or free_port()
    server = ServerProcess("-m", module, str(port), *arguments, port=port, environment=environment({}), may_fork=True)
    with _ready(server, "Uvicorn running") as ready:
        yield ready


@contextmanager
def _ready(server: Server, line: str) -> Iterator[Server]:
    try:
        server.until_says(line)
        yield server
    finally:
        server.end()


def token(data_dir: Path, name: str) -> str:
    """Return a JWT of this user, like the command `token`."""

    async def issue() -> str:
        async with _accounts(data_dir) as accounts:
            return await accounts.issue_token(await accounts.user(name), lifetime_seconds=TOKEN_SECONDS)

    return apart(issue())


class Served(Protocol):
    """A server over a data directory."""

    url: str
    data_dir: Path


def sign_in_link(program: Served, name: str) -> str:
    """Return a link that signs this user in once, like the command `login-link`."""

    async def make() -> str:
        async with _accounts(program.data_dir) as accounts:
            return await accounts.make_link(await accounts.user(name), lifetime_seconds=LINK_SECONDS)

    return f"{program.url}/link?token={apart(make())}"


def password_of(name: str) -> str:
    """Return the password that `add_user` sets."""
    return f"correct horse {name}"


def add_user(data_dir: Path, name: str, *, admin: bool = False) -> str:
    """Add a user with the password of that name, like the command `users add`, and return their token."""

    async def add() -> None:
        async with _accounts(data_dir) as accounts:
            await accounts.add_user(name, password_of(name), is_admin=admin)

    apart(add())
    return token(data_dir, name)


@asynccontextmanager
async def _accounts(data_dir: Path) -> AsyncIterator[Accounts]:
    """Open the accounts of a data directory as the commands do."""
    prepare_data_directory(settings_of(data_dir))
    with open_account_store(data_dir, SystemClock()) as opened:
        await opened.accounts.add_admin()
        yield opened.accounts


def apart(work: Coroutine[Any, Any, Result]) -> Result:
    """Run the coroutine in an event loop of another thread: Playwright may use the one of this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def api(program: Program, jwt: str) -> httpx.Client:
    """Open a client of the REST routes as the token's user."""
    return httpx.Client(base_url=program.url, headers={"Authorization": f"Bearer {jwt}"}, timeout=60, verify=TLS)


def use_link(browser: httpx.Client, link: str) -> httpx.Response:
    """Open a sign-in link and press its button, as a browser does."""
    assert "Sign in" in browser.get(link).text
    address, _, secret = link.partition("?token=")
    return browser.post(address, data={"token": secret}, headers={"origin": address.removesuffix("/link")})
