"""Works through a job: hands its videos to the shared slots, each into its own process, and reports to the manager."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from backend.clock import Clock
from backend.errors import VideoFailed
from backend.jobs import Job, Video
from backend.manager import Ended, JobManager, Moved, Report, Started
from backend.processors import Step, VideoFile
from backend.processors.child import ChildRunner

log = logging.getLogger(__name__)


class VideoWork:
    """What every executor runs: `process_job`. Posters and the like go to `outputs/<job>/<position>/`."""

    def __init__(self, manager: JobManager, children: ChildRunner, *, slots: int, outputs: Path, clock: Clock) -> None:
        self._manager = manager
        self._children = children
        self._slots = anyio.CapacityLimiter(slots)
        self._outputs = outputs
        self._clock = clock

    async def process_job(self, job_id: str) -> None:
        """Work through the job's videos without a result; cancelled, it leaves the rest in line for the next run.

        Each job waits for one slot at a time and slots go in turn, so that running jobs share them evenly.
        """
        job = await self._manager.claim(job_id)
        if job is None:
            return
        try:
            await self._process_videos(job)
        except Exception:
            log.exception("a job broke", extra={"action": "job_broke", "job_id": job.id})
            sentence = "The server had a problem with this job; its log has the details."
            await self._manager.break_off(job.id, job.epoch, sentence)
        finally:
            await self._manager.release(job.id, job.epoch)

    async def _process_videos(self, job: Job) -> None:
        async with asyncio.TaskGroup() as running:
            async for video in self._manager.todo(job):
                slot = object()
                await self._slots.acquire_on_behalf_of(slot)
                task = running.create_task(self._process(job, video), name=f"video {video.video_id}")
                task.add_done_callback(self._giver_back(slot))

    def _giver_back(self, slot: object) -> Callable[[asyncio.Task[None]], None]:
        return lambda _: self._slots.release_on_behalf_of(slot)

    async def _process(self, job: Job, video: Video) -> None:
        self._report(job, Started(video))
        started_at, began = self._clock.now(), self._clock.monotonic()

        def ended(**outcome: Any) -> Ended:
            return Ended(video, started_at, round(self._clock.monotonic() - began, 3), **outcome)

        try:
            result = await self._run(job, video)
        except VideoFailed as error:
            trace = error.traceback or "".join(traceback.format_exception(error))
            self._report(job, ended(error=error.sentence, traceback=trace))
        except Exception as error:
            log.exception(
                "a video broke", extra={"action": "video_broke", "job_id": job.id, "video_id": video.video_id}
            )
            sentence = f"The server had a problem with this video ({type(error).__name__}); its log has the details."
            self._report(job, ended(error=sentence, traceback=traceback.format_exc()))
        else:
            self._report(job, ended(result=result))

    async def _run(self, job: Job, video: Video) -> dict[str, Any]:
        files = self._manager.files(job.source)
        path = await files.locate(video.video_id)
        file = VideoFile(path=path, root=files.root, output=self.output(job.id, video.position))

        def on_step(step: Step) -> None:
            self._report(job, Moved(video, step.fraction, step.doing))

        return await self._children.run(job.processor, file, job.options, on_step=on_step)

    def poster(self, video: Video) -> Path | None:
        """The picture that the work on this video left; None when it left none."""
        name = str((video.result or {}).get("poster", ""))
        if not name.endswith(".jpg") or Path(name).name != name:  # a processor's word, and no way out of its directory
            return None
        return self.output(video.job_id, video.position) / name

    def output(self, job_id: str, position: int) -> Path:
        """Where the work on this video leaves its files."""
        return self._outputs / job_id / str(position)

    def _report(self, job: Job, report: Report) -> None:
        self._manager.record(job.id, job.epoch, report)
