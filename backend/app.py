"""Builds the program's parts, starts them in order, and stops them in the reverse one."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from backend.accounts import Accounts
from backend.auth import Keys
from backend.clock import Clock, SystemClock
from backend.demo import DemoClips
from backend.errors import CannotStart, StoreRefused
from backend.executors import Executor
from backend.executors.inprocess import InProcessExecutor
from backend.forecasts import Forecasts
from backend.hub import ProgressHub
from backend.manager import JobManager
from backend.media import MediaDirectory
from backend.processors.child import ChildRunner
from backend.retention import Cleanup, Erasure, Pruning
from backend.settings import Settings
from backend.stalls import Stalls
from backend.store import Database, JobStore, open_database
from backend.work import VideoWork

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """The running parts, for the routes and pages that are put on top of them."""

    settings: Settings
    clock: Clock
    database: Database
    accounts: Accounts
    store: JobStore
    hub: ProgressHub
    manager: JobManager
    work: VideoWork
    media: MediaDirectory
    executor: Executor
    forecasts: Forecasts
    stalls: Stalls
    broken: asyncio.Event

    async def wind_down(self) -> None:
        """Start no more videos and end those that run; the first part of closing, which may go on beside others."""
        self.manager.wind_down()
        await self.executor.shutdown(self.settings.shutdown_grace_seconds)


@asynccontextmanager
async def open_backend(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Backend]:
    """Everything but the web server, running; leaves nothing behind.

    Raises `CannotStart` when the data directory cannot be used or belongs to another server.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        prepare_data_directory(settings)
        stack.enter_context(_only_server(settings.data_dir))
        database = open_database(settings.database_path, backups=settings.data_dir / "backups")
        stack.callback(database.close)
        children = ChildRunner(
            timeout_seconds=settings.video_timeout_seconds,
            memory_mib=settings.video_memory_mib,
            output_mib=settings.video_output_mib,
            clock=clock,
        )
        await children.start()
        stack.push_async_callback(children.stop)
        demo = DemoClips(settings.data_dir / "demo")
        stack.push_async_callback(demo.close)
        backend = _build(settings, clock, database, children, demo)
        try:
            await _start(backend, stack)
        except StoreRefused as error:
            raise CannotStart(error.but("mend that and start again.").sentence) from None
        yield backend


def prepare_data_directory(settings: Settings) -> None:
    """Make the data directory, for nobody else to read, and at the first start the default media directory.

    Raises `CannotStart`. Later a media directory that is gone is trouble, and an empty one in its place would hide it.
    """
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.data_dir.chmod(0o700)  # a checkout brings its data directory along, readable for all
        if settings.media_dir is None and not settings.database_path.exists():
            settings.media.mkdir(mode=0o700, exist_ok=True)
        probe = settings.data_dir / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or "it cannot be written"
        where = settings.data_dir.absolute()
        raise CannotStart(
            f"The data directory {where} cannot be used ({reason}); choose another with --data-dir."
        ) from None


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[asyncio.Task[None]]:
    """`work` as a task while the block runs; cancelled and dead behind it."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _only_server(data_dir: Path) -> FileLock:
    lock = FileLock(data_dir / "server.lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CannotStart(
            f"Another server already uses the data directory {data_dir.absolute()}; stop it or use another --data-dir."
        ) from None
    return lock


def _build(settings: Settings, clock: Clock, database: Database, children: ChildRunner, demo: DemoClips) -> Backend:
    accounts = Accounts(database, Keys.load(settings, clock), settings, clock)
    store = JobStore(database)
    hub = ProgressHub(store, clock)
    executor = InProcessExecutor(
        max_running=settings.max_running_jobs, max_running_per_user=settings.max_running_jobs_per_user
    )
    media = MediaDirectory(settings.media, clock)
    manager = JobManager(
        store=store,
        hub=hub,
        executor=executor,
        media=media,
        demo=demo,
        clock=clock,
        pause_after_failures=settings.pause_after_failures,
    )
    work = VideoWork(
        manager,
        children,
        slots=settings.max_running_videos,
        retries=settings.video_retries,
        pause_after_failures=settings.pause_after_failures,
        outputs=settings.outputs,
        clock=clock,
    )
    return Backend(
        settings=settings,
        clock=clock,
        database=database,
        accounts=accounts,
        store=store,
        hub=hub,
        manager=manager,
        work=work,
        media=media,
        executor=executor,
        forecasts=Forecasts(lambda: hub.reader(None), clock),
        stalls=Stalls(lambda: hub.reader(None), store.seconds_taken, clock),
        broken=asyncio.Event(),
    )


async def _start(backend: Backend, stack: AsyncExitStack) -> None:
    await backend.accounts.ensure_admin()
    await backend.hub.load()
    ticking = asyncio.create_task(_tick(backend), name="tick")
    stack.push_async_callback(_last_tick, backend.hub, ticking)
    await stack.enter_async_context(running(backend.forecasts.run(), "forecasts"))
    await stack.enter_async_context(running(backend.stalls.run(), "stalls"))
    await backend.manager.recover()
    await backend.hub.durable(patient=False)
    cleanup = Cleanup(backend.manager, backend.accounts, backend.settings, backend.clock)
    await stack.enter_async_context(running(cleanup.run(), "cleanup"))
    pruning = Pruning(backend.store, backend.settings, backend.clock)
    await stack.enter_async_context(running(pruning.run(), "pruning"))
    erasure = Erasure(backend.store, backend.settings, backend.clock)
    await stack.enter_async_context(running(erasure.run(), "erasure"))
    await backend.executor.start(backend.work.process_job)
    stack.push_async_callback(backend.wind_down)


async def _tick(backend: Backend) -> None:
    try:
        await backend.hub.run()
    except StoreRefused as error:  # of the last tick; what it held is found as it was at the next start
        log.error("the last tick cannot be stored: %s", error.sentence, extra={"action": "last_tick_refused"})
        backend.broken.set()
    except Exception:
        log.exception("a tick cannot be stored; nothing more is shown", extra={"action": "tick_broken"})
        backend.broken.set()


async def _last_tick(hub: ProgressHub, ticking: asyncio.Task[None]) -> None:
    hub.close()
    await ticking
