"""Following jobs for as long as a page is open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import Any

from nicegui import Client, background_tasks

from backend.auth import User
from backend.clock import Clock
from backend.hub import View
from backend.jobs import Job
from backend.manager import JobManager


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
    """The newest state of one job as it changes, at most one in `every_seconds`; none while it is off the dashboard."""
    async for view in views(manager, by=by, clock=clock, every_seconds=every_seconds):
        for job in view.updates:
            if job.id == job_id:
                yield job
        if job_id in view.removed:  # a view may hold the end as well, which comes before
            yield await manager.find(job_id, by=by)


def while_open(client: Client, work: Coroutine[Any, Any, None], *, name: str) -> None:
    """Do `work` beside the page, until it ends or the page is gone for good."""
    task = background_tasks.create(work, name=name, context=client)
    client.on_delete(task.cancel)
