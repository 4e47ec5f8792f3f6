"""What the commands load: each library that one does not use makes it slower to start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.servers import add_user, environment, run_command

SHOW_MODULES = """
import atexit, sys
packages = lambda: {name.partition(".")[0] for name, module in sys.modules.items() if module}
atexit.register(lambda: print("loaded", *packages(), file=sys.stderr))
sys.argv[0] = "main.py"
from ui.cli import main
main()
"""
SERVER = {"alembic", "argon2", "av", "fastapi", "nicegui", "sqlalchemy", "sqlmodel", "starlette", "uvicorn"}
HELP = {"rich", "markdown_it", "pygments"}
CLIENT = {"httpx", "websockets"}
NEVER = SERVER | {"click", "dotenv", "pydantic_settings"}


def loaded(data_dir: Path, *arguments: str, **settings: str) -> set[str]:
    """Return the packages that are loaded when the command ends."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "backend" / "client")))
    variables: Mapping[str, str] = environment(settings) | {"PYTHONPATH": path}
    run = subprocess.run(
        [sys.executable, "-c", SHOW_MODULES, *arguments, "--data-dir", str(data_dir)],
        env=variables,
        cwd=data_dir,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    words = run.stderr.splitlines()[-1].split()
    assert words[0] == "loaded", run.stderr
    return set(words)


LOAD_PAGES = """
import sys
from ui.cli.loading import without
with without("aiohttp"):
    import nicegui
assert "aiohttp" not in sys.modules
import aiohttp
print(aiohttp.__name__)
"""


def test_the_server_does_without_the_client_of_socket_io_but_a_processor_may_use_its_libraries() -> None:
    command = [sys.executable, "-c", LOAD_PAGES]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "aiohttp\n"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory that was used before."""
    directory = tmp_path_factory.mktemp("used")
    add_user(directory, "ana")
    assert run_command("users", "list", data_dir=directory).returncode == 0
    return directory


@pytest.mark.sqlite_only  # PostgreSQL's way takes the store
@pytest.mark.parametrize("arguments", ["users list", "token ana", "login-link ana"])
def test_a_command_on_the_accounts_loads_no_server_and_no_client(data_dir: Path, arguments: str) -> None:
    modules = loaded(data_dir, *arguments.split())
    assert "sqlite3" in modules
    assert modules & (NEVER | CLIENT | HELP) == set()


@pytest.mark.parametrize("arguments", ["pause 8f3a21c9", "retry 8f3a21c9", "export", "submit list.csv"])
def test_a_command_for_a_server_loads_little_more_than_its_client(data_dir: Path, arguments: str) -> None:
    (data_dir / "list.csv").write_text("id\nclip\n")
    modules = loaded(data_dir, *arguments.split(), url="http://127.0.0.1:9")
    assert "httpx" in modules
    assert modules & (NEVER | HELP | {"websockets"}) == set()


def test_help_loads_neither_server_nor_client(data_dir: Path) -> None:
    modules = loaded(data_dir, "token", "--help")
    assert "rich" in modules
    assert modules & (NEVER | CLIENT | {"jwt"}) == set()
