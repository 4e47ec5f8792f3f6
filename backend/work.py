"""Works through a job: hands its videos to the shared slots, each into its own process, and reports to the manager."""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio

from backend.auth import User
from backend.clock import Clock
from backend.errors import Fault, Invalid, NotAllowed, VideoFailed
from backend.jobs import Job, Video
from backend.manager import Ended, JobManager, Moved, Report, Started, TriedInVain
from backend.media import MediaSource
from backend.processors import Step, VideoFile
from backend.processors.child import ChildRunner
from backend.settings import MOST_SLOTS, PAUSE_AFTER_FAILURES, VIDEO_RETRIES

log = logging.getLogger(__name__)
MOST_BEGUN = 2 * MOST_SLOTS  # videos of a job that run or wait to be tried again
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 2.0, 60.0
JITTER = 0.1


class Slot:
    """One of the shared slots, while it is taken; giving it back twice is harmless.

    `place` is the one that a job has in the line for slots, however many of its videos wait for one.
    """

    def __init__(self, slots: anyio.CapacityLimiter, place: asyncio.Lock) -> None:
        self._slots = slots
        self._place = place
        self._is_taken = False

    async def take(self) -> None:
        """Wait for its turn; taking it twice is harmless."""
        if not self._is_taken:
            async with self._place:
                await self._slots.acquire_on_behalf_of(self)
            self._is_taken = True

    def give_back(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._slots.release_on_behalf_of(self)

    def given_back(self, _: object) -> None:
        """As a task's callback."""
        self.give_back()


class VideoWork:
    """What every executor runs: `process_job`. Posters and the like go to `outputs/<job>/<position>/`.

    A failure that may pass is tried again up to `retries` times, one of the machine's until the job pauses itself
    after `pause_after_failures` of them. `chance` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        manager: JobManager,
        children: ChildRunner,
        *,
        slots: int,
        retries: int = VIDEO_RETRIES,
        pause_after_failures: int = PAUSE_AFTER_FAILURES,
        outputs: Path,
        clock: Clock,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._manager = manager
        self._children = children
        self._slots = anyio.CapacityLimiter(slots)
        self._further_tries = {
            Fault.PERMANENT: 0,
            Fault.TRANSIENT: retries,
            Fault.MACHINE: max(retries, pause_after_failures),
        }
        self._outputs = outputs
        self._clock = clock
        self._chance = chance

    @property
    def slots(self) -> int:
        """How many videos may run at once."""
        return int(self._slots.total_tokens)

    def change_slots(self, slots: int, *, by: User) -> None:
        """From now on; what runs above the number still ends. Until the next start, when the setting counts again."""
        if not by.is_admin:
            raise NotAllowed("Only an administrator can change the slots.")
        if not 1 <= slots <= MOST_SLOTS:
            raise Invalid(f"slots must be from 1 to {MOST_SLOTS:,}.")
        self._slots.total_tokens = slots
        log.info("slots changed", extra={"action": "slots_changed", "slots": slots, "user": by.name})

    async def process_job(self, job_id: str) -> None:
        """Work through the job's videos without a result; cancelled or halted, it leaves the rest for the next run.

        Each job waits for one slot at a time and slots go in turn, so that running jobs share them evenly, also when
        many videos of one have to be tried again.
        """
        job = await self._manager.claim(job_id)
        if job is None:
            return
        try:
            await self._process_videos(job)
        except Exception:
            log.exception("a job broke", extra={"action": "job_broke", "job_id": job.id})
            sentence = "The server had a problem with this job; its log has the details."
            self._manager.break_off(job.id, job.epoch, sentence)
        finally:
            await self._manager.let_go(job.id, job.epoch)

    async def _process_videos(self, job: Job) -> None:
        halt = self._manager.halt_of(job)
        async with asyncio.TaskGroup() as running:
            feeding = running.create_task(self._feed(job, halt, running), name=f"feed of {job.id}")
            halting = running.create_task(_after(halt, feeding.cancel), name=f"halt of {job.id}")
            feeding.add_done_callback(lambda _: halting.cancel())
        if not halt.is_set() and self._manager.is_held(job.id, job.epoch):
            raise LookupError(f"job {job.id} is not finished, but none of its videos is left to do")

    async def _feed(self, job: Job, halt: asyncio.Event, running: asyncio.TaskGroup) -> None:
        place, begun = asyncio.Lock(), asyncio.Semaphore(MOST_BEGUN)
        async for video in self._manager.todo(job):
            slot = Slot(self._slots, place)
            await begun.acquire()
            await slot.take()
            task = running.create_task(self._process(job, video, slot, halt), name=f"video {video.video_id}")
            task.add_done_callback(slot.given_back)  # also when it never began
            task.add_done_callback(lambda _: begun.release())

    async def _process(self, job: Job, video: Video, slot: Slot, halt: asyncio.Event) -> None:
        for tries in count(1):
            await _unless(halt, self._turn(slot))
            if halt.is_set():
                return  # it is pending, and left for the next run
            ended = await self._try(job, video)
            fault = ended.fault
            if ended.error is None or fault is None or tries > self._further_tries[fault]:
                self._report(job, replace(ended, tries=tries))
                return
            seconds = self._delay(tries)
            self._report(job, TriedInVain(video, ended.error, fault, seconds))
            slot.give_back()
            await _unless(halt, self._clock.sleep(seconds))

    async def _turn(self, slot: Slot) -> None:
        """Return when a video may begin: work whose results pile up in memory is not begun."""
        await slot.take()
        await self._manager.until_storing()

    async def _try(self, job: Job, video: Video) -> Ended:
        self._report(job, Started(video))
        started_at, began = self._clock.now(), self._clock.monotonic()

        def ended(**outcome: Any) -> Ended:
            return Ended(video, started_at, round(self._clock.monotonic() - began, 3), **outcome)

        try:
            return ended(result=await self._run(job, video))
        except VideoFailed as error:
            trace = error.traceback or "".join(traceback.format_exception(error))
            return ended(error=error.sentence, traceback=trace, fault=error.fault)
        except Exception as error:
            log.exception(
                "a video broke", extra={"action": "video_broke", "job_id": job.id, "video_id": video.video_id}
            )
            sentence = f"The server had a problem with this video ({type(error).__name__}); its log has the details."
            return ended(error=sentence, traceback=traceback.format_exc(), fault=Fault.PERMANENT)

    def _delay(self, tries: int) -> float:
        """Seconds before the next try: twice as long each time, and up to a tenth longer by chance."""
        delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** (tries - 1))
        return delay * (1 + JITTER * self._chance())

    async def _run(self, job: Job, video: Video) -> dict[str, Any]:
        files = self._manager.files(job.source)
        try:
            return await self._run_on(files, job, video)
        except VideoFailed as error:
            if error.fault is Fault.PERMANENT:
                await files.check()  # a file that went away with the whole directory is no fault of the video's
            raise

    async def _run_on(self, files: MediaSource, job: Job, video: Video) -> dict[str, Any]:
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


async def _unless(halt: asyncio.Event, awaited: Coroutine[Any, Any, None]) -> None:
    """Wait for it, or for the halt."""
    waiting, halting = asyncio.create_task(awaited), asyncio.create_task(halt.wait())
    try:
        done, _ = await asyncio.wait({waiting, halting}, return_when=asyncio.FIRST_COMPLETED)
        for ended in done:
            ended.result()
    finally:
        waiting.cancel()
        halting.cancel()


async def _after(event: asyncio.Event, do: Callable[[], object]) -> None:
    await event.wait()
    do()
