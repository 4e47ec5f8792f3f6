"""The worker in the server's own process: it takes the name that is free, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from backend.clock import SystemClock
from backend.database_url import DatabaseUrl
from backend.engine.coordination import Coordination
from backend.executors.runs import LocalRuns
from backend.executors.slots import Slots
from backend.jobs.outputs import Outputs
from backend.media.demo import DemoClips
from backend.media.directory import MediaDirectory
from backend.media.sources import MediaSources
from progress_dashboard.tasks import running
from tests.support.databases import FILE, new_database, settings_of
from tests.support.fake_children import Processes
from tests.support.workers import ServerRows, until

pytestmark = pytest.mark.postgresql_only
HOST = socket.gethostname()
SECOND = f"{HOST}-server"
APPLICATION = "of-the-own-worker"


@asynccontextmanager
async def a_server(directory: Path, url: str) -> AsyncIterator[Coordination]:
    """Run the server's side of the work on machines; its own worker reaches the database under this address."""
    settings = settings_of(directory, max_running_videos=2, shutdown_grace_seconds=0)
    database, clock, children = new_database(directory / FILE), SystemClock(), Processes()
    sources = MediaSources(MediaDirectory(directory / "media", clock), DemoClips(settings.outputs / "demo"))
    runner: Any = children

    def make_runs(machine: str) -> LocalRuns:
        return LocalRuns(runner, sources, Outputs(settings.outputs), clock, machine=machine)

    async with AsyncExitStack() as stack:
        stack.callback(database.close)
        coordination = Coordination(
            settings, DatabaseUrl(url), database, Slots(None), clock, children=runner, make_runs=make_runs
        )
        await coordination.leave_marker()
        for name, work in coordination.works().items():
            await stack.enter_async_context(running(work, name))
        yield coordination


def marked(url: str) -> str:
    """Return the address with a mark, by which its connections are known."""
    return f"{url}?application_name={APPLICATION}"


async def until_connections(server: ServerRows, happened: Callable[[int], bool]) -> None:
    """Return once this is true of the number of marked connections."""

    async def number() -> int:
        query = "SELECT count(*) AS number FROM pg_stat_activity WHERE application_name = %s"
        [row] = await server.execute(query, (APPLICATION,))
        return int(row["number"])

    await until(number, happened)


async def take_name(server: ServerRows, name: str) -> None:
    """Let a worker on another machine have this name, as if it had just joined."""
    await server.execute(
        "INSERT INTO worker (name, node, process, slots, may_run, version, revision, processors, seen_at, since) "
        "VALUES (%s, 'elsewhere', 1, 1, 1, '', '', '[]', now(), now())",
        (name,),
    )


async def test_the_own_worker_takes_the_second_name_if_the_first_is_taken(
    url: str, server: ServerRows, tmp_path: Path
) -> None:
    await take_name(server, HOST)
    async with a_server(tmp_path, marked(url)) as coordination:

        async def beat() -> object:
            await server.execute("UPDATE worker SET beats = beats + 1 WHERE name = %s", (HOST,))
            return await server.worker(SECOND)

        await until(beat, lambda row: row is not None)
        await until_connections(server, lambda number: number >= 4)  # three of the worker, and what listens
        await coordination.drain(0)
        assert await server.worker(SECOND) is None, "it did not leave the list"
    await until_connections(server, lambda number: number == 0)


async def test_a_server_that_stops_while_its_worker_joins_does_not_wait_for_it(
    url: str, server: ServerRows, tmp_path: Path
) -> None:
    """Its name is that of a worker that may live, which takes a lease to find out."""
    await take_name(server, HOST)
    async with a_server(tmp_path, marked(url)) as coordination:
        await until_connections(server, lambda number: number == 2)
        async with asyncio.timeout(3):
            await coordination.drain(0)
            await until_connections(server, lambda number: number <= 1)
    await until_connections(server, lambda number: number == 0)
    assert (await server.worker(HOST) or {})["node"] == "elsewhere"


async def test_only_a_name_that_is_taken_is_changed(
    url: str, server: ServerRows, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await server.execute("UPDATE life SET version = '99.0'")
    async with a_server(tmp_path, url):
        await until(lambda: server.execute("SELECT 1"), lambda _: "The server has version 99.0" in caplog.text)
        await server.execute("UPDATE life SET version = NULL")
        workers = await until(lambda: server.execute("SELECT name FROM worker"), bool)
        assert workers == [{"name": HOST}]
