"""The commands that the README shows, to be run as they are written there, in a copy of this clone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.postgres import USER, PostgresServer
from tests.support.servers import ServerProcess, environment

FENCE = "```"
NOT_CLONED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "data", "tests")
COMMAND_SECONDS = 600
NO_INDEX = "needs a package index: run it where `pip install httpx` works"


def commands(section: str) -> list[list[str]]:
    """Return the lines of each block of a section of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    assert text, f"the README has no section {section}"
    return [block.splitlines()[1:] for block in text.split(FENCE)[1::2]]


def cloned(path: Path) -> Path:
    """Return a clone of the program, with nothing of what is not in the repository."""
    shutil.copytree(ROOT, path, ignore=NOT_CLONED)
    return path


def user_of(postgres: PostgresServer) -> dict[str, str]:
    """Return the environment of a user of this PostgreSQL, as `psql` reads it."""
    libpq = {"PGHOST": "127.0.0.1", "PGPORT": f"{postgres.port}", "PGUSER": USER, "PGPASSWORD": postgres.password}
    return environment({}) | libpq


def install(command: str, clone: Path, given: Mapping[str, str]) -> None:
    """Run the command that installs the program. Skips the test without a package index."""
    done = subprocess.run(
        command, shell=True, cwd=clone, env=given, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"{NO_INDEX} ({done.stderr.splitlines()[-1]})")


def run(command: str, clone: Path, given: Mapping[str, str]) -> str:
    """Run a command until it exits, which must succeed, and return what it printed."""
    done = subprocess.run(
        command, shell=True, cwd=clone, env=given, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def started(command: str, clone: Path, given: Mapping[str, str], *, port: int = 0) -> ServerProcess:
    """Start a command that goes on."""
    return ServerProcess("-c", f"exec env {command}", port=port, environment=given, root=clone, program="/bin/sh")
