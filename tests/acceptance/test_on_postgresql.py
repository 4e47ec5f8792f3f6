"""The README's ways from a clone and a PostgreSQL to the running program, and to several machines, as written there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.support.clips import make_clip
from tests.support.postgres import USER, PostgresServer
from tests.support.readme_commands import cloned, commands, install, run, started, user_of
from tests.support.servers import environment, free_port, use_link
from tests.support.worker_programs import READY

pytestmark = pytest.mark.postgresql_only

SHARED, FIRST = "/srv/team", "USER:PASSWORD@FIRST"
VIDEOS = 8


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer.made() as server:
        yield server


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone in which the first command of both sections has been run, which takes minutes."""
    [[installing, _, _]] = commands("On PostgreSQL")
    assert [block[0] for block in commands("On several machines")] == [installing, installing]
    made = cloned(tmp_path_factory.mktemp("readme") / "clone")
    install(installing, made, environment({}))
    return made


def test_three_commands_lead_from_a_clone_to_the_running_program(clone: Path, postgres: PostgresServer) -> None:
    given, port = user_of(postgres), free_port()
    [[_, creating, starting]] = commands("On PostgreSQL")
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


def test_five_commands_lead_from_a_clone_to_the_progress_of_two_machines(
    clone: Path, postgres: PostgresServer, tmp_path: Path
) -> None:
    """A job's videos run on both; the second machine of this test is in the first one's clone."""
    given, shared = user_of(postgres), tmp_path / "team"
    first, second = commands("On several machines")
    [_, creating, serving] = [line.replace(SHARED, str(shared)) for line in first]
    address = f"{USER}:{postgres.password}@127.0.0.1:{postgres.port}"
    [_, working] = [line.replace(SHARED, str(shared)).replace(FIRST, address) for line in second]
    clip = make_clip(shared / "media" / "clip-0.mp4", seconds=2.0)
    for number in range(1, VIDEOS):
        shutil.copy(clip, clip.with_stem(f"clip-{number}"))
    run(creating, clone, given)
    with ExitStack() as stack:
        server = started(f"{serving} --no-browser --port {free_port()}", clone, given)
        stack.callback(server.end)
        server.until_says("Sign in:")
        worker = started(working, clone, given)
        stack.callback(worker.end)
        worker.until_says(READY)
        ran_on = machines_of_a_job(postgres, clone, given, serving)
        assert postgres.password not in worker.output + server.output
    assert len(ran_on) == 2
    assert "second" in ran_on


def machines_of_a_job(postgres: PostgresServer, clone: Path, given: Mapping[str, str], command: str) -> set[str]:
    """Run a job over all clips with the program's commands, and return the names of the machines of its videos."""
    (clone / "list.csv").write_text("\n".join(["video_id", *(f"clip-{number}" for number in range(VIDEOS))]))
    job_id = run(f"{command} submit list.csv --options '{{\"max_speed\": 1}}'", clone, given).split()[-1]
    run(f"{command} watch {job_id}", clone, given)
    with psycopg.connect(f"{postgres.url}/dashboard") as connection:
        return {str(row[0]) for row in connection.execute("SELECT machine FROM result").fetchall()}
