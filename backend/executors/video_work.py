"""Works through a job: hands its videos to the shared slots, each into its own process, and records what happens."""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from backend.clock import Clock
from backend.domain.job import Job
from backend.domain.video import Video
from backend.errors import Fault, VideoFailed
from backend.executors.slots import Slot, Slots
from backend.jobs.leases import Lease, Leases, TryFailed, VideoFinished, VideoProgressed, VideoStarted
from backend.jobs.outputs import Outputs
from backend.media.directory import MediaSource
from backend.media.sources import MediaSources
from backend.processors import Step, VideoFile
from backend.processors.child import ChildRunner
from backend.processors.settling import FileChanged
from backend.settings import MAX_SLOTS
from progress_dashboard.tasks import first_completed

log = logging.getLogger(__name__)
MAX_STARTED_VIDEOS = 2 * MAX_SLOTS  # of one job: those that run, and those that wait to be tried again
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 2.0, 60.0
JITTER = 0.1
MAX_RETRIES_OF_CHANGING = 60  # about an hour, in which a file that is still being copied becomes complete


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits the tries of a failed video.

    A failure that may pass is tried again up to `retries` times, one of the machine's until the job pauses itself after
    `pause_after_failures` of them, and a file that is still changing for about an hour.
    """

    retries: int
    pause_after_failures: int

    def max_retries(self, fault: Fault, *, is_changing: bool = False) -> int:
        """Return how often a video with this fault is tried again."""
        if is_changing:
            return max(self.retries, MAX_RETRIES_OF_CHANGING)
        if fault is Fault.PERMANENT:
            return 0
        return max(self.retries, self.pause_after_failures) if fault is Fault.MACHINE else self.retries


class VideoWork:
    """What every executor runs: `process_job`. `rng` gives numbers from 0 to 1."""

    def __init__(
        self,
        leases: Leases,
        children: ChildRunner,
        sources: MediaSources,
        outputs: Outputs,
        slots: Slots,
        clock: Clock,
        policy: RetryPolicy,
        *,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._leases = leases
        self._children = children
        self._sources = sources
        self._outputs = outputs
        self._slots = slots
        self._clock = clock
        self._policy = policy
        self._rng = rng

    async def process_job(self, job_id: str) -> None:
        """Work through the job's videos without a result. Stopped or cancelled, it leaves the rest for the next run.

        Each job waits for one slot at a time and slots go round, so that running jobs share them evenly, also when many
        videos of one job have to be tried again.
        """
        lease = await self._leases.claim(job_id)
        if lease is None:
            return
        try:
            await first_completed(self._process_videos(lease), lease.stop.until_killed())
        except Exception:
            log.exception("a job failed", extra={"action": "job_failed", "job_id": job_id})
            self._leases.fail(lease, "The server had a problem with this job; its log has the details.")
        finally:
            await self._leases.release(lease)

    async def _process_videos(self, lease: Lease) -> None:
        async with asyncio.TaskGroup() as running:
            await first_completed(self._start_videos(lease, running), lease.stop.until_draining())
        if not lease.stop.is_draining and self._leases.is_held(lease):
            raise LookupError(f"job {lease.job.id} is not finished, but has no videos left to do")

    async def _start_videos(self, lease: Lease, running: asyncio.TaskGroup) -> None:
        queue, started = asyncio.Lock(), asyncio.Semaphore(MAX_STARTED_VIDEOS)
        async for video in self._leases.pending_videos(lease):
            slot = self._slots.slot(queue)
            await started.acquire()
            await slot.take()
            task = running.create_task(self._process(lease, video, slot), name=f"video {video.video_id}")
            task.add_done_callback(slot.give_back)  # also if the task never began
            task.add_done_callback(lambda _: started.release())

    async def _process(self, lease: Lease, video: Video, slot: Slot) -> None:
        for tries in count(1):
            await first_completed(self._turn(slot), lease.stop.until_draining())
            if lease.stop.is_draining:
                return  # the video is pending, and left for the next run
            finished = await self._try(lease, video)
            fault = finished.fault
            max_retries = self._policy.max_retries(fault, is_changing=finished.is_changing) if fault else 0
            if finished.error is None or fault is None or tries > max_retries:
                self._leases.record(lease, replace(finished, tries=tries))
                return
            seconds = self._delay(tries)
            self._leases.record(lease, TryFailed(video, finished.error, fault, seconds))
            slot.give_back()
            await first_completed(self._clock.sleep(seconds), lease.stop.until_draining())

    async def _turn(self, slot: Slot) -> None:
        """Return when a video may start: work whose results pile up in memory is not begun."""
        await slot.take()
        await self._leases.until_storing()

    async def _try(self, lease: Lease, video: Video) -> VideoFinished:
        self._leases.record(lease, VideoStarted(video))
        started_at, began = self._clock.now(), self._clock.monotonic()

        def finished(**outcome: Any) -> VideoFinished:
            return VideoFinished(video, started_at, round(self._clock.monotonic() - began, 3), **outcome)

        try:
            return finished(result=await self._run(lease, video))
        except VideoFailed as error:
            trace = error.traceback or "".join(traceback.format_exception(error))
            is_changing = isinstance(error, FileChanged)
            return finished(error=error.sentence, traceback=trace, fault=error.fault, is_changing=is_changing)
        except Exception as error:
            extra = {"action": "video_error", "job_id": video.job_id, "video_id": video.video_id}
            log.exception("the work on a video raised an error", extra=extra)
            sentence = f"The server had a problem with this video ({type(error).__name__}); its log has the details."
            return finished(error=sentence, traceback=traceback.format_exc(), fault=Fault.PERMANENT)

    def _delay(self, tries: int) -> float:
        """Return the seconds before the next try: twice as many each time, up to a tenth longer by chance."""
        delay = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** (tries - 1))
        return delay * (1 + JITTER * self._rng())

    async def _run(self, lease: Lease, video: Video) -> dict[str, Any]:
        files = self._sources.of(lease.job.source)
        try:
            return await self._run_in_child(files, lease, video)
        except VideoFailed as error:
            if error.fault is Fault.PERMANENT:
                await files.check()  # a file that is gone with the whole directory is no fault of the video's
            raise

    async def _run_in_child(self, files: MediaSource, lease: Lease, video: Video) -> dict[str, Any]:
        job: Job = lease.job
        path = await files.locate(video.video_id)
        file = VideoFile(path=path, root=files.root, output=self._outputs.directory(job.id, video.position))

        def on_step(step: Step) -> None:
            self._leases.record(lease, VideoProgressed(video, step.fraction, step.doing))

        return await self._children.run(job.processor, file, job.options, on_step=on_step)
