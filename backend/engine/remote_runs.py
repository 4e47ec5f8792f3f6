"""Runs on workers: hands them over, follows them, and withdraws them.

The truth about a run is in its row. What is here in memory only waits for it, so that a server that is started again
asks for its runs, gets the same ones, and goes on waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from backend.clock import Clock
from backend.domain.job import Job
from backend.domain.video import Video
from backend.engine.registry import WorkerRegistry
from backend.errors import Fault, StoreRefused
from backend.executors.runs import OnReturn, OnStart, OnStep, RunOutcome, UntilDraining, decoded
from backend.processors import Step
from backend.store.runs import NewRun, RunState, RunStore
from backend.store.workers import MAX_LOSSES
from progress_dashboard.tasks import first_completed

T = TypeVar("T")
log = logging.getLogger(__name__)
RETRY_SECONDS = 0.5  # while the database is away
LOOK_SECONDS = 0.005  # between two looks at what changed
LOST_TOO_OFTEN = (
    f"{MAX_LOSSES} machines were lost, one after the other, while they worked on this video; "
    "look at their logs, then retry it."
)


@dataclass(eq=False)
class Awaited:
    """A run that this server waits for. `over` gets its outcome, or None when it is stopped and nobody works on it.

    `withdrawn` is "all" when it is to be stopped, "waiting" when it is to be stopped unless a machine works on it.
    """

    new: NewRun
    on_start: OnStart = lambda machine: None
    on_return: OnReturn = lambda: None
    on_step: OnStep = lambda step: None
    id: int | None = None
    changes: int = -1
    taken: int = 0
    given_back: int = 0
    machine: str | None = None
    withdrawn: str | None = None
    is_asked: bool = False
    is_handed_over: bool = False
    over: asyncio.Future[RunOutcome | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def finish(self, outcome: RunOutcome | None) -> None:
        if not self.over.done():
            self.over.set_result(outcome)


class RemoteRuns:
    """Runs on any worker.

    `give_orders` and `look_at_news` have to go on meanwhile; `look` says that something may have changed.
    """

    def __init__(self, store: RunStore, registry: WorkerRegistry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._new: list[Awaited] = []
        self._awaited: dict[int, Awaited] = {}
        self._elsewhere: set[int] = set()
        self._given_back: set[int] = set()
        self._ended: dict[int, Awaited] = {}
        self._has_orders, self._has_news = asyncio.Event(), asyncio.Event()
        self._is_leaving = False
        self._left: set[str] = set()

    @property
    def awaited(self) -> Sequence[int]:
        """The runs that this server waits for."""
        return list(self._awaited)

    async def in_flight(self, job: Job) -> Mapping[int, int]:
        return await self._patiently(lambda: self._store.in_flight(job.id, job.attempt))

    async def run(
        self,
        job: Job,
        video: Video,
        *,
        try_number: int,
        on_start: OnStart,
        on_return: OnReturn,
        on_step: OnStep,
        until_draining: UntilDraining,
    ) -> RunOutcome | None:
        awaited = Awaited(_new_run(job, video, try_number), on_start, on_return, on_step)
        self._new.append(awaited)
        self._has_orders.set()
        try:
            await first_completed(_all_done([awaited.over]), until_draining())
            if not awaited.over.done():
                self._ask_withdrawal(awaited, "waiting")
            return await asyncio.shield(awaited.over)
        except asyncio.CancelledError:
            if not (self._is_leaving or awaited.over.done()):
                self._ask_withdrawal(awaited, "all")
                await _until_over(awaited)
            raise

    async def withdraw(self, job: Job) -> None:
        if job.id in self._left:
            return
        left = [
            self._awaited.setdefault(run_id, Awaited(NewRun(0, job.id, 0, job.attempt, 0), id=run_id))
            for run_id in await self._patiently(lambda: self._store.of_job(job.id))
        ]
        for awaited in left:
            self._ask_withdrawal(awaited, "all")
        for awaited in left:
            await _until_over(awaited)

    def goes_on(self, job: Job) -> bool:
        return job.id in self._left

    async def leave(self, grace: float, *, own: str | None) -> None:
        """Let the runs go on without this server: those of its own machine after `grace` seconds."""
        self._is_leaving = True
        for awaited in (*self._new, *self._awaited.values()):
            if awaited.withdrawn != "all" and (own is None or awaited.machine != own):
                self._leave(awaited)
        if own_runs := [awaited.over for awaited in (*self._new, *self._awaited.values()) if not awaited.over.done()]:
            await first_completed(self._clock.sleep(grace), _all_done(own_runs))
        for awaited in (*self._new, *self._awaited.values(), *self._ended.values()):
            self._leave(awaited)

    def _leave(self, awaited: Awaited) -> None:
        if awaited.over.cancel():
            self._left.add(awaited.new.job_id)

    def look(self) -> None:
        """Look soon at what changed."""
        self._has_news.set()

    async def give_orders(self) -> None:
        """Hand runs over and withdraw them, until cancelled."""
        await self._loop(self._has_orders, self._give_orders)

    async def look_at_news(self) -> None:
        """Look at what changed whenever something may have, until cancelled."""
        await self._loop(self._has_news, self._look)

    async def _loop(self, event: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await event.wait()
            event.clear()
            try:
                await work()
            except StoreRefused:  # the journal says so
                event.set()
                await self._clock.sleep(RETRY_SECONDS)
            else:
                await self._clock.sleep(LOOK_SECONDS if event is self._has_news else 0)

    async def _give_orders(self) -> None:
        if batch := [awaited for awaited in self._new if not awaited.over.cancelled()]:
            for awaited in batch:
                awaited.is_handed_over = True  # perhaps: the answer may get lost
            runs = [NewRun(place, *_key(awaited.new)) for place, awaited in enumerate(batch)]
            for awaited, run_id in zip(batch, await self._store.hand_over(runs), strict=True):
                awaited.id, awaited.changes = run_id, -1
                self._awaited[run_id] = awaited
                self._new.remove(awaited)
            self._has_news.set()
        await self._withdraw_asked()
        if elsewhere := list(self._elsewhere):
            await self._store.send_elsewhere(elsewhere)
            self._elsewhere.difference_update(elsewhere)
        if given_back := list(self._given_back):
            self._given_back.clear()  # before the store answers: one of them may be given back again meanwhile
            try:
                await self._store.schedule(given_back)
            except StoreRefused:
                self._given_back.update(given_back)
                raise
        if ended := dict(self._ended):
            await self._store.delete(list(ended))
            for run_id, awaited in ended.items():
                del self._ended[run_id]
                self._settle(awaited)

    async def _withdraw_asked(self) -> None:
        for scope in ("all", "waiting"):
            asked = [
                awaited for awaited in self._awaited.values() if awaited.withdrawn == scope and not awaited.is_asked
            ]
            if not asked:
                continue
            for awaited in asked:
                awaited.is_asked = True  # before the store answers: what is asked meanwhile has to be asked again
            ids = [awaited.id for awaited in asked if awaited.id is not None]
            try:
                await self._store.withdraw(ids, is_running=scope == "all")
            except StoreRefused:
                for awaited in asked:
                    awaited.is_asked = False
                raise
            self._has_news.set()

    async def _look(self) -> None:
        known = {run_id: awaited.changes for run_id, awaited in self._awaited.items()}
        if not known:
            return
        for state in await self._store.look(known):
            if awaited := self._awaited.get(state.id):
                self._take(awaited, state)

    def _take(self, awaited: Awaited, state: RunState) -> None:
        awaited.changes = state.changes
        match state.state:
            case "waiting":
                self._returned(awaited, state)
            case "running":
                self._running(awaited, state)
            case "ended":
                self._over(awaited, state)
            case _:  # stopped, or gone
                self._stopped(awaited, state)

    def _returned(self, awaited: Awaited, state: RunState) -> None:
        """Offer a run again that a worker had claimed, and gave back; or withdraw it if its job has to stop."""
        awaited.machine = None
        if state.taken > awaited.given_back:
            awaited.given_back = state.taken
            awaited.on_return()
            if awaited.withdrawn is None:
                self._given_back.add(state.id)
            awaited.is_asked = False
            self._has_orders.set()

    def _running(self, awaited: Awaited, state: RunState) -> None:
        if awaited.withdrawn == "all":
            return  # nothing more is to be seen of it
        if awaited.taken != state.taken and state.worker is not None:
            awaited.taken, awaited.machine = state.taken, state.worker
            awaited.on_start(state.worker)
        if state.doing:
            awaited.on_step(Step(state.fraction, state.doing))

    def _over(self, awaited: Awaited, state: RunState) -> None:
        if awaited.withdrawn == "all" or state.outcome is None or state.worker is None:
            self._end(awaited)
            return
        if state.id in self._elsewhere:
            return
        if awaited.taken != state.taken:
            self._running(awaited, state)
        outcome = decoded(state.outcome, machine=state.worker, run_id=state.id)
        if outcome.error is None:
            self._registry.succeeded(state.worker)
        elif outcome.fault is Fault.MACHINE and not self._counts(awaited, outcome):
            self._send_elsewhere(awaited, state)
            return
        del self._awaited[state.id]
        awaited.finish(outcome)

    def _send_elsewhere(self, awaited: Awaited, state: RunState) -> None:
        """Offer a run again that ended by the fault of its machine, unless its job has to stop."""
        if awaited.withdrawn is not None:
            self._end(awaited)
            return
        self._elsewhere.add(state.id)
        self._has_orders.set()

    def _counts(self, awaited: Awaited, outcome: RunOutcome) -> bool:
        video_id = str(awaited.new.spec.get("video_id", ""))
        return self._registry.counts_fault(
            outcome.machine, error=outcome.error or "", video_id=video_id, processor=awaited.new.processor
        )

    def _stopped(self, awaited: Awaited, state: RunState) -> None:
        if state.state is not None and state.losses >= MAX_LOSSES and awaited.withdrawn != "all":
            del self._awaited[state.id]
            outcome = RunOutcome(
                machine=awaited.machine or "", seconds=0.0, error=LOST_TOO_OFTEN, fault=Fault.PERMANENT, run_id=state.id
            )
            awaited.finish(outcome)
            return
        self._end(awaited)

    def _end(self, awaited: Awaited) -> None:
        """Delete the row of a run that nobody works on any more; then the run is over, or begins again."""
        if awaited.id is not None:
            self._awaited.pop(awaited.id, None)
            self._ended[awaited.id] = awaited
            self._has_orders.set()

    def _settle(self, awaited: Awaited) -> None:
        if awaited.withdrawn != "all":
            awaited.on_return()
        if awaited.withdrawn is not None:
            awaited.finish(None)
            return
        awaited.id, awaited.changes, awaited.taken, awaited.given_back, awaited.machine = None, -1, 0, 0, None
        awaited.is_handed_over = False
        self._new.append(awaited)  # it was stopped for an earlier run of the server, or its row was lost
        self._has_orders.set()

    def _ask_withdrawal(self, awaited: Awaited, scope: str) -> None:
        if awaited in self._new and not awaited.is_handed_over:
            self._new.remove(awaited)
            awaited.finish(None)
            return
        awaited.withdrawn, awaited.is_asked = scope, False
        self._has_orders.set()

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except StoreRefused:
                if self._is_leaving:
                    raise asyncio.CancelledError from None  # the next run of the server asks again
                await self._clock.sleep(RETRY_SECONDS)


def _new_run(job: Job, video: Video, try_number: int) -> NewRun:
    spec = {"video_id": video.video_id, "source": job.source.value, "options": dict(job.options)}
    return NewRun(0, job.id, video.position, job.attempt, try_number, job.processor, spec)


def _key(new: NewRun) -> tuple[Any, ...]:
    return (new.job_id, new.position, new.attempt, new.try_number, new.processor, new.spec)


async def _until_over(awaited: Awaited) -> None:
    """Return when no process works on the run any more, also when cancelled meanwhile."""
    while not awaited.over.done():
        try:
            await asyncio.shield(awaited.over)
        except asyncio.CancelledError:
            continue


async def _all_done(futures: Collection[asyncio.Future[Any]]) -> None:
    await asyncio.wait(futures)
