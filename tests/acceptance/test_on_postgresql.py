"""The README's way from a clone and a PostgreSQL to the running program, as it is written there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.support.postgres import PostgresServer
from tests.support.readme_commands import cloned, commands, install, run, started, user_of
from tests.support.servers import free_port, use_link

pytestmark = pytest.mark.postgresql_only


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer.made() as server:
        yield server


def test_three_commands_lead_from_a_clone_to_the_running_program(tmp_path: Path, postgres: PostgresServer) -> None:
    clone, given, port = cloned(tmp_path / "clone"), user_of(postgres), free_port()
    [[installing, creating, starting]] = commands("On PostgreSQL")
    install(installing, clone, given)
    run(creating, clone, given)
    program = started(f"{starting} --no-browser --port {port}", clone, given, port=port)
    try:
        link = program.until_says("Sign in:").split()[-1]
        with httpx.Client(follow_redirects=True) as browser:
            assert "No active jobs" in use_link(browser, link).raise_for_status().text
        with psycopg.connect(f"{postgres.url}/dashboard") as connection:
            assert connection.execute('SELECT name FROM "user"').fetchall() == [("admin",)]
    finally:
        program.end()
    assert not (clone / "data" / "dashboard.sqlite3").exists()
