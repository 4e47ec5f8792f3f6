"""A worker: claims runs that the engine delivers, works on them in killable processes, and reports.

The command `worker` runs one, and so does the server in its own process. It decides nothing about jobs: what to run is
the server's word, and each of its own is fenced by the row of the run (`store.workers`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from backend.clock import EPOCH, Clock
from backend.database_url import DatabaseUrl
from backend.domain.job import Job, Source
from backend.domain.video import Video
from backend.engine.delivery import Delivery
from backend.engine.joining import Identity, join, other_version
from backend.engine.line import Line, LineLost, cannot_connect
from backend.engine.marker import unseen
from backend.engine.reporter import AGAIN_SECONDS, HeldRun, Reporter, RunEnd, StopReason
from backend.errors import CannotStart, Fault
from backend.executors.runs import LocalRuns, RunOutcome
from backend.store.workers import WorkerSql
from progress_dashboard.tasks import first_completed

log = logging.getLogger(__name__)
LEAVE_SECONDS = 3.0  # for the last words of a worker that ends while PostgreSQL is away
CLOSE_SECONDS = 1.0  # for the engine, which waits for PostgreSQL


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run of this worker; `stop` ends its work."""

    held: HeldRun
    stop: asyncio.Event
    job: Job
    video: Video
    try_number: int


class Worker:
    """Runs videos for the server of one database, until it is told to stop.

    `lease_seconds` is how long it goes on without PostgreSQL. `set_alarm` lets its processes end by themselves, should
    this one be frozen. `outputs` is checked before each run, because a directory that is not mounted is empty.
    """

    def __init__(
        self,
        url: DatabaseUrl,
        identity: Identity,
        runs: LocalRuns,
        outputs: Path,
        clock: Clock,
        *,
        lease_seconds: float,
        set_alarm: Callable[[float], None],
    ) -> None:
        self._url = url
        self._identity = identity
        self._runs = runs
        self._outputs = outputs
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._line = Line(url)
        self._delivery = Delivery(url, identity.processors, self._run)
        self._reporter = Reporter(
            self._line,
            identity.name,
            clock,
            lease_seconds=lease_seconds,
            set_alarm=set_alarm,
            allow=self._delivery.allow,
            see_version=self._see_version,
            rejoin=self._join_again,
            engine_id=lambda: self._delivery.engine_id,
        )
        self._database_id = ""
        self._claiming = asyncio.Lock()
        self._works: set[asyncio.Task[None]] = set()
        self._draining, self._asked, self._stopping = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._outdated = ""
        self._gives_back = self._has_left = False

    async def join(self) -> bool:
        """Check that this worker fits the server, and join; False if `drain` was called meanwhile.

        Raises `CannotStart`.
        """
        await first_completed(self._until(self._draining), self._join())
        return bool(self._database_id)

    async def run(self, *, grace_seconds: float) -> None:
        """Work until `drain`, give running videos `grace_seconds` to end then, and give back the rest.

        Reports until the last process has exited. Raises `CannotStart` if another process took this worker's name, or,
        after the last video, if the server has another version by now.
        """
        try:
            async with self._delivery.opened():
                delivering = asyncio.create_task(self._delivery.run(), name="delivery")
                try:
                    await first_completed(
                        self._reporter.run(), self._reporter.watch(), self._until_done(delivering, grace_seconds)
                    )
                finally:
                    await self._end(delivering)
        except psycopg.Error as error:
            raise cannot_connect(self._url, error) from error
        finally:
            await self._line.close()
        if self._outdated:
            raise CannotStart(self._outdated)

    def drain(self) -> None:
        """Start no further videos; called again, end the running ones at once."""
        if self._asked.is_set():
            self._stopping.set()
        self._asked.set()
        self._draining.set()

    async def close(self) -> None:
        """End the connection of a worker that was not run."""
        await self._line.close()

    async def _join(self) -> None:
        await self._line.open()
        self._database_id = await join(
            self._line, self._identity, self._outputs, self._clock, lease_seconds=self._lease_seconds
        )

    @staticmethod
    async def _until(event: asyncio.Event) -> None:
        await event.wait()

    async def _until_done(self, delivering: asyncio.Task[None], grace_seconds: float) -> None:
        await first_completed(self._until(self._draining), _ended(delivering))
        self._delivery.stop()
        extra = {"action": "worker_draining", "runs": len(self._reporter.held)}
        log.info("the worker ends; it begins no further video", extra=extra)
        await first_completed(
            self._say(WorkerSql.DRAIN, WorkerSql.NOTIFY_OF_ITSELF), _ended(delivering), self._until(self._stopping)
        )
        await first_completed(_ended(delivering), self._until(self._asked))
        await first_completed(_ended(delivering), self._until(self._stopping), self._clock.sleep(grace_seconds))
        self._give_back()
        await first_completed(_ended(delivering), self._until_given_back())
        if delivering.done():
            await self._leave()

    async def _until_given_back(self) -> None:
        """Return when all processes have exited, and the server knows it or cannot be reached."""
        await self._reporter.until_idle()
        await self._clock.sleep(LEAVE_SECONDS)

    async def _leave(self) -> None:
        """Take this worker off the list, and give back what it may have claimed without an answer."""
        self._has_left = True
        await self._say(WorkerSql.RETURN_OLD, WorkerSql.LEAVE, WorkerSql.NOTIFY, WorkerSql.NOTIFY_OF_ITSELF)

    async def _say(self, *statements: str) -> None:
        with suppress(LineLost):
            for statement in statements:
                await self._line.rows(statement, self._identity.values)

    async def _end(self, delivering: asyncio.Task[None]) -> None:
        """End what still runs, also when this worker itself failed."""
        self._delivery.stop()
        self._give_back()
        await self._reporter.until_idle()
        for work in self._works:
            work.cancel()
        delivering.cancel()
        await asyncio.wait({delivering}, timeout=CLOSE_SECONDS)

    def _give_back(self) -> None:
        self._gives_back = True
        for held in self._reporter.held:
            held.stop(StopReason.RETURNED)

    async def _join_again(self) -> None:
        """Join again after a silence in which the server has forgotten this worker."""
        if not self._has_left:
            await join(
                self._line, self._identity, self._outputs, self._clock, lease_seconds=self._lease_seconds, again=True
            )

    def _see_version(self, version: str | None) -> None:
        """End after the running videos when the server was upgraded meanwhile."""
        if version not in (None, self._identity.version) and not self._outdated:
            self._outdated = other_version(f"version {version}")
            log.warning("%s", self._outdated, extra={"action": "worker_outdated"})
            self._draining.set()

    async def _run(self, run_id: int) -> None:
        """Work on a run if it can be claimed. The engine cancels this when the server has withdrawn the run."""
        work = asyncio.create_task(self._work(run_id), name=f"run {run_id}")
        self._works.add(work)
        work.add_done_callback(self._works.discard)
        while not work.done():
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError:
                self._reporter.look()  # whether it is wanted, its own row says
        if not work.cancelled():
            work.result()

    async def _work(self, run_id: int) -> None:
        claimed = await self._claim(run_id)
        if claimed is None:
            return
        held = claimed.held
        if self._gives_back:
            held.stop(StopReason.RETURNED)
        try:
            outcome = await self._until_stopped(self._outcome(claimed), claimed.stop)
            if held.reason is not StopReason.LOST:
                held.ended(*self._end_of(held, outcome))
                await held.acknowledged
        finally:
            self._reporter.release(held)

    async def _claim(self, run_id: int) -> Claimed | None:
        """Return the run if this worker gets it, and has not got it already: the engine may deliver it twice."""
        values, again = {"run": run_id, "worker": self._identity.name.worker}, False
        while True:
            try:
                async with self._claiming:
                    if any(held.id == run_id and held.end is None for held in self._reporter.held):
                        return None
                    rows = await self._line.rows(WorkerSql.CLAIM, {**values, "again": again})
                    return self._claimed(run_id, rows)
            except LineLost:
                again = True
                await self._clock.sleep(AGAIN_SECONDS)

    def _claimed(self, run_id: int, rows: Sequence[tuple[Any, ...]]) -> Claimed | None:
        """Hold the run, with no wait after its claim, so that the next report names it."""
        if not rows:
            return None
        [(taken, job_id, position, attempt, try_number, processor, spec)] = rows
        stop = asyncio.Event()
        return Claimed(
            held=self._reporter.hold(run_id, taken, stop.set),
            stop=stop,
            job=_job(job_id, processor, spec, attempt),
            video=Video(job_id=job_id, position=position, video_id=spec["video_id"]),
            try_number=try_number,
        )

    async def _until_stopped(self, work: Coroutine[Any, Any, RunOutcome], stop: asyncio.Event) -> RunOutcome | None:
        """Return the outcome of the work; None if it was stopped, and its process has exited."""
        return await first_completed(self._until(stop), work)

    async def _outcome(self, claimed: Claimed) -> RunOutcome:
        await self._reporter.until_connected()
        sentence = await asyncio.to_thread(unseen, self._outputs, self._database_id)
        if sentence is not None:
            return RunOutcome(machine=self._identity.name.worker, seconds=0.0, error=sentence, fault=Fault.MACHINE)
        outcome = await self._runs.run(
            claimed.job,
            claimed.video,
            try_number=claimed.try_number,
            on_start=lambda machine: None,
            on_step=claimed.held.step,
        )
        assert outcome is not None, "nothing drains the runs of a worker but the worker"  # noqa: S101
        return outcome

    def _end_of(self, held: HeldRun, outcome: RunOutcome | None) -> tuple[RunEnd, RunOutcome | None]:
        if held.reason is StopReason.UNWANTED:
            return RunEnd.STOPPED, None
        if outcome is None or (outcome.error is not None and self._reporter.is_cut_off):
            return RunEnd.RETURNED, None  # its process was ended by this worker, or by its alarm
        return RunEnd.ENDED, outcome


def _job(job_id: str, processor: str, spec: Mapping[str, Any], attempt: int) -> Job:
    """Return what a run needs of its job."""
    return Job(
        id=job_id,
        owner_id="",
        owner="",
        name="",
        processor=processor,
        created_at=EPOCH,
        updated_at=EPOCH,
        total_videos=1,
        source=Source(spec["source"]),
        options=spec["options"],
        attempt=attempt,
    )


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})
    task.result()
