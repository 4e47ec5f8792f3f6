"""Following jobs for as long as somebody has the page open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeVar

from nicegui import background_tasks

from backend.auth import User
from backend.clock import Clock
from backend.errors import DashboardError, JobNotFound, Unavailable
from backend.hub import View
from backend.jobs import Job
from backend.manager import JobManager

log = logging.getLogger(__name__)
T = TypeVar("T")


async def views(manager: JobManager, *, by: User, clock: Clock, every_seconds: float) -> AsyncIterator[View]:
    """The jobs on this user's dashboard, then what changed since the last view, at most one view in `every_seconds`.

    What happened in between is conflated: each job comes in its newest state. A large view comes in parts at once.
    """
    seq = None
    while True:
        # A reader kept over the pause would hand out batch after batch and fall behind.
        reader, more = manager.watch(by=by, after=seq), True
        while more:
            view = await reader.next()
            seq, more = view.seq, view.more
            yield view
        await clock.sleep(every_seconds)


async def states(
    manager: JobManager, job_id: str, *, by: User, clock: Clock, every_seconds: float
) -> AsyncIterator[Job]:
    """The newest state of one job, then as it changes, at most one in `every_seconds`; raises `JobNotFound` at its end.

    While the job is off the dashboard nothing changes.
    """
    is_missing = False
    async for view in views(manager, by=by, clock=clock, every_seconds=every_seconds):
        found = [job for job in view.updates if job.id == job_id]
        for job in found:
            yield job
        is_missing = (view.snapshot or is_missing) and not found
        has_left = job_id in view.removed  # a view may hold the end as well, which comes before
        if has_left or (is_missing and not view.more):
            find = partial(manager.find, job_id, by=by)
            if stored := await patiently(find, clock=clock, every_seconds=every_seconds):
                yield stored


async def patiently(reading: Callable[[], Awaitable[T]], *, clock: Clock, every_seconds: float) -> T | None:
    """What `reading` gives; while the data cannot be had, it is asked again and again, and only the log is told, once.

    Raises `JobNotFound`; None when it is refused for what was asked for, of which the user has heard.
    """
    was_refused = False
    while True:
        try:
            return await reading()
        except JobNotFound:
            raise
        except Unavailable as error:
            if not was_refused:
                log.warning("a page stays behind: %s", error.sentence, extra={"action": "page_stays_behind"})
            was_refused = True
        except DashboardError:
            return None
        await clock.sleep(every_seconds)


class OpenPage(Protocol):
    """What is asked of a `nicegui.Client`."""

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
    """Do `work` beside the page while a browser is connected to it: from its beginning each time, until it has ended.

    For a tab that was closed, or that has lost the server, nothing is read and nothing told.
    """
    task: asyncio.Task[None] | None = None

    def go_on() -> None:
        nonlocal task
        if task is None or task.cancelling():
            task = start(work(), name=name, context=page)

    def pause() -> None:
        if task is not None and not page.has_socket_connection:  # it may be back before its old socket is given up
            task.cancel()

    page.on_connect(go_on)
    page.on_disconnect(pause)
    if page.has_socket_connection:
        go_on()
