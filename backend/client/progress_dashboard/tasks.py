"""Racing coroutines, and tasks for the time of a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


async def first_completed(*works: Coroutine[Any, Any, T]) -> T:
    """Run the coroutines side by side, return the result of the first that completes or raise its error.

    Cancels the others and waits until they have ended, also when it is cancelled itself. If several complete at once,
    an error goes before a result, then the order of the arguments counts.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    completed = [task for task in tasks if task in done]
    failed = [task for task in completed if task.cancelled() or task.exception()]
    return (failed or completed)[0].result()


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[asyncio.Task[None]]:
    """Run `work` as a task during the block; behind it the task is cancelled and has ended."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
