"""The journal: what changed is stored in one transaction, and only then published.

Changes are staged in memory. A tick (2 ms after the first change when idle, then every 50 ms) stamps them with a
growing `seq`, commits them, and publishes them as one batch. So nothing is visible before it is durable. While callers
wait, what they wait for is committed sooner, and published with the next tick.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from typing import Protocol

from backend.clock import Clock
from backend.delivery.batches import Change, Entry, Removal
from backend.delivery.hub import ProgressHub
from backend.domain.job import Job
from backend.domain.judgement import SaidForecast
from backend.domain.measures import job_measures
from backend.domain.notification import EventKind, event_between
from backend.domain.timeline import Milestone, SharedAction
from backend.errors import StoreRefused
from backend.store import Store
from backend.store.changes import NewJob, NewNotification, RemovedJob, Reset, Tick, VideoChange
from progress_dashboard.tasks import first_completed

log = logging.getLogger(__name__)
LEAD_SECONDS = 0.002
INTERVAL_SECONDS = 0.050
GROUP_SECONDS = 0.003  # between two commits for callers that wait; most of them then share one
MAX_EARLY_SHARE = 0.2  # of the time goes into such commits: each costs the server about as much as a tick
RETRY_SECONDS = 1.0
CHECK_SECONDS, AWAY_SECONDS = 1.0, 0.25  # between two questions to a database that is there, and to one that is not
THINNING_SECONDS = 1.0


class Progressing(Protocol):
    """A job whose newest state is made when a tick takes it: most of its states are overtaken before."""

    @property
    def id(self) -> str: ...

    def snapshot(self) -> Job:
        """Return the newest state."""


@dataclass(frozen=True, slots=True)
class Waiter:
    """A caller that waits until what was staged is stored. An impatient one fails when the database refuses a tick."""

    stored: asyncio.Future[None]
    is_patient: bool


@dataclass
class Staged:
    """What waits for the next tick: every `lossless` state and removal, and the newest percent of each job."""

    lossless: list[Job | Removal] = field(default_factory=list)
    percents: dict[str, Progressing] = field(default_factory=dict)
    new: list[NewJob] = field(default_factory=list)
    videos: list[VideoChange] = field(default_factory=list)
    resets: list[Reset] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    forecasts: list[SaidForecast] = field(default_factory=list)
    actions: list[SharedAction] = field(default_factory=list)
    notifications: list[NewNotification] = field(default_factory=list)
    waiters: list[Waiter] = field(default_factory=list)

    def __bool__(self) -> bool:
        others = self.videos or self.actions or self.notifications or self.waiters
        return bool(self.lossless or self.percents or others)

    def reject_impatient(self, sentence: str) -> None:
        """Raise `StoreRefused` in the callers that do not wait until the database takes things again."""
        _finish([waiter for waiter in self.waiters if not waiter.is_patient], StoreRefused(sentence))
        self.waiters = [waiter for waiter in self.waiters if waiter.is_patient]


class Journal:
    """The only way for a state to become durable and visible.

    `on_stored` gets each tick that is stored, and the seconds that took.
    """

    def __init__(
        self,
        store: Store,
        hub: ProgressHub,
        clock: Clock,
        *,
        on_stored: Callable[[Tick, float], None] = lambda tick, seconds: None,
    ) -> None:
        self._store = store
        self._on_stored = on_stored
        self._hub = hub
        self._clock = clock
        self._staged = Staged()
        self._work = asyncio.Event()
        self._closing = False
        self._failed = False
        self._recorded: dict[str, tuple[int, datetime]] = {}
        self._refusal: str | None = None
        self._storing, self._refusing = asyncio.Event(), asyncio.Event()
        self._storing.set()
        self._committing: Staged | None = None
        self._retrying = False
        self._answers = asyncio.Event()  # the database, to `watch`

    @property
    def is_storing(self) -> bool:
        """True if the database took the last tick."""
        return self._storing.is_set()

    @property
    def refusal(self) -> str | None:
        """The sentence with which the database refuses what it is given; None while it takes it."""
        return None if self.is_storing else self._refusal or StoreRefused().sentence

    async def until_storing(self) -> None:
        """Return when the database takes what it is given."""
        await self._storing.wait()

    async def until_refusing(self) -> None:
        """Return when the database refuses what it is given."""
        await self._refusing.wait()

    async def load(self) -> None:
        """Load what is stored into the hub. The positions of this run of the server lie above all earlier ones."""
        jobs, last = await self._store.jobs.on_dashboard(), await self._store.jobs.last_seq()
        removals = [Removal(*removal) for removal in await self._store.jobs.removals(self._hub.max_tombstones)]
        start = max(last, int(self._clock.now().timestamp() * 1_000_000) - 1)
        self._hub.load(jobs, removals, last_stored=last, start_seq=start)

    def stage(self, job: Job, *, videos: Sequence[VideoChange] = (), resets: Sequence[Reset] = ()) -> None:
        """Store and show this state with the next tick: a status change or a failed video, sent for itself.

        `resets` come after all `videos` of their tick.
        """
        self._staged.percents.pop(job.id, None)
        self._staged.lossless.append(job)
        self._staged.videos.extend(videos)
        self._staged.resets.extend(resets)
        self._work.set()

    def stage_progress(self, job: Progressing, *, videos: Sequence[VideoChange] = ()) -> None:
        """Store and show the job's newest state with the next tick, conflated with all progress before that."""
        self._staged.percents[job.id] = job
        self._staged.videos.extend(videos)
        self._work.set()

    def stage_new(self, new: NewJob) -> None:
        """Let a job appear with the next tick; its first state counts as a status change."""
        self._staged.new.append(new)
        self._staged.lossless.append(new.job)
        self._work.set()

    def stage_forecast(self, said: SaidForecast) -> None:
        """Store what was said about the end of a job, with the next change; of a stage, what was said first stays."""
        self._staged.forecasts.append(said)

    def stage_action(self, action: SharedAction) -> None:
        """Store with the next tick what a user asked of a job together with others, for its timeline."""
        self._staged.actions.append(action)
        self._work.set()

    def stage_event(self, job: Job, event: EventKind) -> None:
        """Store with the next tick that this happened to a job whose state it did not change; nothing if it is gone."""
        self.stage_notification(NewNotification.of(Change(job), event, at=self._clock.now()))

    def stage_notification(self, new: NewNotification) -> None:
        """Store an event with the next tick; one that is stored already stays as it is."""
        self._staged.notifications.append(new)
        self._work.set()

    def stage_removal(self, job: Job, *, is_deleted: bool = False) -> None:
        """Remove the job from the dashboard, after everything that was staged for it before.

        Deleting also removes it from the records; only its ID and owner are kept, so that returning clients learn it is
        gone.
        """
        self._staged.percents.pop(job.id, None)
        self._staged.lossless.append(Removal(job.id, job.owner_id, 0))
        if is_deleted:
            self._staged.deleted.add(job.id)
        self._work.set()

    async def durable(self, *, patient: bool = True) -> None:
        """Return when everything staged so far is stored.

        Raises `StoreRefused` if it will never be stored. For an impatient caller also if the database refuses it now;
        it is still stored once the database accepts writes again.
        """
        if self._failed or not (patient or self.is_storing):
            raise StoreRefused(self._refusal)
        waiter = Waiter(asyncio.get_running_loop().create_future(), patient)
        self._staged.waiters.append(waiter)
        self._work.set()
        await waiter.stored

    async def run(self) -> None:
        """Tick until `close`; the last tick takes what is left."""
        while not self._closing:
            await self._work.wait()
            await self._clock.sleep(LEAD_SECONDS)
            await self.tick()
            await self._rest()
        await self.tick()

    async def watch(self) -> None:
        """Ask each second if the database is there, so that its absence shows also while nothing is to be stored.

        Raises errors that no waiting helps against.
        """
        while True:
            try:
                await self._store.check()
            except StoreRefused as error:
                if self.is_storing:
                    log.warning("the database is away: %s", error.sentence, extra={"action": "database_away"})
                self._refuse(error)
            except Exception:
                self._fail(self._committing)
                raise
            else:
                self._answers.set()
                if not (self._retrying or self._failed):
                    self._set_storing(True)
            await self._clock.sleep(CHECK_SECONDS if self.is_storing else AWAY_SECONDS)

    def close(self) -> None:
        """End `run` after a last tick."""
        self._closing = True
        self._work.set()

    async def tick(self) -> None:
        """Store what is staged, retrying while the database refuses it, and publish it.

        Raises errors that no retry can fix: after that nothing is shown, and the server has to be started again.
        """
        await self._store_staged()
        self._hub.publish()

    async def _rest(self) -> None:
        """Let the time to the next tick pass, and store early what callers wait for."""
        left, rest = INTERVAL_SECONDS, GROUP_SECONDS
        while left > 0:
            rest = min(left, rest)
            await self._clock.sleep(rest)
            left, rest = left - rest, GROUP_SECONDS
            if self._staged.waiters:
                began = self._clock.monotonic()
                await self._store_staged()
                self._work.set()  # the next tick publishes it, even if nothing else comes
                taken = self._clock.monotonic() - began
                left, rest = left - taken, max(rest, taken * (1 / MAX_EARLY_SHARE - 1))

    async def _store_staged(self) -> None:
        staged, self._staged = self._staged, Staged()
        if not self._closing:
            self._work.clear()
        if not staged:
            self._staged.forecasts += staged.forecasts
            return
        try:
            lossless, percents = self._stamped(staged)
            tick, began = self._transaction(staged, lossless, percents), self._clock.monotonic()
            await self._commit(tick, staged)
        except Exception:
            self._fail(staged)
            raise
        self._hub.take(lossless, percents)
        self._on_stored(tick, self._clock.monotonic() - began)
        _finish(staged.waiters, None)

    def _stamped(self, staged: Staged) -> tuple[list[Entry], list[Change]]:
        numbers = count(self._hub.stored_seq + 1)
        lossless = [_with_seq(entry, next(numbers)) for entry in staged.lossless]
        return lossless, [Change(job.snapshot().evolve(seq=next(numbers))) for job in staged.percents.values()]

    def _transaction(self, staged: Staged, entries: Sequence[Entry], percents: Sequence[Change]) -> Tick:
        lossless = [entry for entry in entries if isinstance(entry, Change)]
        steps = list(self._steps(change.job for change in lossless))
        milestones = (Milestone.between(earlier, job) for earlier, job in steps)
        events = (event_between(earlier, job) for earlier, job in steps)
        told = [NewNotification.of(change, event) for change, event in zip(lossless, events, strict=True) if event]
        recorded = (*lossless, *(change for change in percents if self._is_worth_recording(change.job)))
        for change in lossless:
            if change.job.is_finished:
                self._recorded.pop(change.job_id, None)
        newest = {change.job_id: change.job for change in (*lossless, *percents)}
        last = {entry.job_id: entry for entry in entries}
        removals = [entry for entry in last.values() if isinstance(entry, Removal)]
        return Tick(
            new=[replace(new, job=newest.pop(new.job.id)) for new in staged.new],
            jobs=list(newest.values()),
            events=recorded,
            removed=[
                RemovedJob(removal.job_id, removal.owner_id, removal.seq, removal.job_id in staged.deleted)
                for removal in removals
            ],
            videos=staged.videos,
            resets=staged.resets,
            milestones=[milestone for milestone in milestones if milestone is not None],
            forecasts=staged.forecasts,
            actions=staged.actions,
            notifications=[*(new for new in staged.notifications if self._is_there(new, newest)), *told],
            measures=[measure for earlier, job in steps for measure in job_measures(earlier, job)],
        )

    def _is_there(self, new: NewNotification, newest: Mapping[str, Job]) -> bool:
        """Return True unless the event is about a job that has left: it may have been deleted."""
        return new.job_id is None or new.job_id in newest or self._hub.job(new.job_id) is not None

    def _steps(self, states: Iterable[Job]) -> Iterator[tuple[Job | None, Job]]:
        """Yield each of these states behind the state of its job before; None for a job that was not here."""
        before: dict[str, Job] = {}
        for job in states:
            yield before.get(job.id) or self._hub.job(job.id), job
            before[job.id] = job

    def _is_worth_recording(self, job: Job) -> bool:
        """Return True for a percent that history keeps: the next one, or the same after a second."""
        progress, at = self._recorded.get(job.id, (-1, job.updated_at))
        if job.progress == progress and (job.updated_at - at).total_seconds() < THINNING_SECONDS:
            return False
        self._recorded[job.id] = (job.progress, job.updated_at)
        return True

    async def _commit(self, tick: Tick, staged: Staged) -> None:
        self._committing = staged
        try:
            while not await self._is_stored(tick):
                await first_completed(self._clock.sleep(RETRY_SECONDS), self._answers.wait())
        finally:
            self._committing, self._retrying = None, False
        self._set_storing(True)

    async def _is_stored(self, tick: Tick) -> bool:
        try:
            await self._store.commit(tick)
        except StoreRefused as error:
            if self._closing:
                raise
            if not self._retrying:  # once for each absence, which may be long
                log.exception("the database refused a tick; it is tried again", extra={"action": "tick_refused"})
            self._retrying = True
            self._refuse(error)
            return False
        return True

    def _refuse(self, error: StoreRefused) -> None:
        """Let nothing new begin, and fail the callers that do not wait, until the database takes things again."""
        self._refusal = error.sentence
        self._set_storing(False)
        self._answers.clear()
        for staged in (self._committing, self._staged):
            if staged is not None:
                staged.reject_impatient(error.sentence)

    def _set_storing(self, is_storing: bool) -> None:
        now, before = (self._storing, self._refusing) if is_storing else (self._refusing, self._storing)
        before.clear()
        now.set()

    def _fail(self, staged: Staged | None) -> None:
        self._failed = True
        self._set_storing(False)
        _finish((*(staged.waiters if staged else ()), *self._staged.waiters), StoreRefused())


def _with_seq(entry: Job | Removal, seq: int) -> Entry:
    return Change(entry.evolve(seq=seq)) if isinstance(entry, Job) else replace(entry, seq=seq)


def _finish(waiters: Iterable[Waiter], error: StoreRefused | None) -> None:
    for waiter in waiters:
        if waiter.stored.done():  # its caller was cancelled
            continue
        if error is None:
            waiter.stored.set_result(None)
        else:
            waiter.stored.set_exception(error)
