"""Works through a job: hands its videos to the shared slots, each to `Runs`, and records what happens."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

from backend.clock import Clock
from backend.domain.video import Video
from backend.errors import Fault
from backend.executors.runs import RunOutcome, Runs
from backend.executors.slots import Slot, Slots
from backend.jobs.leases import Lease, Leases, TryFailed, VideoFinished, VideoProgressed, VideoReturned, VideoStarted
from backend.processors import Step
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
        runs: Runs,
        slots: Slots,
        clock: Clock,
        policy: RetryPolicy,
        *,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._leases = leases
        self._runs = runs
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
            await self._release(lease)

    async def _release(self, lease: Lease) -> None:
        if lease.stop.is_killed:
            await self._runs.withdraw(lease.job)
        await self._leases.release(lease, goes_on=self._runs.goes_on(lease.job))

    async def _process_videos(self, lease: Lease) -> None:
        in_flight = await self._runs.in_flight(lease.job)
        async with asyncio.TaskGroup() as running:
            if in_flight:
                await self._attach(lease, running, in_flight)
            await first_completed(self._start_videos(lease, running, in_flight), lease.stop.until_draining())
        if not lease.stop.is_draining and self._leases.is_held(lease):
            raise LookupError(f"job {lease.job.id} is not finished, but has no videos left to do")

    async def _attach(self, lease: Lease, running: asyncio.TaskGroup, in_flight: Mapping[int, int]) -> None:
        """Wait for the runs that go on since an earlier run of the server, with a slot if there is one."""
        queue = asyncio.Lock()
        for video in await self._leases.videos_at(lease, in_flight):
            slot = self._slots.slot(queue, lease.job.processor)
            slot.take_if_free()
            work = self._process(lease, video, slot, attached=in_flight[video.position])
            task = running.create_task(work, name=f"video {video.video_id}")
            task.add_done_callback(slot.give_back)

    async def _start_videos(self, lease: Lease, running: asyncio.TaskGroup, attached: Mapping[int, int]) -> None:
        queue, started = asyncio.Lock(), asyncio.Semaphore(MAX_STARTED_VIDEOS)
        async for video in self._leases.pending_videos(lease):
            if video.position in attached:
                continue
            slot = self._slots.slot(queue, lease.job.processor)
            await started.acquire()
            await slot.take()
            task = running.create_task(self._process(lease, video, slot), name=f"video {video.video_id}")
            task.add_done_callback(slot.give_back)  # also if the task never began
            task.add_done_callback(lambda _: started.release())

    async def _process(self, lease: Lease, video: Video, slot: Slot, *, attached: int = 0) -> None:
        """Try the video until it has its result. `attached`: the number of a try that goes on already."""
        for number in count(attached or 1):
            if number != attached:
                await first_completed(self._turn(slot), lease.stop.until_draining())
                if lease.stop.is_draining:
                    return  # the video is pending, and left for the next run
            outcome = await self._try(lease, video, number)
            if outcome is None:
                return
            fault = outcome.fault
            max_retries = self._policy.max_retries(fault, is_changing=outcome.is_changing) if fault else 0
            if outcome.error is None or fault is None or number > max_retries:
                self._leases.record(lease, _finished(video, outcome, tries=number, at=self._clock.now()))
                return
            seconds = self._delay(number)
            self._leases.record(lease, TryFailed(video, outcome.error, fault, seconds, outcome.run_id))
            slot.give_back()
            await first_completed(self._clock.sleep(seconds), lease.stop.until_draining())

    async def _turn(self, slot: Slot) -> None:
        """Return when a video may start: work whose results pile up in memory is not begun."""
        await slot.take()
        await self._leases.until_storing()

    async def _try(self, lease: Lease, video: Video, number: int) -> RunOutcome | None:
        """Return how this try ended; None if the job had to stop while no machine worked on it."""

        def on_start(machine: str) -> None:
            self._leases.record(lease, VideoStarted(video))

        def on_return() -> None:
            self._leases.record(lease, VideoReturned(video))

        def on_step(step: Step) -> None:
            self._leases.record(lease, VideoProgressed(video, step.fraction, step.doing))

        return await self._runs.run(
            lease.job,
            video,
            try_number=number,
            on_start=on_start,
            on_return=on_return,
            on_step=on_step,
            until_draining=lease.stop.until_draining,
        )

    def _delay(self, tries: int) -> float:
        """Return the seconds before the next try: twice as many each time, up to a tenth longer by chance."""
        delay = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** (tries - 1))
        return delay * (1 + JITTER * self._rng())


def _finished(video: Video, outcome: RunOutcome, *, tries: int, at: datetime) -> VideoFinished:
    return VideoFinished(
        video,
        at - timedelta(seconds=outcome.seconds),
        outcome.seconds,
        result=outcome.result,
        error=outcome.error,
        traceback=outcome.traceback,
        fault=outcome.fault,
        tries=tries,
        is_changing=outcome.is_changing,
        machine=outcome.machine,
        run_id=outcome.run_id,
    )
