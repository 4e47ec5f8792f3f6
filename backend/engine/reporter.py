"""What a worker says to the server: one statement for all of its runs, which is also the sign that it lives.

A worker that cannot say it for the time of its lease is *cut off*: it ends its processes, because soon after that the
server begins their videos elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from backend.clock import Clock
from backend.domain.texts import storable
from backend.engine.line import Line, LineLost
from backend.executors.runs import RunOutcome
from backend.processors import Step
from backend.store.workers import ReportedRun, WorkerSql, sent_json

log = logging.getLogger(__name__)
STEP_SECONDS = 0.1  # between two reports of steps; an end is reported at once
BEAT_SECONDS = 1.0  # between two reports without news
AGAIN_SECONDS = 0.5  # after a report without an answer
FRACTION_DIGITS = 6  # PostgreSQL refuses numbers that are too small for it
ALARM_SECONDS = 1.0  # after the end of the lease: a worker that is not frozen ends its processes before


class RunEnd(StrEnum):
    """How a worker releases a run, as a state of its row."""

    ENDED = "ended"
    STOPPED = "stopped"  # it was not wanted any more, and its process has exited
    RETURNED = "waiting"  # begun in vain: any worker may claim it


class StopReason(StrEnum):
    """Why the process of a run is ended before it has a result."""

    UNWANTED = "unwanted"
    LOST = "lost"  # the run belongs to another worker by now
    RETURNED = "returned"  # this worker is cut off, or ends


@dataclass(frozen=True, slots=True)
class Name:
    """Who reports: the worker's name, and the process that has it."""

    worker: str
    node: str
    process: int


class HeldRun:
    """A run that this worker has claimed, with the news of it; `stop` ends its work, and is called once at most."""

    def __init__(self, run_id: int, taken: int, stop: Callable[[], object], changed: Callable[[bool], None]) -> None:
        self.id = run_id
        self.taken = taken
        self.reason: StopReason | None = None
        self.acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.end: RunEnd | None = None
        self._stop = stop
        self._changed = changed
        self._step: Step | None = None
        self._said: Step | None = None
        self._outcome: msgspec.Raw | None = None

    def step(self, step: Step) -> None:
        """Report this step, unless a newer one comes before the next report."""
        self._step = step
        self._changed(False)

    def ended(self, end: RunEnd, outcome: RunOutcome | None = None) -> None:
        """Report this end. Its process must have exited."""
        self.end, self._outcome = end, None if outcome is None else msgspec.Raw(_encoded(outcome))
        self._changed(True)

    def stop(self, reason: StopReason) -> None:
        """End the process of the run."""
        if self.reason is None and self.end is None:
            self.reason = reason
            self._stop()

    def news(self) -> ReportedRun:
        """Return what is to be said now; `said` has to follow if it arrived."""
        step = self._said = self._step
        return ReportedRun(
            id=self.id,
            taken=self.taken,
            fraction=None if step is None else round(step.fraction, FRACTION_DIGITS),
            doing=None if step is None else step.doing,
            state=self.end,
            outcome=self._outcome,
        )

    def said(self, news: ReportedRun, *, is_held: bool, is_wanted: bool) -> None:
        """Take note that the news arrived, and of what the row says: whose the run is, and if it is wanted."""
        if self._step is self._said:
            self._step = None
        if news.state is not None:
            if not self.acknowledged.done():
                self.acknowledged.set_result(None)
        elif not is_held:
            self.stop(StopReason.LOST)
        elif not is_wanted:
            self.stop(StopReason.UNWANTED)


class Reporter:
    """Reports on all held runs, in turn.

    `set_alarm` is called after each report with the seconds after which all processes have to be dead without another
    one, `allow` with the number of videos that this worker may run, `see_version` with the version of the server.
    `rejoin` is called when the server has forgotten this worker.
    """

    def __init__(
        self,
        line: Line,
        name: Name,
        clock: Clock,
        *,
        lease_seconds: float,
        set_alarm: Callable[[float], None],
        allow: Callable[[int], None],
        see_version: Callable[[str | None], None],
        rejoin: Callable[[], Awaitable[None]],
        engine_id: Callable[[], int | None],
    ) -> None:
        self._line = line
        self._name = name
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._set_alarm = set_alarm
        self._allow = allow
        self._see_version = see_version
        self._rejoin = rejoin
        self._engine_id = engine_id
        self._held: list[HeldRun] = []  # for a moment the same run twice: given back, and claimed again
        self._answered_at = clock.monotonic()
        self._is_away = self._owes_notice = False
        self._urgent, self._news = asyncio.Event(), asyncio.Event()
        self._connected, self._idle = asyncio.Event(), asyncio.Event()

    @property
    def is_cut_off(self) -> bool:
        """True if the lease has run out: the server may have begun all runs elsewhere."""
        return self._clock.monotonic() - self._answered_at > self._lease_seconds

    @property
    def held(self) -> list[HeldRun]:
        """The runs that this worker has claimed and not released."""
        return list(self._held)

    def hold(self, run_id: int, taken: int, stop: Callable[[], object]) -> HeldRun:
        """Report on this run until it is released."""
        held = HeldRun(run_id, taken, stop, self._changed)
        self._held.append(held)
        self._owes_notice = True  # it has begun
        self._changed(False)
        return held

    def release(self, held: HeldRun) -> None:
        """Say nothing more about this run."""
        self._held.remove(held)
        self._idle.set()

    async def until_idle(self) -> None:
        """Return when no process of a run is left."""
        while any(held.end is None for held in self.held):
            self._idle.clear()
            await self._idle.wait()

    def look(self) -> None:
        """Ask at once which runs are wanted."""
        self._changed(True)

    async def until_connected(self) -> None:
        """Return when the lease runs."""
        while self.is_cut_off:
            self._connected.clear()
            await self._connected.wait()

    async def run(self) -> None:
        """Report until cancelled, through absences of PostgreSQL."""
        self._answered_at = self._clock.monotonic()
        while True:
            self._urgent.clear()
            self._news.clear()
            if await self.report():
                await self._until_due()
            else:
                await self._clock.sleep(AGAIN_SECONDS)

    async def watch(self) -> None:
        """End all processes whenever the lease runs out, until cancelled."""
        while True:
            await self._clock.sleep(max(0.0, self._answered_at + self._lease_seconds - self._clock.monotonic()) + 0.01)
            if self.is_cut_off:
                extra = {"action": "cut_off", "runs": len(self._held)}
                log.error("PostgreSQL was away for %g s; the videos end here", self._lease_seconds, extra=extra)
                for held in self.held:
                    held.stop(StopReason.RETURNED)
                await self.until_connected()

    async def report(self) -> bool:
        """Report once; False if there was no answer."""
        began = self._clock.monotonic()
        said = [(held, held.news()) for held in self.held]
        has_ends = any(news.state is not None for _, news in said)
        self._owes_notice = self._owes_notice or has_ends or any(news.fraction is not None for _, news in said)
        try:
            [(may_run, version, found)] = await self._line.rows(
                WorkerSql.REPORT, self._values([news for _, news in said]), durable=has_ends
            )
            if may_run is None:
                await self._rejoin()
        except LineLost as error:
            self._went_away(error)
            return False
        self._answered(began, said, found or {})
        self._allow(may_run or 0)
        self._see_version(version)
        return await self._notified()

    def _values(self, news: list[ReportedRun]) -> dict[str, Any]:
        return {
            "runs": sent_json(news),
            "running": len(self._held),
            "worker": self._name.worker,
            "process": self._name.process,
            "node": self._name.node,
            "engine": self._engine_id(),
        }

    def _answered(self, began: float, said: list[tuple[HeldRun, ReportedRun]], found: dict[str, bool]) -> None:
        was_cut_off, self._answered_at = self.is_cut_off, began
        self._set_alarm(self._lease_seconds + ALARM_SECONDS - (self._clock.monotonic() - began))
        for held, news in said:
            held.said(news, is_held=str(held.id) in found, is_wanted=found.get(str(held.id), False))
        if self._is_away or was_cut_off:
            log.info("PostgreSQL is reached again", extra={"action": "database_back"})
        self._is_away = False
        self._connected.set()

    async def _notified(self) -> bool:
        """Notify the server of news, in a transaction of its own: a notification locks out all others."""
        if self._owes_notice:
            try:
                await self._line.rows(WorkerSql.NOTIFY, durable=False)
            except LineLost as error:
                self._went_away(error)
                return False
            self._owes_notice = False
        return True

    def _went_away(self, error: LineLost) -> None:
        if not self._is_away:
            self._is_away = True
            log.warning("PostgreSQL does not answer: %s", error.sentence, extra={"action": "database_away"})

    def _changed(self, is_urgent: bool) -> None:
        self._news.set()
        self._idle.set()
        if is_urgent:
            self._urgent.set()

    async def _until_due(self) -> None:
        if not await _set_within(self._urgent, STEP_SECONDS):
            await _set_within(self._news, BEAT_SECONDS - STEP_SECONDS)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def _encoded(outcome: RunOutcome) -> bytes:
    return sent_json(
        {
            "result": outcome.result,
            "error": storable(outcome.error),
            "traceback": storable(outcome.traceback),
            "fault": outcome.fault,
            "is_changing": outcome.is_changing,
            "seconds": outcome.seconds,
        }
    ).encode()
