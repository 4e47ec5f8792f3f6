"""Following jobs while a page is open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeVar

from nicegui import background_tasks

from backend.clock import Clock
from backend.delivery.batches import View
from backend.domain.auth import User
from backend.domain.job import Job
from backend.errors import DashboardError, JobNotFound, Unavailable
from backend.jobs.queries import JobQueries

log = logging.getLogger(__name__)
T = TypeVar("T")


async def views(
    queries: JobQueries, *, by: User, after: int, clock: Clock, every_seconds: float
) -> AsyncIterator[View]:
    """Yield what changed on this user's dashboard after a position, at most one view in `every_seconds`.

    What happened in between is conflated: each job comes in its newest state. A large view comes in parts at once.
    """
    while True:
        # A reader that outlives the pause would give batch after batch and fall behind.
        reader, more = queries.watch(by=by, after=after), True
        while more:
            view = await reader.next()
            after, more = view.seq, view.more
            yield view
        await clock.sleep(every_seconds)


class JobSubscription:
    """One reader of a job, for all parts of its page.

    `run` follows the job, `changes` serves each part at its own pace.
    """

    def __init__(self, queries: JobQueries, job: Job, clock: Clock) -> None:
        self._queries = queries
        self._clock = clock
        self._newest = job
        self._changed = asyncio.Event()

    async def run(self, *, by: User, every_seconds: float) -> None:
        """Follow the job until it is deleted, reading at most once in `every_seconds`. Raises `JobNotFound` then."""
        job_id = self._newest.id
        read = partial(patiently, clock=self._clock, every_seconds=every_seconds)
        reader = await read(partial(self._queries.watch_job, job_id, by=by))
        while reader:
            state = await reader.next() or await read(partial(self._queries.find, job_id, by=by))
            if state is None:
                return
            self._take(state)
            await self._clock.sleep(every_seconds)

    async def changes(self, every_seconds: float) -> AsyncIterator[Job]:
        """Yield the job's newest state, then each time it has changed, at most once in `every_seconds`."""
        seen: Job | None = None
        while True:
            while self._newest is seen:
                await self._changed.wait()
            seen = self._newest
            yield seen
            await self._clock.sleep(every_seconds)

    def _take(self, job: Job) -> None:
        self._newest = job
        self._changed.set()
        self._changed = asyncio.Event()


async def patiently(reading: Callable[[], Awaitable[T]], *, clock: Clock, every_seconds: float) -> T | None:
    """Await `reading()`, retrying while the store is unavailable. Logs the first failure only.

    Raises `JobNotFound`. Returns None if the user's request is refused, of which the user was notified.
    """
    was_refused = False
    while True:
        try:
            return await reading()
        except JobNotFound:
            raise
        except Unavailable as error:
            if not was_refused:
                log.warning("a page cannot be updated: %s", error.sentence, extra={"action": "page_behind"})
            was_refused = True
        except DashboardError:
            return None
        await clock.sleep(every_seconds)


class OpenPage(Protocol):
    """The part of a `nicegui.Client` that is needed here."""

    @property
    def has_socket_connection(self) -> bool: ...

    def on_connect(self, handler: Callable[[], None]) -> None: ...

    def on_disconnect(self, handler: Callable[[], None]) -> None: ...


def while_connected(
    page: OpenPage,
    work: Callable[[], Coroutine[Any, Any, None]],
    *,
    name: str,
    start: Callable[..., asyncio.Task[None]] = background_tasks.create,
) -> None:
    """Run `work` while a browser is connected to the page: from its beginning each time, until it has ended.

    Nothing is read or sent for a tab that was closed or that has lost the server.
    """
    task: asyncio.Task[None] | None = None

    def resume() -> None:
        nonlocal task
        if task is None or task.cancelling():
            task = start(work(), name=name, context=page)

    def pause() -> None:
        if task is not None and not page.has_socket_connection:  # it may be back before its old socket is closed
            task.cancel()

    page.on_connect(resume)
    page.on_disconnect(pause)
    if page.has_socket_connection:
        resume()
