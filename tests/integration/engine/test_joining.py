"""How a worker joins, and each reason for which it refuses: one sentence with what to do."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backend.clock import SystemClock
from backend.engine.joining import Identity, join
from backend.engine.reporter import Name
from backend.errors import CannotStart
from backend.store.revisions import newest_revision
from backend.store.worker_role import role_script
from backend.store.workers import WorkerSql
from progress_dashboard.version import VERSION
from tests.support.workers import RunningWorker, ServerRows, a_worker, identity

pytestmark = pytest.mark.postgresql_only
SECRETS = ('"user"', "session", "token", "login_link", "job", "video", "result", "idempotency_key")
SHORT_LEASE_SECONDS = 1.0


async def refusal(worker: RunningWorker) -> str:
    """Return the sentence with which the worker refuses to join."""
    with pytest.raises(CannotStart) as raised:
        await worker.worker.join()
    sentence = raised.value.sentence
    assert "\n" not in sentence
    return sentence


def a_dead_process() -> int:
    """Return the number of a process that has exited."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


async def test_a_worker_says_who_it_is(attic: RunningWorker, server: ServerRows) -> None:
    row = await server.worker("attic")
    assert row is not None
    assert (row["node"], row["process"], row["slots"]) == (socket.gethostname(), os.getpid(), 2)
    assert (row["version"], row["revision"], row["processors"]) == (VERSION, newest_revision(), ["probe"])


def test_a_worker_is_named_after_its_host_and_has_all_processors() -> None:
    own = Identity.of_process(slots=3)
    assert (own.name, own.slots) == (Name(socket.gethostname(), socket.gethostname(), os.getpid()), 3)
    assert "probe" in own.processors


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 65])
def test_a_name_must_be_readable(name: str) -> None:
    with pytest.raises(CannotStart, match="1 to 64 characters"):
        Identity.of_process(slots=1, name=name)


@pytest.mark.parametrize("slots", [0, 1025])
def test_slots_have_limits(slots: int) -> None:
    with pytest.raises(CannotStart, match="from 1 to 1,024"):
        Identity.of_process(slots=slots)


async def test_another_version_is_refused(url: str, server: ServerRows, tmp_path: Path) -> None:
    await server.execute("UPDATE life SET version = '99.0'")
    async with a_worker(url, tmp_path) as worker:
        said = await refusal(worker)
        assert said.startswith(f"The server has version 99.0, this worker has version {VERSION} ")
        assert said.endswith("install the same version on both.")
        assert await server.worker("attic") is None


async def test_another_schema_is_refused(url: str, server: ServerRows, tmp_path: Path) -> None:
    await server.execute("UPDATE alembic_version SET version_num = '9999'")
    async with a_worker(url, tmp_path) as worker:
        assert (await refusal(worker)).startswith("The server has the schema 9999, this worker has version ")


async def test_a_database_without_a_server_is_refused(url: str, server: ServerRows, tmp_path: Path) -> None:
    async with a_worker(url, tmp_path) as worker:
        await server.execute("ALTER TABLE life RENAME TO death")
        assert "start the server on it first" in await refusal(worker)


async def test_other_outputs_are_refused(url: str, tmp_path: Path) -> None:
    async with a_worker(url, tmp_path) as worker:
        for marker in worker.outputs.glob(".database-*"):
            marker.rename(marker.with_name(".database-of-another-server"))
        said = await refusal(worker)
        assert said.startswith(f'This worker does not see the server\'s outputs in "{worker.outputs}"')
        assert "DASHBOARD_OUTPUT_DIR" in said


async def test_a_name_that_lives_is_refused(url: str, attic: RunningWorker, tmp_path: Path) -> None:
    """A process that works under it is told by its beats."""
    other = Identity(Name("attic", "elsewhere", os.getpid()), 2, ("probe",))
    async with a_worker(url, tmp_path, who=other) as worker:
        said = await refusal(worker)
        assert said.startswith(f'A worker of the name "attic" works already (process {os.getpid()} on ')
        assert said.endswith("worker --name NAME`.")


async def test_a_worker_that_is_started_again_gives_back_its_old_runs(
    url: str, server: ServerRows, tmp_path: Path
) -> None:
    """The old one was killed on this machine, and its processes with it."""
    run = await server.hand_over("clip")
    async with a_worker(url, tmp_path, who=identity()) as old:
        assert await old.worker.join()
        await server.execute("UPDATE run SET state = 'running', taken = 1, worker = 'attic'")
        await server.execute("UPDATE worker SET process = %s", (a_dead_process(),))
        async with a_worker(url, tmp_path) as new:
            assert await new.worker.join()
            row = await server.run(run)
            assert (row["state"], row["worker"], row["losses"]) == ("waiting", None, 1)


async def test_the_name_of_a_silent_worker_is_free_after_its_lease(
    url: str, server: ServerRows, tmp_path: Path
) -> None:
    """It may only be frozen: its processes have ended by their alarm then."""
    run = await server.hand_over("clip")
    old = Identity(Name("attic", "elsewhere", 1), 2, ("probe",))
    async with a_worker(url, tmp_path, who=old) as silent:
        assert await silent.worker.join()
        await server.execute("UPDATE run SET state = 'running', taken = 1, worker = 'attic'")
        async with a_worker(url, tmp_path, lease_seconds=SHORT_LEASE_SECONDS) as new:
            began = asyncio.get_running_loop().time()
            assert await new.worker.join()
            assert asyncio.get_running_loop().time() - began > SHORT_LEASE_SECONDS + 4
            assert (await server.run(run))["state"] == "waiting"


async def test_a_worker_that_waits_for_its_name_can_be_ended(url: str, server: ServerRows, tmp_path: Path) -> None:
    old = Identity(Name("attic", "elsewhere", 1), 2, ("probe",))
    async with a_worker(url, tmp_path, who=old) as silent:
        assert await silent.worker.join()
        async with a_worker(url, tmp_path) as new:
            joining = asyncio.create_task(new.worker.join())
            await asyncio.sleep(0)
            new.worker.drain()
            assert await joining is False
            assert (await server.worker("attic") or {})["node"] == "elsewhere"


class FullServer:
    """Answers like a PostgreSQL server with so many connections left."""

    def __init__(self, room: int) -> None:
        self._room = room

    async def rows(self, statement: str, values: object = None) -> list[tuple[object, ...]]:
        answers: dict[str, list[tuple[object, ...]]] = {
            WorkerSql.ROOM: [(self._room,)],
            WorkerSql.SCHEMA: [(newest_revision(), "an-id", VERSION)],
        }
        return answers.get(statement, [])


async def test_a_worker_needs_four_connections(tmp_path: Path) -> None:
    line: Any = FullServer(2)
    with pytest.raises(CannotStart) as raised:
        await join(line, identity(), tmp_path, SystemClock(), lease_seconds=SHORT_LEASE_SECONDS)
    assert raised.value.sentence == (
        "PostgreSQL has 2 connections left, a worker needs 4; raise its max_connections, or stop another worker."
    )


async def test_postgresql_without_connections_is_said(
    url: str, as_role: str, server: ServerRows, tmp_path: Path
) -> None:
    await server.execute(f"ALTER ROLE {as_role.split('//')[1].split(':')[0]} CONNECTION LIMIT 0")
    async with a_worker(url, tmp_path, through=as_role) as worker:
        said = await refusal(worker)
        assert "has no connections left" in said
        assert "of-a-worker" not in said


async def test_an_unreachable_database_is_said_without_its_password(tmp_path: Path, url: str) -> None:
    away = "postgresql://ana:n0b0dy-may-see@127.0.0.1:1/dash"
    async with a_worker(url, tmp_path, through=away) as worker:
        said = await refusal(worker)
        assert said.startswith("The database postgresql://ana@127.0.0.1:1/dash cannot be opened (")
        assert "n0b0dy" not in said


@pytest.fixture
async def as_role(url: str, server: ServerRows) -> str:
    """Return the address of the database for the role of workers that `--print-role` makes, run twice."""
    name = "worker_" + re.sub(r"\W", "", url.rpartition("/")[2])
    for _ in range(2):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(role_script(name).encode())
    await server.execute(f"ALTER ROLE {name} PASSWORD 'of-a-worker'")
    return re.sub(r"//[^@]*@", f"//{name}:of-a-worker@", url)


async def test_a_worker_works_with_the_rights_of_its_role(
    url: str, as_role: str, server: ServerRows, tmp_path: Path
) -> None:
    async with a_worker(url, tmp_path, through=as_role) as attic:
        await attic.start()
        for number, end in enumerate((None, "stop")):
            attic.add_file(f"clip-{number}")
            run = await server.hand_over(f"clip-{number}")
            await attic.processes.until_started(number + 1)
            if end:
                await server.withdraw(run)
            else:
                attic.processes.end(f"clip-{number}")
            await server.until_state(run, "stopped" if end else "ended")
        await server.until_no_engine_jobs()
        attic.worker.drain()
        await attic.ended()
        assert await server.worker("attic") is None


async def test_a_user_without_any_rights_is_refused(url: str, as_role: str, server: ServerRows, tmp_path: Path) -> None:
    name = as_role.split("//")[1].split(":")[0]
    await server.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {name}")
    async with a_worker(url, tmp_path, through=as_role) as worker:
        assert (await refusal(worker)).startswith("The database user of this worker lacks rights (permission denied ")


@pytest.mark.parametrize("table", SECRETS)
async def test_the_role_of_workers_reads_nothing_of_users_and_jobs(as_role: str, table: str) -> None:
    with psycopg.connect(as_role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"SELECT * FROM {table}".encode())


async def test_lack_of_rights_is_one_sentence(url: str, as_role: str, server: ServerRows, tmp_path: Path) -> None:
    await server.execute(f"REVOKE UPDATE ON run FROM {as_role.split('//')[1].split(':')[0]}")
    async with a_worker(url, tmp_path, through=as_role) as worker:
        said = await refusal(worker)
        assert said.startswith("The database user of this worker lacks rights (update on run); ")
        assert "worker --print-role" in said
