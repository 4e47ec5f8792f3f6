"""The README's way from a clone and a PostgreSQL to the running program, as it is written there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from tests import ROOT
from tests.support.postgres import USER, PostgresServer, create_database
from tests.support.servers import ServerProcess, environment, free_port, use_link

pytestmark = pytest.mark.postgresql_only

SECTION, FENCE = "## On PostgreSQL", "```"
NOT_CLONED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "tests")
INSTALL_SECONDS = 600
NO_INDEX = "needs a package index: run it where `pip install httpx` works"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer.made() as server:
        yield server


def commands() -> list[str]:
    """Return the lines of the first block of the README's section."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition(SECTION)[2]
    return section.split(FENCE)[1].splitlines()[1:]


def variables(postgres: PostgresServer) -> dict[str, str]:
    """Return the environment of a user of this PostgreSQL, as `psql` reads it."""
    libpq = {"PGHOST": "127.0.0.1", "PGPORT": f"{postgres.port}", "PGUSER": USER, "PGPASSWORD": postgres.password}
    return environment({}) | libpq


def test_three_commands_lead_from_a_clone_to_the_running_program(tmp_path: Path, postgres: PostgresServer) -> None:
    clone, given, port = tmp_path / "clone", variables(postgres), free_port()
    shutil.copytree(ROOT, clone, ignore=NOT_CLONED)
    install, create, start = commands()
    done = subprocess.run(
        install, shell=True, cwd=clone, env=given, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"{NO_INDEX} ({done.stderr.splitlines()[-1]})")
    subprocess.run(create, shell=True, cwd=clone, env=given, check=True, timeout=INSTALL_SECONDS)
    program = ServerProcess(
        "-c",
        f"exec env {start} --no-browser --port {port}",
        port=port,
        environment=given,
        root=clone,
        program="/bin/sh",
    )
    try:
        link = program.until_says("Sign in:").split()[-1]
        with httpx.Client(follow_redirects=True) as browser:
            assert "No active jobs" in use_link(browser, link).raise_for_status().text
        with psycopg.connect(f"{postgres.url}/dashboard") as connection:
            assert connection.execute('SELECT name FROM "user"').fetchall() == [("admin",)]
    finally:
        program.end()
    assert not (clone / "data" / "dashboard.sqlite3").exists()


def test_a_password_in_pgpass_is_enough(tmp_path: Path, postgres: PostgresServer) -> None:
    create_database(postgres.url, "kept")
    passwords = tmp_path / ".pgpass"
    passwords.write_text(f"127.0.0.1:{postgres.port}:kept:{USER}:{postgres.password}\n", encoding="utf-8")
    passwords.chmod(0o600)
    given = environment({"database_url": f"postgresql://{USER}@127.0.0.1:{postgres.port}/kept", "data_dir": tmp_path})
    port = free_port()
    program = ServerProcess(
        "main.py", "--no-browser", "--port", str(port), port=port, environment=given | {"HOME": str(tmp_path)}
    )
    try:
        link = program.until_says("Sign in:").split()[-1]
        with httpx.Client(follow_redirects=True) as browser:
            assert "No active jobs" in use_link(browser, link).raise_for_status().text
    finally:
        program.end()
