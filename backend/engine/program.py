"""The program of the command `worker`: its parts, from the first to the last."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack

from backend.clock import SystemClock
from backend.database_url import DatabaseUrl
from backend.engine.joining import Identity
from backend.engine.worker import Worker
from backend.executors.runs import LocalRuns
from backend.jobs.outputs import Outputs
from backend.media.demo import DemoClips
from backend.media.directory import MediaDirectory
from backend.media.sources import MediaSources
from backend.processors.child import ChildRunner
from backend.settings import Settings

log = logging.getLogger(__name__)


async def run_worker(settings: Settings, url: DatabaseUrl, identity: Identity, on_ready: Callable[[], None]) -> None:
    """Join and work until SIGTERM or Ctrl-C, and finish the running videos; the second one gives them back at once.

    Where DASHBOARD_SHUTDOWN_GRACE_SECONDS is set, it gives back what does not end by then. Raises `CannotStart` with
    one sentence if this worker does not fit the server.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        children = ChildRunner(
            timeout_seconds=settings.video_timeout_seconds,
            memory_mib=settings.video_memory_mib,
            output_mib=settings.video_output_mib,
            clock=clock,
        )
        stack.push_async_callback(children.stop)
        demo = DemoClips(settings.outputs / "demo")
        stack.push_async_callback(demo.close)
        media = MediaDirectory(settings.media, clock, may_be_empty=False)
        outputs = Outputs(settings.outputs)
        runs = LocalRuns(children, MediaSources(media, demo), outputs, clock, machine=identity.name.worker)
        worker = Worker(
            url,
            identity,
            runs,
            settings.outputs,
            clock,
            lease_seconds=settings.worker_lease_seconds,
            set_alarm=children.set_alarm,
        )
        stack.push_async_callback(worker.close)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, worker.drain)
        if not await worker.join():
            return
        await children.start()
        extra = {"action": "worker_joined", "worker": identity.name.worker, "slots": identity.slots}
        log.info("the worker joined the server", extra=extra)
        on_ready()
        await worker.run(grace_seconds=_grace_seconds(settings))
        log.info("the worker has ended", extra={"action": "worker_ended", "worker": identity.name.worker})


def _grace_seconds(settings: Settings) -> float:
    """Return how long a worker finishes its videos: unlike a server, nobody waits for its return."""
    is_given = "shutdown_grace_seconds" in settings.model_fields_set
    return settings.shutdown_grace_seconds if is_given else math.inf
