"""Steering: who may do what to a job, and what happens then. The one entry point for cards, routes and commands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from types import MappingProxyType
from weakref import WeakValueDictionary

from backend.clock import Clock
from backend.delivery.journal import Journal
from backend.domain import messages
from backend.domain.auth import User
from backend.domain.job import Action, Job, Selection, Source
from backend.domain.many import MAX_JOBS_AT_ONCE, ManyDone, Refusal
from backend.domain.timeline import SharedAction
from backend.domain.video import Video
from backend.errors import Conflict, DashboardError, Invalid, StoreRefused
from backend.jobs.active import ActiveJob, ActiveJobs, FailureStreak
from backend.jobs.executor import Executor, enqueue
from backend.jobs.external import ExternalJobs
from backend.jobs.queries import JobQueries
from backend.jobs.submission import Order, Submission, checked_key
from backend.lists.csv_files import VideoList, list_of_ids
from backend.media.sources import MediaSources
from backend.store import Store
from backend.store.changes import NewJob, Reset
from backend.store.videos import RetryScope
from progress_dashboard.protocol import CANCEL, PAUSE, Status

log = logging.getLogger(__name__)
INSERTED_AT_ONCE = 2_000
MAX_RETRIED_IDS, MAX_RETRIED_GROUPS = 10_000, 1_000
MAX_PRIORITY = 1_000
MANY_AT_ONCE = 16  # of many jobs; some actions read the database, and other callers read it, too
JobsInFlight = Callable[[Iterable[str]], Awaitable[Set[str]]]
"""Returns those of the jobs whose videos go on, on workers, since an earlier run of the server."""


class JobManager:
    """Decides what becomes of jobs. The journal stores and shows what it decides with its next tick."""

    def __init__(
        self,
        *,
        store: Store,
        journal: Journal,
        active: ActiveJobs,
        queries: JobQueries,
        external: ExternalJobs,
        executor: Executor,
        sources: MediaSources,
        clock: Clock,
        jobs_in_flight: JobsInFlight | None = None,
    ) -> None:
        self._store = store
        self._journal = journal
        self._active = active
        self._queries = queries
        self._external = external
        self._executor = executor
        self._sources = sources
        self._clock = clock
        self._jobs_in_flight = jobs_in_flight
        self._together: dict[tuple[str, str], int] = {}  # job and user -> how many jobs they act on at once
        self._locks: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()
        self._actions = MappingProxyType(
            {
                Action.CANCEL: self.cancel,
                Action.PAUSE: self.pause,
                Action.RESUME: self.resume,
                Action.KEEP: self.keep,
                Action.DISMISS: self.dismiss,
                Action.RUN_NEXT: self.run_next,
                Action.RUN_LAST: self.run_last,
                Action.DELETE: self.delete,
            }
        )

    async def recover(self) -> None:
        """Continue where the last run of the server ended: what was running here waits again."""
        await self._store.videos.delete_orphans()
        jobs = await self._store.jobs.on_dashboard()
        self._active.load(jobs)
        by_age = sorted(jobs, key=lambda job: (job.created_at, job.id))
        unfinished = {job.id: job for job in by_age if not job.is_finished}  # these are all on the dashboard
        await self._store.videos.reset_running(unfinished)
        in_flight = await self._in_flight([job.id for job in unfinished.values() if job.requested])
        for job in unfinished.values():
            if job.is_external:
                await self._external.load_failures(job.id)
            elif active := self._active.get(job.id):
                await self._recover(active, is_in_flight=job.id in in_flight)

    async def submit(
        self, videos: VideoList, order: Order, *, by: User, idempotency_key: str | None = None
    ) -> Submission:
        """Create a job for the list, durable when this returns.

        With an idempotency key that this user used before, returns the job that it created then. Raises `Conflict` if
        that was for another list.
        """
        order.checked_options()
        if idempotency_key is None:
            return await self._create(videos, order, by, None)
        key = checked_key(idempotency_key)
        request_hash = await asyncio.to_thread(order.request_hash, videos)
        async with self._lock(by.id, key):
            await self._journal.durable(patient=False)  # a job with this key may have been refused, and still come
            made = await self._store.jobs.made_with_key(by.id, key)
            if made is None:
                return await self._create(videos, order, by, (key, request_hash))
        job_id, earlier_hash = made
        if earlier_hash != request_hash:
            raise Conflict("This Idempotency-Key already created a job from another list; use a new key.")
        return Submission(await self._queries.find(job_id, by=by), videos.duplicates, videos.invalid)

    async def run_demo(self, *, by: User) -> Job:
        """Create the demo: a real job over generated clips, some of them damaged on purpose."""
        demo = self._sources.demo
        await demo.prepare()
        order = Order(name="Demo", options=demo.options, source=Source.DEMO)
        return (await self.submit(list_of_ids(demo.video_ids), order, by=by)).job

    async def act(
        self,
        job_id: str,
        action: Action,
        *,
        by: User,
        selection: Selection | None = None,
        priority: int | None = None,
    ) -> Job | None:
        """Do what a user asks of a job; returns its state once stored, None for a deleted job.

        `selection` belongs to `RETRY`, `priority` to `PRIORITISE`. Doing it twice, or too late, is not an error; what
        cannot be done raises `Conflict` with the reason.
        """
        if action is Action.RETRY:
            return await self.retry(job_id, selection or Selection(), by=by)
        if action is Action.RETRY_ALL:
            return await self.retry(job_id, Selection(everything=True), by=by)
        if action is Action.PRIORITISE:
            if priority is None:
                raise Invalid("priority is missing.")
            return await self.prioritise(job_id, priority, by=by)
        return await self._actions[action](job_id, by=by)

    async def act_on_many(
        self, job_ids: Sequence[str], action: Action, *, by: User, selection: Selection | None = None
    ) -> ManyDone:
        """Do what a user asks of many jobs. What is refused for one of them does not stop the others.

        They share ticks, and a few at a time are under way, so that nobody else waits. Raises `Invalid` for no job and
        for too many.
        """
        wanted = list(dict.fromkeys(job_ids))
        if not wanted:
            raise Invalid("No job is selected; select one or more.")
        if len(wanted) > MAX_JOBS_AT_ONCE:
            raise Invalid(f"At most {MAX_JOBS_AT_ONCE:,} jobs can be named at once; name fewer.")
        waiting, refused = iter(wanted), dict[str, Refusal]()

        async def work() -> None:
            for job_id in waiting:
                try:
                    with self._acting_together(job_id, by, len(wanted)):
                        await self.act(job_id, action, by=by, selection=selection)
                except DashboardError as error:
                    refused[job_id] = Refusal(job_id, error.sentence)

        await asyncio.gather(*(work() for _ in range(min(MANY_AT_ONCE, len(wanted)))))
        extra = {"action": "many_jobs", "asked": action.value, "jobs": len(wanted), "refused": len(refused)}
        log.info("%s requested of many jobs", action, extra={**extra, "user": by.name})
        done = [job_id for job_id in wanted if job_id not in refused]
        return ManyDone(done, [refused[job_id] for job_id in wanted if job_id in refused])

    async def cancel(self, job_id: str, *, by: User) -> Job:
        """Stop the job: it is cancelled after all its processes have exited. Finished videos keep their results."""
        active = self._active.unfinished(job_id, by)
        if active is None or active.job.requested == CANCEL:
            return await self._newest(job_id, by)
        if active.job.status is Status.PROCESSING and not active.job.is_external:
            self._active.request(active, CANCEL, messages.CANCELLING)
            active.stop.kill()
        else:
            self._active.change(active, active.job.cancelled(at=self._clock.now()))
            await self._executor.withdraw(job_id)
        return await self._answer(Action.CANCEL, job_id, by)

    async def pause(self, job_id: str, *, by: User) -> Job:
        """Start no further videos of the job: it is paused after the running ones have ended."""
        active = self._active.unfinished(job_id, by)
        if active is None or active.job.requested or active.job.status is Status.PAUSED:
            return await self._newest(job_id, by)
        _require_internal(active.job, "paused")
        if active.job.status is Status.PROCESSING:
            active.stop.drain()
            self._active.request(active, PAUSE, messages.pausing(active.snapshot().running))
        else:
            self._active.change(active, active.job.paused(at=self._clock.now()))
            await self._executor.withdraw(job_id)
        return await self._answer(Action.PAUSE, job_id, by)

    async def resume(self, job_id: str, *, by: User) -> Job:
        """Continue a paused job, or withdraw the request to pause it."""
        active = self._active.unfinished(job_id, by)
        if active is None:
            return await self._newest(job_id, by)
        _require_internal(active.job, "resumed")
        if active.job.requested == CANCEL:
            raise Conflict("This job is being cancelled; retry it when it has ended.")
        if active.job.status is Status.PAUSED:
            await enqueue(self._executor, self._active.change(active, active.job.enqueued(at=self._clock.now())))
        elif active.job.requested == PAUSE:
            active.streak = FailureStreak()
            # The stop signal stays: the executor drains, releases the lease, and the job is queued again.
            self._active.request(active, None, messages.PROCESSING)
        else:
            return await self._newest(job_id, by)
        return await self._answer(Action.RESUME, job_id, by)

    async def retry(self, job_id: str, selection: Selection, *, by: User) -> Job:
        """Start the next attempt at the selected videos and those without a result. Earlier results are kept.

        Raises `Conflict` if there is nothing to retry or the job cannot be retried, and `Invalid` for videos that are
        not in the job.
        """
        async with self._lock("control", job_id):
            job = await self._newest(job_id, by)
            _require_internal(job, "retried")
            if not job.is_finished:
                if self._is_repeated(job, selection):
                    return job
                raise Conflict("This job has not ended yet; retry its videos when it has.")
            scope = await self._retry_scope(job, selection)
            if not scope.videos:
                raise Conflict("There is nothing to retry: none of these videos failed or was left out.")
            active = self._active.revive(job)
            active.retried = selection
            failed = job.failed - scope.failed
            job = active.job.retried(scope.videos, failed=failed, error=scope.error_left, at=self._clock.now())
            await enqueue(self._executor, self._active.change(active, job, resets=(Reset(job_id, selection),)))
            return await self._answer(Action.RETRY, job_id, by)

    async def keep(self, job_id: str, *, by: User) -> Job:
        """Pin the job to the dashboard until it is dismissed."""
        await self._queries.find(job_id, by=by)
        active = self._active.get(job_id)
        if active is None or active.job.pinned:
            return await self._newest(job_id, by)
        self._active.change(active, active.snapshot().evolve(pinned=True))
        return await self._answer(Action.KEEP, job_id, by)

    async def dismiss(self, job_id: str, *, by: User) -> Job:
        """Remove an ended job from the dashboard now. It stays in History."""
        await self._queries.find(job_id, by=by)
        active = self._active.get(job_id)
        if active is not None:
            if not active.job.is_finished:
                raise Conflict("This job has not ended yet; cancel it first.")
            self._active.remove(active.job)
        return await self._answer(Action.DISMISS, job_id, by)

    async def prioritise(self, job_id: str, priority: int, *, by: User) -> Job:
        """Put the waiting job before those of its owner with a lower priority; once it runs, nothing happens."""
        if abs(priority) > MAX_PRIORITY:
            raise Invalid(f"priority must be from -{MAX_PRIORITY:,} to {MAX_PRIORITY:,}.")
        active = self._active.unfinished(job_id, by)
        if active is None or active.job.status is Status.PROCESSING or active.job.priority == priority:
            return await self._newest(job_id, by)
        _require_internal(active.job, "prioritised")
        job = self._active.change(active, active.job.evolve(priority=priority))
        if job.status is Status.PENDING:
            await enqueue(self._executor, job)
        return await self._answer(Action.PRIORITISE, job_id, by)

    async def run_next(self, job_id: str, *, by: User) -> Job:
        """Put the waiting job before all others of its owner."""
        highest = max(await self._other_priorities(job_id, by), default=0)
        return await self.prioritise(job_id, min(highest + 1, MAX_PRIORITY), by=by)

    async def run_last(self, job_id: str, *, by: User) -> Job:
        """Put the waiting job behind all others of its owner."""
        lowest = min(await self._other_priorities(job_id, by), default=0)
        return await self.prioritise(job_id, max(lowest - 1, -MAX_PRIORITY), by=by)

    async def delete(self, job_id: str, *, by: User) -> None:
        """Delete an ended job from History too: it is gone at once, and its rows and files soon after."""
        async with self._lock("control", job_id):
            job = await self._newest(job_id, by)
            if not job.is_finished:
                raise Conflict("This job has not ended yet; cancel it first.")
            self._active.remove(job, is_deleted=True)
            log.info("job deleted", extra={"action": "job_deleted", "job_id": job_id, "user": by.name})
            await self._journal.durable(patient=False)

    def remove_from_dashboard(self, leaves: Callable[[Job, datetime], bool]) -> None:
        """Remove the finished jobs for which `leaves(job, now)` holds. They stay in History."""
        now = self._clock.now()
        for active in self._active:
            if active.job.is_finished and leaves(active.job, now):
                self._active.remove(active.job)

    @contextmanager
    def _acting_together(self, job_id: str, by: User, jobs: int) -> Iterator[None]:
        """Let the timeline of the job tell that this is done to several jobs at once."""
        if jobs > 1:
            self._together[job_id, by.id] = jobs
        try:
            yield
        finally:
            self._together.pop((job_id, by.id), None)

    async def _in_flight(self, job_ids: Sequence[str]) -> Set[str]:
        return await self._jobs_in_flight(job_ids) if job_ids and self._jobs_in_flight else set()

    async def _recover(self, active: ActiveJob, *, is_in_flight: bool) -> None:
        """Let the job wait again. What was requested of it happens now, or when its videos on workers have ended."""
        job, now = active.job, self._clock.now()
        if job.status is Status.PROCESSING and is_in_flight:
            active.is_left_over = True
            await enqueue(self._executor, job)
        elif job.status is Status.PROCESSING:
            job = self._active.change(active, job.released(at=now, message=messages.WAITING_AFTER_RESTART))
        if job.status is Status.PENDING:
            await enqueue(self._executor, job)

    async def _create(self, videos: VideoList, order: Order, by: User, key: tuple[str, str] | None) -> Submission:
        found = await self._count_found(videos, order)
        job = order.job(videos, by=by, found=found, at=self._clock.now())
        await self._store_videos(job.id, videos)
        self._active.add(NewJob(job=job, columns=videos.columns, idempotency=key))
        try:
            stored = await self._stored_new(job)
        finally:  # a job that cannot be stored yet, or that nobody waits for any more, still comes
            if not job.is_external:
                await enqueue(self._executor, job)
        log.info("job submitted", extra={"action": "job_submitted", "job_id": job.id, "user": job.owner})
        return Submission(stored, videos.duplicates, videos.invalid)

    async def _stored_new(self, job: Job) -> Job:
        try:
            return await self._active.stored(job.id) or job
        except StoreRefused as error:
            raise error.with_advice("the job appears and starts as soon as it can, so do not send it again.") from None

    async def _count_found(self, videos: VideoList, order: Order) -> int:
        """Return how many of the videos have a file; an external job needs none here."""
        if order.is_external:
            return len(videos.rows)
        return await self._sources.of(order.source).count_found([row.video_id for row in videos.rows])

    async def _store_videos(self, job_id: str, videos: VideoList) -> None:
        rows = (
            Video(job_id=job_id, position=position, video_id=row.video_id, line=row.line, cells=row.cells)
            for position, row in enumerate(videos.rows)
        )
        while chunk := list(islice(rows, INSERTED_AT_ONCE)):
            await self._store.videos.add(chunk)

    async def _newest(self, job_id: str, by: User) -> Job:
        """Return the job as it was decided last, which is stored when this returns."""
        if self._active.visible(job_id, by) is None:
            # Ask the store first: a job of another user answers the same while nothing can be stored.
            await self._queries.find(job_id, by=by)
        return await self._active.stored(job_id) or await self._queries.find(job_id, by=by)

    async def _answer(self, action: Action, job_id: str, by: User) -> Job:
        """Return the job once the request is stored. Raises `StoreRefused`, saying that it follows, if it must wait."""
        if number := self._together.get((job_id, by.id)):  # in the tick of the change itself
            self._journal.stage_action(SharedAction(job_id, self._clock.now(), action, by.name, number))
        extra = {"action": f"{action}_requested", "job_id": job_id, "user": by.name}
        log.info("%s requested", action, extra=extra)
        try:
            return await self._active.stored(job_id) or await self._queries.find(job_id, by=by)
        except StoreRefused as error:
            raise error.with_advice("what you asked for happens as soon as it can be.") from None

    async def _retry_scope(self, job: Job, selection: Selection) -> RetryScope:
        if selection.video_ids is not None:
            if len(selection.video_ids) > MAX_RETRIED_IDS:
                raise Invalid(f"At most {MAX_RETRIED_IDS:,} videos can be named in one retry; retry all instead.")
            await self._store.videos.positions(job.id, set(selection.video_ids))
        if selection.groups is not None and len(selection.groups) > MAX_RETRIED_GROUPS:
            raise Invalid(f"At most {MAX_RETRIED_GROUPS:,} causes can be named in one retry; retry all instead.")
        return await self._store.videos.retry_scope(job.id, selection)

    def _is_repeated(self, job: Job, selection: Selection) -> bool:
        """Return True if the running attempt began with this selection; unknown after a restart."""
        active = self._active.get(job.id)
        return job.attempt > 1 and active is not None and active.retried in (None, selection)

    async def _other_priorities(self, job_id: str, by: User) -> list[int]:
        job = await self._queries.find(job_id, by=by)
        waiting = (active.job for active in self._active if active.job.status is Status.PENDING)
        return [other.priority for other in waiting if other.owner_id == job.owner_id and other.id != job_id]

    def _lock(self, *what: str) -> asyncio.Lock:
        """Return the lock of what is named."""
        return self._locks.setdefault(what, asyncio.Lock())


def _require_internal(job: Job, done: str) -> None:
    if job.is_external:
        raise Conflict(f"This is an external job; it can only be {done} by the program that runs it.")
