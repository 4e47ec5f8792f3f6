"""Where the videos of a test's jobs run: in the test's own process, or as runs that a worker claims (PostgreSQL).

The tests of work and control are the same for both. A worker of a test is in its process, too, so that its videos'
processes are still those that the test ends.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backend.clock import SystemClock
from backend.database_url import DatabaseUrl
from backend.executors.runs import LocalRuns, Runs
from backend.executors.slots import Slots
from backend.processors.child import ChildRunner
from backend.settings import MAX_SLOTS
from progress_dashboard.tasks import running
from tests.support.databases import FILE, is_postgresql, new_database, settings_of

if TYPE_CHECKING:
    from backend.engine.coordination import Coordination

OPTION, VARIABLE = "--runs", "TESTS_RUNS"
PLACES = ("local", "remote")
HERE = "here"
JOIN_SECONDS, POLL_SECONDS = 30.0, 0.005
JobsInFlight = Callable[[Iterable[str]], Awaitable[Set[str]]]


@dataclass(frozen=True)
class Place:
    """Where videos run; `drain` lets them end or go on as when the server stops."""

    runs: Runs
    drain: Callable[[], Awaitable[None]]
    jobs_in_flight: JobsInFlight | None = None


def chosen_place() -> str:
    """Return which of `PLACES` the tests use: by default the one that the program uses with its database."""
    return os.environ.get(VARIABLE) or ("remote" if is_postgresql() else "local")


@asynccontextmanager
async def placed(
    directory: Path, slots: Slots, children: ChildRunner, make_runs: Callable[[str], LocalRuns]
) -> AsyncIterator[Place]:
    """Yield where the videos of jobs in the database of this directory run."""
    if chosen_place() == "local":
        yield Place(make_runs(HERE), _nothing)
        return
    async with _remote(directory, slots, children, make_runs) as place:
        yield place


@asynccontextmanager
async def _remote(
    directory: Path, slots: Slots, children: ChildRunner, make_runs: Callable[[str], LocalRuns]
) -> AsyncIterator[Place]:
    from backend.engine.coordination import Coordination  # on SQLite nothing of it is needed

    settings = settings_of(directory, max_running_videos=MAX_SLOTS, shutdown_grace_seconds=0)
    assert isinstance(settings.database, DatabaseUrl), f"{OPTION} remote needs --database postgresql"
    database = new_database(directory / FILE)
    coordination = Coordination(
        settings, settings.database, database, slots, SystemClock(), children=children, make_runs=make_runs
    )
    async with AsyncExitStack() as stack:
        stack.callback(database.close)
        await coordination.leave_marker()
        tasks = [await stack.enter_async_context(running(work, name)) for name, work in coordination.works().items()]
        await _until_joined(coordination, tasks)
        yield Place(coordination.runs, lambda: coordination.drain(0), coordination.jobs_in_flight)


async def _until_joined(coordination: Coordination, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Return when the worker takes videos."""
    end = time.monotonic() + JOIN_SECONDS
    while not any(machine.is_connected for machine in coordination.registry.list()):
        for task in tasks:
            if task.done():
                task.result()
        assert time.monotonic() < end, "the worker did not join"
        await asyncio.sleep(POLL_SECONDS)


async def _nothing() -> None:
    """Do nothing: the executor ends what runs here."""
