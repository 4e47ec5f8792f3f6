"""Chromium for the tests that look at pages, and a server process that can be stopped and started."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOW_TO_GET = "Chromium is missing: install it (Debian: apt-get install chromium), or run `playwright install chromium`"
DEBIAN = "/usr/bin/chromium"


def chromium_path(of_playwright: str) -> str:
    """Debian's Chromium, the one on PATH, or Playwright's own; the test is skipped where there is none."""
    for path in (DEBIAN, shutil.which("chromium"), of_playwright):
        if path and Path(path).exists():
            return path
    pytest.skip(HOW_TO_GET)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A headless Chromium for all tests of the package; its loop must be gone before other packages' async tests."""
    with sync_playwright() as playwright:
        path = chromium_path(playwright.chromium.executable_path)
        launched = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield launched
        launched.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class ServerProcess:
    """`python -m <module> <port>` in a process of its own."""

    module: str
    port: int = field(default_factory=free_port)
    arguments: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and return when it answers."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTEST_CURRENT_TEST", "PYTEST_VERSION", "NICEGUI_USER_SIMULATION")
        }
        command = [sys.executable, "-m", self.module, str(self.port), *self.arguments]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment)
        deadline = time.monotonic() + 30
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.module} did not start")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as Ctrl-C would."""
        self._end(signal.SIGINT)

    def _end(self, sign: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(sign)
            self.process.wait(timeout=10)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=1).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True
