"""All of Procrastinate: it notifies one worker of a run to claim. The truth about the run is in its own row.

It pins the inside of Procrastinate 3 where that has holes (issue numbers are theirs):

- A statement that fails while PostgreSQL is away would end the worker (#1463, #1116): `PatientConnector` waits, and
  `PatientPool` opens without it.
- Its heartbeats stop while a worker drains (#1585): the worker's own beat writes them (`WorkerSql.REPORT`).
- A notification that comes during a fetch is forgotten: `Wakeup` keeps it.
- Its concurrency is fixed: `GatedJobs` fetches nothing while the worker runs as much as it may.
- An end that is not found any more raises: `GatedJobs` deletes silently; the server's sweep deletes leftovers (#1518).
- Four round trips a statement: connections commit by themselves, and are not asked before each use.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from procrastinate import App, PsycopgConnector, exceptions
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.worker import Worker
from psycopg_pool import AsyncConnectionPool

from backend.database_url import DatabaseUrl
from backend.engine.line import AWAY
from backend.settings import MAX_SLOTS
from backend.store.connecting import CONNECTION
from backend.store.runs import QUEUE_LENGTH, TASK

T = TypeVar("T")
log = logging.getLogger(__name__)
CONNECTIONS = 2  # for statements; one more listens
RETRY_SECONDS = 0.5
POLL_SECONDS = 5.0
ANSWER_SECONDS = 5.0
NEVER_SECONDS = 1e9
DAY_SECONDS = 86_400.0
RunVideo = Callable[[int], Awaitable[None]]
"""Works on the run of this ID, if it can be claimed. Cancelled when the run is not wanted any more."""


class PatientConnector(PsycopgConnector):
    """Waits while PostgreSQL is away."""

    async def execute_query_async(self, query: Any, **arguments: Any) -> None:
        await _patiently(lambda: PsycopgConnector.execute_query_async(self, query, **arguments))

    async def execute_query_one_async(self, query: Any, **arguments: Any) -> dict[str, Any]:
        return await _patiently(lambda: PsycopgConnector.execute_query_one_async(self, query, **arguments))

    async def execute_query_all_async(self, query: Any, **arguments: Any) -> list[dict[str, Any]]:
        return await _patiently(lambda: PsycopgConnector.execute_query_all_async(self, query, **arguments))

    async def listen_notify(self, on_notification: Any, channels: Iterable[str]) -> None:
        await _patiently(lambda: PsycopgConnector.listen_notify(self, on_notification, channels))


class PatientPool(AsyncConnectionPool):
    """Opens without a wait for PostgreSQL: each statement waits. Does not ask a connection before each use."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{**arguments, "check": None})

    async def open(self, wait: bool = False, timeout: float = ANSWER_SECONDS) -> None:
        await super().open()


class Wakeup(asyncio.Event):
    """Stays set if it was set since `begin`, whatever is cleared in between."""

    def __init__(self) -> None:
        super().__init__()
        self._is_new = False

    def begin(self) -> None:
        """Look for runs: what is said from now on counts for the next look."""
        self._is_new = False

    def set(self) -> None:
        self._is_new = True
        super().set()

    def clear(self) -> None:
        if not self._is_new:
            super().clear()


class GatedJobs(JobManager):
    """Fetches a job only while `may_fetch`, and deletes the jobs that have ended."""

    def __init__(self, connector: PatientConnector, may_fetch: Callable[[], bool], wakeup: Wakeup) -> None:
        super().__init__(connector)
        self._may_fetch = may_fetch
        self._wakeup = wakeup

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        self._wakeup.begin()
        return await super().fetch_job(queues, worker_id) if self._may_fetch() else None

    async def finish_job(self, job: Job, status: Any, delete_job: bool) -> None:
        await self.connector.execute_query_async("DELETE FROM procrastinate_jobs WHERE id = %(id)s", id=job.id)


class Delivery:
    """Hands runs of these processors to `run_video`, at most as many at once as `allow` says: none at first."""

    def __init__(self, url: DatabaseUrl, processors: Iterable[str], run_video: RunVideo) -> None:
        for name in ("procrastinate", "psycopg.pool"):
            logging.getLogger(name).setLevel(logging.ERROR)  # an absence is said once, by the worker
        self._queues = sorted({name[:QUEUE_LENGTH] for name in processors})
        self._run_video = run_video
        self._wakeup = Wakeup()
        self._allowed = self._running = 0
        self._is_stopping = False
        self._worker: Worker | None = None
        self._app = App(connector=_connector(url))
        self._app.job_manager = GatedJobs(self._app.connector, self._may_fetch, self._wakeup)  # type: ignore[arg-type]
        self._app.task(name=TASK)(self._run)

    @property
    def engine_id(self) -> int | None:
        """The number of this worker in `procrastinate_workers`, which its beats keep; None before it is registered."""
        return self._worker.worker_id if self._worker else None

    def allow(self, number: int) -> None:
        """Let so many runs be at work at once. Running ones are not stopped."""
        if number != self._allowed:
            self._allowed = number
            self._wakeup.set()

    def stop(self) -> None:
        """Take no further runs; `run` returns when the last one has ended."""
        self._is_stopping = True
        if self._worker is not None:
            self._worker.stop()  # type: ignore[no-untyped-call]

    async def run(self) -> None:
        """Take runs until `stop`, through absences of PostgreSQL."""
        while not self._is_stopping:
            self._worker = self._app._worker(
                queues=self._queues,
                concurrency=MAX_SLOTS,
                fetch_job_polling_interval=POLL_SECONDS,
                abort_job_polling_interval=POLL_SECONDS,
                update_heartbeat_interval=NEVER_SECONDS,
                stalled_worker_timeout=DAY_SECONDS,
                delete_jobs="always",
                install_signal_handlers=False,
            )
            self._worker._new_job_event = self._wakeup
            await self._worker.run()  # type: ignore[no-untyped-call]
            if not self._is_stopping:
                log.warning("the engine ended and is started again", extra={"action": "engine_restarted"})
                await asyncio.sleep(RETRY_SECONDS)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Connect to PostgreSQL for the time of the block."""
        async with self._app.open_async():
            yield

    async def _run(self, run: int) -> None:
        self._running += 1
        try:
            await self._run_video(run)
        finally:
            self._running -= 1
            self._wakeup.set()

    def _may_fetch(self) -> bool:
        return self._running < self._allowed and not self._is_stopping


def _connector(url: DatabaseUrl) -> PatientConnector:
    async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.set_autocommit(True)

    return PatientConnector(
        conninfo=url.secret,
        kwargs=dict(CONNECTION),
        min_size=1,
        max_size=CONNECTIONS,
        timeout=ANSWER_SECONDS,
        reconnect_timeout=DAY_SECONDS,
        configure=configure,
        pool_factory=PatientPool,
    )


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await call()
        except exceptions.ConnectorException as error:
            if not isinstance(error.__cause__, AWAY):
                raise
            await asyncio.sleep(RETRY_SECONDS)
