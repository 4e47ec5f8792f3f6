"""The pages of tests/clients with the examples of the README files beside them, built and served as users do it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests import ROOT
from tests.support.examples import example
from tests.support.servers import environment

SOURCES = ROOT / "tests" / "clients"
EXAMPLES = ("jobs.js", "follow.js", "use-jobs.jsx")
INSTALL = ("install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1")
INSTALL_TIMEOUT_SECONDS = 180
NPM_MISSING = "npm is missing; install it (Debian: apt-get install npm)."


def lay_out(directory: Path) -> None:
    """Copy the pages and the examples into an empty directory."""
    for name in EXAMPLES:
        (directory / name).write_text(example(f"// {name}\n"), encoding="utf-8")
    for source in (*SOURCES.glob("*.html"), *SOURCES.glob("*.js"), *SOURCES.glob("*.jsx"), SOURCES / "package.json"):
        shutil.copy(source, directory)


def build(directory: Path) -> None:
    """Bundle the stock client with packages of the registry; skip the test without npm or a registry."""
    if shutil.which("npm") is None:
        pytest.skip(NPM_MISSING)
    try:
        installed = _npm(directory, *INSTALL)
    except subprocess.TimeoutExpired:
        pytest.skip(f"the stock client: npm's registry does not answer within {INSTALL_TIMEOUT_SECONDS} s")
    if installed.returncode != 0:
        pytest.skip(f"the stock client: no registry for npm: {installed.stderr.strip()[-500:]}")
    built = _npm(directory, "run", "build")
    assert built.returncode == 0, built.stdout + built.stderr


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve the files of a directory while the block runs, and yield their origin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(directory)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _npm(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["npm", *arguments],
        cwd=directory,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_SECONDS,
        check=False,
    )


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Log no requests."""
