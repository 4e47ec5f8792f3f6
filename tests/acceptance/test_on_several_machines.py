"""The README's way from a clone and a PostgreSQL to the progress of two machines, as it is written there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.support.clips import make_clip
from tests.support.postgres import USER, PostgresServer
from tests.support.readme_commands import cloned, commands, install, run, started, user_of
from tests.support.servers import free_port
from tests.support.worker_programs import READY

pytestmark = pytest.mark.postgresql_only

SHARED, FIRST = "/srv/team", "USER:PASSWORD@FIRST"
VIDEOS = 8


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer.made() as server:
        yield server


def test_five_commands_lead_from_a_clone_to_the_progress_of_two_machines(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """The last video of a job is done when both have worked on it; each says where it ran."""
    clone, given, shared = cloned(tmp_path / "clone"), user_of(postgres), tmp_path / "team"
    first, second = commands("On several machines")
    [installing, creating, serving] = [line.replace(SHARED, str(shared)) for line in first]
    address = f"{USER}:{postgres.password}@127.0.0.1:{postgres.port}"
    [installing_there, working] = [line.replace(SHARED, str(shared)).replace(FIRST, address) for line in second]
    clip = make_clip(shared / "media" / "clip-0.mp4", seconds=2.0)
    for number in range(1, VIDEOS):
        shutil.copy(clip, clip.with_stem(f"clip-{number}"))
    assert installing_there == installing, "the second machine of this test uses the first one's clone"
    install(installing, clone, given)
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
