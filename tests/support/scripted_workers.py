"""Workers that do what the test says, row by row, and the server's side of the runs that they work on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psycopg

from backend.clock import SystemClock
from backend.domain.job import Job
from backend.domain.video import Video
from backend.engine.registry import WorkerRegistry
from backend.engine.remote_runs import RemoteRuns
from backend.engine.sweep import Sweep
from backend.executors.runs import RunOutcome
from backend.executors.slots import Slots
from backend.processors import Step
from backend.store.database import Database
from backend.store.listening import notifications
from backend.store.postgres import PostgresDatabase
from backend.store.runs import RunStore
from backend.store.workers import ReportedRun, WorkerSql, WorkerStore, sent_json
from progress_dashboard.tasks import running
from tests.support.clock import NOON, VirtualClock

TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.005
LEASE_SECONDS = 60.0
LOST_AFTER = 66  # looks, a second each


@dataclass
class ScriptedWorker:
    """A worker that claims, reports and beats when the test says so."""

    name: str
    line: psycopg.AsyncConnection[Any]
    taken: dict[int, int] = field(default_factory=dict)

    async def execute(self, statement: str, **values: Any) -> list[Any]:
        """Execute one statement of the worker's own connection."""
        named = {"worker": self.name, "node": f"node of {self.name}", "process": 1, "engine": None, **values}
        cursor = await self.line.execute(statement.encode(), named)
        return await cursor.fetchall() if cursor.description else []

    async def join(self, *, slots: int = 2, processors: tuple[str, ...] = ("probe",)) -> None:
        await self.execute(WorkerSql.JOIN, slots=slots, version="1", revision="0008", processors=json.dumps(processors))

    async def claim(self, run_id: int) -> bool:
        """Claim the run; False if it cannot be claimed."""
        rows = await self.execute(WorkerSql.CLAIM, run=run_id, again=False)
        if rows:
            self.taken[run_id] = rows[0][0]
        await self.execute(WorkerSql.NOTIFY)
        return bool(rows)

    async def report(self, *reports: ReportedRun) -> tuple[int, dict[str, bool]]:
        """Beat, with these reports; returns what the worker may run, and which of its runs are wanted."""
        [(may_run, _, held)] = await self.execute(WorkerSql.REPORT, runs=sent_json(reports), running=len(self.taken))
        await self.execute(WorkerSql.NOTIFY)
        return may_run, held or {}

    async def step(self, run_id: int, fraction: float, doing: str = "decoding") -> None:
        await self.report(ReportedRun(run_id, self.taken[run_id], fraction=fraction, doing=doing))

    async def release(self, run_id: int, state: str) -> None:
        """Stop the run or give it back: `stopped` or `waiting`."""
        await self.report(ReportedRun(run_id, self.taken.pop(run_id), state=state))

    async def end(self, run_id: int, **outcome: Any) -> None:
        """End the run with this outcome; without one it is good."""
        how: Any = {"seconds": 1.5, **(outcome or {"result": {"frames": 25}})}
        raw = msgspec.Raw(sent_json(how).encode())
        await self.report(ReportedRun(run_id, self.taken.pop(run_id), state="ended", outcome=raw))

    async def is_gone(self, run_id: int) -> bool:
        """Return True if the run belongs to another worker by now."""
        _, held = await self.report(ReportedRun(run_id, self.taken[run_id]))
        return str(run_id) not in held

    async def is_wanted(self, run_id: int) -> bool:
        """Return True if the server still wants the run that this worker holds."""
        _, held = await self.report(ReportedRun(run_id, self.taken[run_id]))
        return held[str(run_id)]


@dataclass
class Asked:
    """A run that the test's server asked for, and what it heard of it."""

    task: asyncio.Task[RunOutcome | None]
    draining: asyncio.Event
    machines: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    returns: list[None] = field(default_factory=list)

    async def outcome(self) -> RunOutcome | None:
        """Return how the run ended."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self.task

    async def until(self, happened: Callable[[], bool]) -> None:
        """Return once this is true of what was heard."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not happened():  # noqa: ASYNC110  the server calls back, without an event
                await asyncio.sleep(POLL_SECONDS)

    async def cancelled(self) -> None:
        """Return when the cancelled run is over."""
        await asyncio.wait({self.task}, timeout=TIMEOUT_SECONDS)
        assert self.task.cancelled(), "the run goes on"


@dataclass
class Coordinated:
    """The server's side over a PostgreSQL database. It looks at its workers only when the test says so (`look`)."""

    database: PostgresDatabase
    runs: RemoteRuns
    sweep: Sweep
    registry: WorkerRegistry
    slots: Slots
    clock: VirtualClock
    stack: AsyncExitStack

    async def worker(self, name: str, *, slots: int = 2, processors: tuple[str, ...] = ("probe",)) -> ScriptedWorker:
        """Return a worker that has joined."""
        line = await psycopg.AsyncConnection.connect(self.database.url.secret, autocommit=True)
        self.stack.push_async_callback(line.close)
        worker = ScriptedWorker(name, line)
        await worker.join(slots=slots, processors=processors)
        await self.look()
        return worker

    async def look(self, times: int = 1, *, beating: tuple[ScriptedWorker, ...] = ()) -> None:
        """Look at the workers so many times, a second each; these workers beat before each look."""
        for _ in range(times):
            for worker in beating:
                await worker.report(*(ReportedRun(run_id, taken) for run_id, taken in worker.taken.items()))
            await self.clock.advance(1)
            await self.sweep.run_once()

    def ask(self, job: Job, position: int = 0, *, try_number: int = 1) -> Asked:
        """Ask for a run of this video."""
        draining, machines, steps, returns = asyncio.Event(), list[str](), list[Step](), list[None]()
        video = Video(job_id=job.id, position=position, video_id=f"video-{position}")

        async def until_draining() -> None:
            await draining.wait()

        run = self.runs.run(
            job,
            video,
            try_number=try_number,
            on_start=machines.append,
            on_return=lambda: returns.append(None),
            on_step=steps.append,
            until_draining=until_draining,
        )
        return Asked(asyncio.create_task(run), draining, machines, steps, returns)

    async def rows(self, query: str) -> list[Any]:
        """Return the rows of a query."""
        return list(await self.database.read(lambda connection: connection.exec_driver_sql(query).all()))

    async def execute(self, statement: str) -> None:
        """Change something behind the server's back."""
        await self.database.write(lambda connection: connection.exec_driver_sql(statement))

    async def waiting_run(self) -> int:
        """Return the run that waits, once one does and the engine knows of it."""
        query = "SELECT run.id FROM run JOIN procrastinate_jobs AS job ON args->>'run' = run.id::text " + (
            "WHERE state = 'waiting' AND wanted AND job.status = 'todo'"
        )
        [(run_id,)] = await self.until(query, lambda rows: len(rows) == 1)
        return int(run_id)

    async def until(self, query: str, happened: Callable[[list[Any]], bool]) -> list[Any]:
        """Return the rows of a query once this is true of them."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not happened(rows := await self.rows(query)):  # noqa: ASYNC110  a row of a table has no event
                await asyncio.sleep(POLL_SECONDS)
        return rows

    async def nothing_is_left(self) -> None:
        """Return when neither runs nor jobs of the engine are left."""
        await self.until("SELECT id FROM run UNION ALL SELECT id FROM procrastinate_jobs", lambda rows: not rows)


@asynccontextmanager
async def open_coordinated(database: Database, *, store: RunStore | None = None) -> AsyncIterator[Coordinated]:
    """Yield the server's side of the runs of this database; several may follow one another."""
    assert isinstance(database, PostgresDatabase)
    store, slots, clock = store or RunStore(database), Slots(None), VirtualClock()
    registry = WorkerRegistry(WorkerStore(database), slots, lease_seconds=LEASE_SECONDS)
    runs = RemoteRuns(store, registry, SystemClock())

    async def listen() -> None:
        async with aclosing(notifications(database.url, "runs")) as channels:
            async for _ in channels:
                runs.look()

    async with AsyncExitStack() as stack:
        for work in (runs.give_orders(), runs.look_at_news(), listen()):
            await stack.enter_async_context(running(work, "a part of the server"))
        coordinated = Coordinated(database, runs, Sweep(store, registry, runs, clock), registry, slots, clock, stack)
        await coordinated.look()
        try:
            yield coordinated
        finally:
            await runs.leave(0, own=None)


def job_of(job_id: str = "a-job", *, processor: str = "probe", attempt: int = 1) -> Job:
    """Return a job whose runs are asked for; it need not be stored."""
    return Job(
        id=job_id,
        owner_id="ana",
        owner="ana",
        name="list.csv",
        processor=processor,
        attempt=attempt,
        created_at=NOON,
        updated_at=NOON,
        total_videos=10,
    )
