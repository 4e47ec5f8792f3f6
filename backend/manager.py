"""The one door to jobs, for pages, routes, commands, executors and timers: who may, what happens, what is told."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from backend.auth import User
from backend.causes import fingerprint
from backend.clock import Clock, to_millis
from backend.csv_files import Duplicate, Problem, VideoList, list_of_ids
from backend.demo import DemoClips
from backend.elsewhere import checked_reports, heard, new_reports
from backend.errors import Conflict, Fault, Invalid, JobNotFound, NotFound, StoreRefused
from backend.executors import Executor
from backend.hub import ProgressHub, Reader
from backend.jobs import (
    CANCEL,
    ELSEWHERE,
    LONGEST_ERROR,
    LONGEST_TEXT,
    PAUSE,
    WORKING,
    Cause,
    Job,
    Outcome,
    Selection,
    SenderReport,
    Source,
    Status,
    Timeline,
    Times,
    Video,
    VideoStatus,
    checked_text,
    counted,
)
from backend.media import MediaDirectory, MediaSource
from backend.processors import validated_options
from backend.settings import PAUSE_AFTER_FAILURES
from backend.store import SORTS, JobStore, NewJob, Page, Reset, Selected, VideoChange
from backend.store.jobs import MOST_CAUSES as MOST_CAUSES  # what `causes` gives at most, for who shows them

log = logging.getLogger(__name__)
INSERTED_AT_ONCE = 2_000
TODO_AT_ONCE = 200
RETRY_SECONDS = 1.0
MAX_PAGE = 1_000
MAX_NAME = 200
MAX_RETRIED_IDS, MAX_RETRIED_GROUPS = 10_000, 1_000
MOST_PRIORITY = 1_000


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that was made, and what its list had besides: `found` and `missing` count files in the media directory."""

    job: Job
    duplicates: tuple[Duplicate, ...]
    invalid: tuple[Problem, ...]
    found: int
    missing: int


@dataclass(frozen=True, slots=True)
class Started:
    """A video's process begins."""

    video: Video


@dataclass(frozen=True, slots=True)
class Moved:
    """A running video got to `fraction` (0 to 1) of its work; `doing` is a word such as "decoding"."""

    video: Video
    fraction: float
    doing: str


@dataclass(frozen=True, slots=True)
class TriedInVain:
    """A try at a video failed in a way that may pass; there will be another one in `seconds`."""

    video: Video
    error: str
    fault: Fault
    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """A video has its result, after so many tries: `error`, `traceback` and `fault`, or `result`."""

    video: Video
    started_at: datetime
    duration_seconds: float
    result: Mapping[str, Any] | None = None
    error: str | None = None
    traceback: str | None = None
    fault: Fault | None = None
    tries: int = 1


Report = Started | Moved | TriedInVain | Ended


class Position(msgspec.Struct):
    """Of an encoded update, where it stands."""

    seq: int


@dataclass(frozen=True, slots=True)
class Streak:
    """Failures in a row, since a video went well, for one cause that lies with the machine."""

    cause: str = ""
    failures: int = 0

    def after(self, cause: str) -> Streak:
        """With one more failure."""
        return Streak(cause, self.failures + 1 if cause == self.cause else 1)


@dataclass
class InMotion:
    """A job that is unfinished or on the dashboard, with the shares of its running videos by position.

    `step`: the newest one of its videos, not yet in `job`. `halt` is set when whoever works on it is to begin no more
    videos. `retried` is what the current attempt took, if it began in this life of the server. Of a job that runs
    elsewhere: the positions of its failed videos, and when (monotonic) its sender was last heard.
    """

    job: Job
    heard_at: float
    fractions: dict[int, float] = field(default_factory=dict)
    step: tuple[Video, str, datetime] | None = None
    halt: asyncio.Event = field(default_factory=asyncio.Event)
    in_vain: Streak = Streak()
    retried: Selection | None = None
    failed: set[int] = field(default_factory=set)

    def change(self, job: Job) -> None:
        """The job's next state, which takes the videos' steps so far into account."""
        self.job, self.step = job, None

    def newest(self) -> Job:
        """The job with the newest step in it."""
        if self.step is not None:
            video, doing, at = self.step
            shares = self.fractions.values()
            self.change(
                self.job.moved(fractions=sum(shares), running=len(shares), video_id=video.video_id, doing=doing, at=at)
            )
        return self.job


class JobManager:
    """Decides what becomes of jobs. What it decides is stored and shown by the hub's next tick."""

    def __init__(
        self,
        *,
        store: JobStore,
        hub: ProgressHub,
        executor: Executor,
        media: MediaDirectory,
        demo: DemoClips,
        clock: Clock,
        pause_after_failures: int = PAUSE_AFTER_FAILURES,
    ) -> None:
        self._store = store
        self._hub = hub
        self._executor = executor
        self._media = media
        self._demo = demo
        self._clock = clock
        self._pause_after_failures = pause_after_failures
        self._moving: dict[str, InMotion] = {}
        self._stopping = False
        self._turns: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    async def recover(self) -> None:
        """Take up where the last life of the server ended: what was running here is in line again."""
        await self._store.forget_unborn()
        await self._store.take_back_running()
        on_dashboard = {job.id: job for job in await self._store.on_dashboard()}
        unfinished = {job.id: job for job in await self._store.unfinished()}
        now = self._clock.monotonic()
        self._moving = {job.id: InMotion(job, now) for job in (on_dashboard | unfinished).values()}
        for job in unfinished.values():
            if job.is_elsewhere:
                self._moving[job.id].failed = await self._store.failed_positions(job.id)
                continue
            if job.status is Status.PROCESSING:
                job = self._decide(job.let_go(at=self._clock.now(), message="Waiting to go on after a restart"))
            if job.status is Status.PENDING:
                await self._line_up(job)

    def wind_down(self) -> None:
        """Have no more videos begun; the server stops."""
        self._stopping = True
        for moving in self._moving.values():
            moving.halt.set()

    async def submit(
        self,
        videos: VideoList,
        *,
        by: User,
        name: str,
        processor: str = "probe",
        options: Mapping[str, Any] | None = None,
        source: Source = Source.MEDIA,
        idempotency_key: str | None = None,
    ) -> Submission:
        """A new job for the list, durable when this returns; with the processor `ELSEWHERE` its sender works on it.

        With an idempotency key that this user used before: the job it made then; `Conflict` if that was another list.
        """
        job = self._new_job(by, _title(name), processor, source)
        job = job.evolve(
            options=_checked_options(processor, options or {}),
            total_videos=len(videos.rows),
            left_out=videos.total_rows - len(videos.rows),
        )
        if idempotency_key is None:
            return await self._create(job, videos, None)
        key = _checked_key(idempotency_key)
        request_hash = await asyncio.to_thread(_request_hash, job, videos)
        async with self._turn(by.id, key):
            await self._hub.durable(patient=False)  # one with this key may have been refused, and still come to be
            repeated = await self._store.repeated(by.id, key)
            if repeated is None:
                return await self._create(job, videos, (key, request_hash))
        job_id, earlier_hash = repeated
        if earlier_hash != request_hash:
            raise Conflict("This Idempotency-Key already made a job from another list; use a new key.")
        return _submission(await self.find(job_id, by=by), videos)

    async def run_demo(self, *, by: User) -> Job:
        """The demo: a real job over generated clips, some of them broken on purpose."""
        await self._demo.prepare()
        videos = list_of_ids(self._demo.video_ids)
        submission = await self.submit(videos, by=by, name="Demo", options=self._demo.options, source=Source.DEMO)
        return submission.job

    async def cancel(self, job_id: str, *, by: User) -> Job:
        """Stop the job's work: cancelled once all its processes are dead; what is done stays.

        Twice, or too late, is not an error.
        """
        moving = self._unfinished(job_id, by)
        if moving is None or moving.job.requested == CANCEL:
            return await self._newest(job_id, by)
        if moving.job.status is Status.PROCESSING and not moving.job.is_elsewhere:
            moving.halt.set()
            self._ask(moving, CANCEL, "Cancelling...")
        else:
            self._decide(moving.job.cancelled(at=self._clock.now()))
        await self._executor.cancel(job_id)
        return await self._answer("cancel", job_id, by)

    async def pause(self, job_id: str, *, by: User) -> Job:
        """Begin no more of the job's videos: paused once those that run have ended. Too late is not an error."""
        moving = self._unfinished(job_id, by)
        if moving is None or moving.job.requested or moving.job.status is Status.PAUSED:
            return await self._newest(job_id, by)
        _require_here(moving.job, "paused")
        if moving.job.status is Status.PROCESSING:
            moving.halt.set()
            self._ask(moving, PAUSE, _pausing(moving.newest()))
        else:
            self._decide(moving.job.paused(at=self._clock.now()))
            await self._executor.cancel(job_id)
        return await self._answer("pause", job_id, by)

    async def resume(self, job_id: str, *, by: User) -> Job:
        """Go on with a paused job, or take back the wish to pause it; where nothing is paused, nothing happens."""
        moving = self._unfinished(job_id, by)
        if moving is None:
            return await self._newest(job_id, by)
        _require_here(moving.job, "resumed")
        if moving.job.requested == CANCEL:
            raise Conflict("This job is being cancelled; retry it when it has ended.")
        if moving.job.status is Status.PAUSED:
            await self._line_up(self._decide(moving.job.lined_up(at=self._clock.now())))
        elif moving.job.requested == PAUSE:
            moving.in_vain = Streak()
            self._ask(moving, None, WORKING)  # whoever halts already lets go of it, and then it goes on
        else:
            return await self._newest(job_id, by)
        return await self._answer("resume", job_id, by)

    async def retry(self, job_id: str, selection: Selection, *, by: User) -> Job:
        """The job's next attempt, at the selected videos and those that were never done; earlier results are kept.

        Said twice, it is not an error. Raises `Conflict` when there is nothing to retry, or it cannot be retried, and
        `Invalid` for videos that are not in the job.
        """
        async with self._turn("control", job_id):
            job = await self._newest(job_id, by)
            _require_here(job, "retried")
            if not job.is_finished:
                if self._is_repeated(job, selection):
                    return job
                raise Conflict("This job has not ended yet; retry its videos when it has.")
            selected = await self._selected(job, selection)
            if not selected.videos:
                raise Conflict("There is nothing to retry: none of these videos failed or was left out.")
            moving = self._moving.setdefault(job.id, InMotion(job, self._clock.monotonic()))
            moving.retried = selection
            job = moving.job.retried(
                selected.videos,
                failed=job.failed - selected.failed,
                error=selected.error_left,
                at=self._clock.now(),
            )
            await self._line_up(self._decide(job, resets=(Reset(job_id, selection),)))
            return await self._answer("retry", job_id, by)

    async def keep(self, job_id: str, *, by: User) -> Job:
        """Have the job stay on the dashboard until it is dismissed; too late is not an error."""
        await self.find(job_id, by=by)
        moving = self._moving.get(job_id)
        if moving is None or moving.job.kept:
            return await self._newest(job_id, by)
        self._decide(moving.newest().evolve(kept=True))
        return await self._answer("keep", job_id, by)

    async def dismiss(self, job_id: str, *, by: User) -> Job:
        """Take an ended job off the dashboard now; it stays in History."""
        await self.find(job_id, by=by)
        moving = self._moving.get(job_id)
        if moving is not None:
            if not moving.job.is_finished:
                raise Conflict("This job has not ended yet; cancel it first.")
            self._remove(moving.job)
        return await self._answer("dismiss", job_id, by)

    async def prioritise(self, job_id: str, priority: int, *, by: User) -> Job:
        """Put the waiting job before those of its owner with a lower priority; once it runs, nothing happens."""
        if abs(priority) > MOST_PRIORITY:
            raise Invalid(f"priority must be from -{MOST_PRIORITY:,} to {MOST_PRIORITY:,}.")
        moving = self._unfinished(job_id, by)
        if moving is None or moving.job.status is Status.PROCESSING or moving.job.priority == priority:
            return await self._newest(job_id, by)
        _require_here(moving.job, "put in another place of the line")
        job = self._decide(moving.job.evolve(priority=priority))
        if job.status is Status.PENDING:
            await self._line_up(job)
        return await self._answer("prioritise", job_id, by)

    async def run_next(self, job_id: str, *, by: User) -> Job:
        """Put the waiting job before the others of its owner that wait, as far as priorities go."""
        others = await self._other_priorities(job_id, by)
        return await self.prioritise(job_id, min(MOST_PRIORITY, max(others, default=0) + 1), by=by)

    async def run_last(self, job_id: str, *, by: User) -> Job:
        """Put the waiting job behind the others of its owner that wait, as far as priorities go."""
        others = await self._other_priorities(job_id, by)
        return await self.prioritise(job_id, max(-MOST_PRIORITY, min(others, default=0) - 1), by=by)

    async def delete(self, job_id: str, *, by: User) -> None:
        """Take an ended job out of History too: it is gone at once, and its rows and files soon after."""
        async with self._turn("control", job_id):
            job = await self._newest(job_id, by)
            if not job.is_finished:
                raise Conflict("This job has not ended yet; cancel it first.")
            self._moving.pop(job_id, None)
            self._hub.stage_deletion(job)
            log.info("job deleted", extra={"action": "job_deleted", "job_id": job_id, "user": by.name})
            await self._hub.durable(patient=False)

    async def causes(self, job_id: str, *, by: User) -> list[Cause]:
        """Why the job's failed videos failed, the cause of most videos first."""
        await self.find(job_id, by=by)
        return await self._store.causes(job_id)

    async def outcomes(self, job_id: str, position: int, *, by: User) -> list[Outcome]:
        """What came of each attempt at one video, oldest first."""
        await self.find(job_id, by=by)
        return await self._store.outcomes(job_id, position)

    async def timeline(self, job_id: str, *, by: User) -> Timeline:
        """What happened to the job as a whole, for as long as there is a record of it."""
        await self.find(job_id, by=by)
        return await self._store.timeline(job_id)

    async def find(self, job_id: str, *, by: User) -> Job:
        """The job; `JobNotFound` also for somebody else's."""
        job = await self._store.find(job_id, owner_id=seen_by(by))
        if job is None:
            raise JobNotFound
        return job

    async def jobs(
        self,
        *,
        by: User,
        dashboard: bool | None = None,
        status: Status | None = None,
        q: str = "",
        sort: str = "newest",
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Job]:
        """A page of the jobs that this user may see."""
        if sort not in SORTS:
            raise Invalid(f"sort must be one of {', '.join(SORTS)}.")
        return await self._store.jobs(
            owner_id=seen_by(by),
            dashboard=dashboard,
            status=status,
            q=checked_text(q, "q"),
            sort=sort,
            limit=_checked_limit(limit),
            cursor=cursor,
        )

    async def videos(
        self,
        job_id: str,
        *,
        by: User,
        status: VideoStatus | None = None,
        q: str = "",
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Video]:
        """A page of a job's videos with their newest results."""
        await self.find(job_id, by=by)
        sought = checked_text(q, "q")
        return await self._store.videos(job_id, status=status, q=sought, limit=_checked_limit(limit), cursor=cursor)

    async def video(self, job_id: str, position: int, *, by: User) -> Video:
        """One video of a job, by its position."""
        await self.find(job_id, by=by)
        video = await self._store.video(job_id, position)
        if video is None:
            raise NotFound("There is no such video in this job.")
        return video

    async def outcomes_strip(self, job_id: str, *, by: User) -> str:
        """How each video of a job stands, a character of `OUTCOME_MARKS` each, in the order of the list."""
        await self.find(job_id, by=by)
        return await self._store.outcomes_strip(job_id)

    async def times(self, job_id: str, *, by: User) -> Times:
        """How long the job's videos took, by their newest results."""
        job = await self.find(job_id, by=by)
        return await self._store.times(job_id, job.attempt)

    async def columns(self, job_id: str, *, by: User) -> tuple[str, ...]:
        """The header of the job's own list."""
        await self.find(job_id, by=by)
        return await self._store.columns(job_id)

    async def history(
        self, job_id: str, *, by: User, since: datetime | None = None, after: int | None = None, limit: int = 1000
    ) -> list[bytes]:
        """A job's updates as they were sent, encoded, oldest first; `since` is inclusive, `after` (a seq) exclusive.

        Percents are thinned, but the last page always ends with the job's newest state.
        """
        job = await self.find(job_id, by=by)  # before its rows: none of those up to this state can be missing then
        rows = await self._store.history(job_id, since=since, after=after, limit=_checked_limit(limit))
        last = msgspec.json.decode(rows[-1], type=Position).seq if rows else after or 0
        if len(rows) < limit and job.seq > last and (since is None or to_millis(job.updated_at) >= to_millis(since)):
            rows.append(msgspec.json.encode(job.update()))
        return rows

    async def count_jobs(self, *, by: User) -> int:
        """How many jobs this user may see in History."""
        return await self._store.count(owner_id=seen_by(by))

    async def with_video(self, q: str, *, by: User) -> list[str]:
        """The ids of the jobs on this user's dashboard with a video whose ID begins so, or whose error says so.

        None for "".
        """
        wanted = checked_text(q, "What is searched for")
        return await self._store.with_video(wanted, owner_id=seen_by(by)) if wanted else []

    async def count_found(self, video_ids: Collection[str]) -> int:
        """How many of these have a file in the media directory."""
        return await self._media.count_found(video_ids)

    def watch(self, *, by: User, after: int | None = None) -> Reader:
        """The live states of this user's dashboard, from `after` on or from the beginning."""
        return self._hub.reader(seen_by(by), after)

    async def claim(self, job_id: str) -> Job | None:
        """The job, now processing under a new epoch; None when it is no longer waiting, or the server stops."""
        moving = self._moving.get(job_id)
        if moving is not None and moving.job.epoch:
            await self._hub.durable()  # what an earlier holder left undone is read from the store
        if moving is None or moving.job.status is not Status.PENDING or self._stopping:
            return None
        moving.fractions.clear()
        moving.halt.clear()
        moving.in_vain = Streak()
        return self._decide(moving.job.claimed(at=self._clock.now()))

    def halt_of(self, job: Job) -> asyncio.Event:
        """Set when whoever holds the job is to begin no more videos, and to let it go after those that run."""
        return self._moving[job.id].halt

    def is_held(self, job_id: str, epoch: int) -> bool:
        """Whether the job is still in the hands of whoever claimed it as this epoch."""
        return self._held(job_id, epoch) is not None

    async def until_storing(self) -> None:
        """Return when results can be stored: work whose results pile up in memory is not begun."""
        await self._hub.until_storing()

    async def todo(self, job: Job) -> AsyncIterator[Video]:
        """The job's videos without a result, in the order of the list."""
        position = -1
        while videos := await self._next_todo(job, position):
            for video in videos:
                yield video
            position = videos[-1].position

    async def _next_todo(self, job: Job, position: int) -> list[Video]:
        """The database may be busy for a while; a job does not end by that."""
        while True:
            try:
                return await self._store.todo(job.id, after=position, limit=TODO_AT_ONCE)
            except StoreRefused:
                log.exception(
                    "a job's videos could not be read; tried again",
                    extra={"action": "todo_refused", "job_id": job.id},
                )
                await self._clock.sleep(RETRY_SECONDS)

    def files(self, source: Source) -> MediaSource:
        """Where the files of such a job are."""
        return self._demo if source is Source.DEMO else self._media

    def record(self, job_id: str, epoch: int, report: Report) -> None:
        """Take down what happened to a video; ignored when the job is no longer in the reporter's hands."""
        moving = self._held(job_id, epoch)
        if moving is None:
            return
        match report:
            case Started(video):
                self._started(moving, video)
            case Moved(video, fraction, doing):
                self._moved(moving, video, fraction, doing)
            case TriedInVain():
                self._tried_in_vain(moving, report)
            case Ended():
                self._ended(moving, report)

    async def let_go(self, job_id: str, epoch: int) -> None:
        """Its holder lets go of the job, all its processes being dead: what was requested of it happens now.

        Where nothing is requested (any more) it is in line again, and so are its unfinished videos.
        """
        moving = self._held(job_id, epoch)
        if moving is None:
            return
        now, job = self._clock.now(), moving.newest()
        goes_on = job.requested is None and not self._stopping
        job = job.lined_up(at=now) if goes_on else job.let_go(at=now, message="Waiting to go on")
        self._decide(job, resets=(Reset(job_id),))
        if goes_on:
            await self._line_up(job)

    def break_off(self, job_id: str, epoch: int, sentence: str) -> None:
        """End a job that itself failed, whatever its videos did; those that ran are pending."""
        if moving := self._held(job_id, epoch):
            self._decide(moving.newest().broken(sentence, at=self._clock.now()), resets=(Reset(job_id),))

    async def hear(self, job_id: str, reports: Sequence[SenderReport], *, by: User) -> Job:
        """Take down what the sender of a job that runs elsewhere says; the job's newest state, once it is stored.

        All of it or nothing. Reports count in the order of `n`; those that are not above the newest one are ignored,
        and so is what follows the end. Raises `Conflict` for a job that runs here and for news of one that has ended.
        """
        job = await self._elsewhere(job_id, by)
        reports = checked_reports(reports, job.total_videos)
        positions = await self._positions(job_id, {report.video_id for report in reports if report.video_id})
        moving = self._moving.get(job_id)
        if moving is None:  # ended a while ago, perhaps just now
            job = await self.find(job_id, by=by)
            new_reports(job, reports)
            return job
        self._take_down(moving, reports, positions)
        return await self._stored(job_id, by)

    def break_off_silent(self, timeout_seconds: float) -> None:
        """End the jobs that run elsewhere whose sender said nothing for so long; their videos stay as they are."""
        now = self._clock.monotonic()
        sentence = f"No word from the sender for {_time(timeout_seconds)}; see what became of it, and make a new job."
        for moving in self._moving.values():
            waiting = moving.job.is_elsewhere and moving.job.status in (Status.PENDING, Status.PROCESSING)
            if waiting and now - moving.heard_at >= timeout_seconds:
                self._decide(moving.job.broken(sentence, at=self._clock.now()))

    def remove_from_dashboard(self, leaves: Callable[[Job, datetime], bool]) -> None:
        """Take the finished jobs off the dashboard of which `leaves(job, now)` holds; they stay in History."""
        now = self._clock.now()
        gone = [moving.job for moving in self._moving.values() if moving.job.is_finished and leaves(moving.job, now)]
        for job in gone:
            self._remove(job)

    def _remove(self, job: Job) -> None:
        del self._moving[job.id]
        self._hub.stage_removal(job)
        log.info("job left the dashboard", extra={"action": "job_removed", "job_id": job.id})

    def _turn(self, *what: str) -> asyncio.Lock:
        """One at a time, for each of what is named."""
        return self._turns.setdefault(what, asyncio.Lock())

    async def _line_up(self, job: Job) -> None:
        await self._executor.submit(job.id, user=job.owner_id, priority=job.priority)

    def _visible(self, job_id: str, by: User) -> InMotion | None:
        """The job in motion, if there is one; raises `JobNotFound` when it is somebody else's."""
        moving = self._moving.get(job_id)
        if moving is not None and seen_by(by) not in (None, moving.job.owner_id):
            raise JobNotFound
        return moving

    def _unfinished(self, job_id: str, by: User) -> InMotion | None:
        """The job if it is there and has not ended; raises `JobNotFound` when it is somebody else's."""
        moving = self._visible(job_id, by)
        return moving if moving is not None and not moving.job.is_finished else None

    async def _newest(self, job_id: str, by: User) -> Job:
        """The job as it was decided last, which is stored when this returns."""
        if self._visible(job_id, by) is None:
            await self.find(job_id, by=by)  # so that a stranger's answer is the same while nothing can be stored
        return await self._stored(job_id, by)

    async def _answer(self, asked: str, job_id: str, by: User) -> Job:
        """The job with what was asked for; where that has to wait to be stored, `StoreRefused` says that it comes."""
        log.info("%s asked for", asked, extra={"action": f"{asked}_asked", "job_id": job_id, "user": by.name})
        try:
            return await self._stored(job_id, by)
        except StoreRefused as error:
            raise error.but("what you asked for happens as soon as it can be.") from None

    async def _stored(self, job_id: str, by: User) -> Job:
        """The job once everything decided so far is stored; raises `StoreRefused` when that has to wait."""
        moving = self._moving.get(job_id)
        job = moving.job if moving else None
        await self._hub.durable(patient=False)
        if moving is None or job is None or self._moving.get(job_id) is not moving or moving.job is not job:
            return await self.find(job_id, by=by)
        return job.evolve(seq=self._hub.seq_of(job_id))

    async def _selected(self, job: Job, selection: Selection) -> Selected:
        if selection.video_ids is not None:
            if len(selection.video_ids) > MAX_RETRIED_IDS:
                raise Invalid(f"At most {MAX_RETRIED_IDS:,} videos can be named in one retry; retry all instead.")
            await self._positions(job.id, set(selection.video_ids))
        if selection.groups is not None and len(selection.groups) > MAX_RETRIED_GROUPS:
            raise Invalid(f"At most {MAX_RETRIED_GROUPS:,} causes can be named in one retry; retry all instead.")
        return await self._store.selected(job.id, selection)

    def _is_repeated(self, job: Job, selection: Selection) -> bool:
        """Whether the attempt that goes on began with this selection; after a restart nobody knows any more."""
        moving = self._moving.get(job.id)
        return job.attempt > 1 and moving is not None and moving.retried in (None, selection)

    async def _other_priorities(self, job_id: str, by: User) -> list[int]:
        job = await self.find(job_id, by=by)
        waiting = (moving.job for moving in self._moving.values() if moving.job.status is Status.PENDING)
        return [other.priority for other in waiting if other.owner_id == job.owner_id and other.id != job_id]

    def _ask(self, moving: InMotion, requested: str | None, message: str, trouble: str | None = None) -> None:
        """Request something of a job that runs, which happens when its holder lets go of it."""
        now = self._clock.now()
        self._decide(moving.newest().asked_to(requested, at=now, message=message, trouble=trouble))

    async def _elsewhere(self, job_id: str, by: User) -> Job:
        moving = self._visible(job_id, by)
        job = moving.job if moving else await self.find(job_id, by=by)
        if not job.is_elsewhere:
            raise Conflict(
                f"This job runs here and takes no reports; make one with the processor {ELSEWHERE} for that."
            )
        return job

    async def _positions(self, job_id: str, video_ids: set[str]) -> Mapping[str, int]:
        if not video_ids:
            return {}
        positions = await self._store.positions(job_id, video_ids)
        if strangers := sorted(video_ids - positions.keys()):
            raise Invalid(f'The video "{strangers[0]}" is not in this job.')
        return positions

    def _take_down(self, moving: InMotion, reports: Sequence[SenderReport], positions: Mapping[str, int]) -> None:
        now, new = self._clock.now(), new_reports(moving.job, reports)
        steps = list(heard(moving.job, new, positions, failed=moving.failed, at=now))
        moving.heard_at = self._clock.monotonic()
        for step in steps:
            moving.change(step.job)
            moving.failed |= step.failed
            self._hub.stage(step.job, kept=step.kept, videos=(step.change,) if step.change else ())
        if steps and moving.job.is_finished:
            self._tell_end(moving.job)

    def _held(self, job_id: str, epoch: int) -> InMotion | None:
        """The job, if it is in the hands of whoever claimed it as this epoch."""
        moving = self._moving.get(job_id)
        if moving is None or moving.job.epoch != epoch or moving.job.status is not Status.PROCESSING:
            return None
        return moving

    def _new_job(self, by: User, name: str, processor: str, source: Source) -> Job:
        now = self._clock.now()
        return Job(
            id=str(uuid.uuid4()),
            owner_id=by.id,
            owner=by.name,
            name=name,
            processor=processor,
            source=source,
            created_at=now,
            updated_at=now,
            total_videos=0,
            message="Waiting for the first report" if processor == ELSEWHERE else "Waiting to start",
        )

    async def _create(self, job: Job, videos: VideoList, idempotency: tuple[str, str] | None) -> Submission:
        job = job.evolve(found=await self._count_sources(job, videos))
        await self._store_videos(job.id, videos)
        self._moving[job.id] = InMotion(job, self._clock.monotonic())
        self._hub.stage_new(NewJob(job=job, columns=videos.columns, idempotency=idempotency))
        try:
            await self._born()
        finally:  # what cannot be stored yet, or what nobody waits for any more, still comes to be
            if not job.is_elsewhere:
                await self._line_up(job)
        job = job.evolve(seq=self._hub.seq_of(job.id))
        log.info("job submitted", extra={"action": "job_submitted", "job_id": job.id, "user": job.owner})
        return _submission(job, videos)

    async def _born(self) -> None:
        try:
            await self._hub.durable(patient=False)
        except StoreRefused as error:
            raise error.but("the job appears and starts as soon as it can be, so do not send it again.") from None

    async def _count_sources(self, job: Job, videos: VideoList) -> int:
        """How many of the videos have what is needed to work on them; a job that runs elsewhere needs nothing here."""
        if job.is_elsewhere:
            return job.total_videos
        return await self.files(job.source).count_found([row.video_id for row in videos.rows])

    async def _store_videos(self, job_id: str, videos: VideoList) -> None:
        rows = (
            Video(job_id=job_id, position=position, video_id=row.video_id, line=row.line, cells=row.cells)
            for position, row in enumerate(videos.rows)
        )
        while chunk := list(islice(rows, INSERTED_AT_ONCE)):
            await self._store.add_videos(chunk)

    def _started(self, moving: InMotion, video: Video) -> None:
        moving.fractions[video.position] = 0.0
        change = VideoChange(
            job_id=video.job_id, position=video.position, status=VideoStatus.PROCESSING, attempts=video.attempts
        )
        self._progressed(moving, video, "starting", videos=(change,))

    def _tried_in_vain(self, moving: InMotion, report: TriedInVain) -> None:
        video = report.video
        moving.fractions.pop(video.position, None)
        change = VideoChange(
            job_id=video.job_id, position=video.position, status=VideoStatus.PENDING, attempts=video.attempts
        )
        self._progressed(moving, video, f"trying again in {report.seconds:.0f} s", videos=(change,))
        self._count_in_vain(moving, video, report.error, report.fault)

    def _count_in_vain(self, moving: InMotion, video: Video, error: str, fault: Fault) -> None:
        """Pause the job when the machine spoils one try after the other: every further video would only fail too."""
        if fault is not Fault.MACHINE:
            return
        moving.in_vain = moving.in_vain.after(fingerprint(error, video.video_id))
        failures = moving.in_vain.failures
        if failures >= self._pause_after_failures and moving.job.requested is None and not moving.job.is_finished:
            trouble = f"{counted(failures, 'failure')} in a row: {_storable(error, longest=LONGEST_TEXT)}"
            moving.halt.set()
            self._ask(moving, PAUSE, f"Pausing by itself: {trouble}", trouble)
            extra = {"action": "job_paused_itself", "job_id": video.job_id, "trouble": trouble}
            log.warning("job paused itself", extra=extra)

    def _moved(self, moving: InMotion, video: Video, fraction: float, doing: str) -> None:
        moving.fractions[video.position] = min(1.0, max(moving.fractions.get(video.position, 0.0), fraction))
        self._progressed(moving, video, doing)

    def _progressed(self, moving: InMotion, video: Video, doing: str, *, videos: tuple[VideoChange, ...] = ()) -> None:
        moving.step = video, doing, self._clock.now()
        self._hub.stage_newest(video.job_id, moving.newest, videos=videos)

    def _ended(self, moving: InMotion, report: Ended) -> None:
        video, error = report.video, _storable(report.error, longest=LONGEST_ERROR)
        moving.fractions.pop(video.position, None)
        moving.change(
            moving.job.with_result(
                video_id=video.video_id,
                error=error,
                fractions=sum(moving.fractions.values()),
                running=len(moving.fractions),
                at=self._clock.now(),
            )
        )
        change = VideoChange(
            job_id=video.job_id,
            position=video.position,
            status=VideoStatus.COMPLETED if report.error is None else VideoStatus.FAILED,
            attempts=video.attempts + 1,
            started_at=report.started_at,
            duration_seconds=report.duration_seconds,
            error=error,
            traceback=_storable(report.traceback),
            fault=report.fault,
            fingerprint=None if error is None else fingerprint(error, video.video_id),
            job_attempt=moving.job.attempt,
            tries=report.tries,
            result=report.result,
        )
        self._hub.stage(moving.job, kept=report.error is not None or moving.job.is_finished, videos=(change,))
        if moving.job.is_finished:
            self._tell_end(moving.job)
        if error is None:
            moving.in_vain = Streak()
        else:
            self._count_in_vain(moving, video, error, report.fault or Fault.PERMANENT)

    def _decide(self, job: Job, *, resets: Sequence[Reset] = ()) -> Job:
        moving = self._moving[job.id]
        is_end = job.is_finished and not moving.job.is_finished
        moving.change(job)
        self._hub.stage(job, kept=True, resets=resets)
        if is_end:
            self._tell_end(job)
        return job

    def _tell_end(self, job: Job) -> None:
        extra = {"action": "job_ended", "job_id": job.id, "status": job.status.value, "failed": job.failed}
        log.info("job ended", extra=extra)


def seen_by(user: User) -> str | None:
    """Whose jobs this user sees: their own, or (None) everybody's."""
    return None if user.is_admin else user.id


def _checked_options(processor: str, options: Mapping[str, Any]) -> dict[str, Any]:
    if processor != ELSEWHERE:
        return validated_options(processor, options)
    if options:
        raise Invalid("A job that runs elsewhere takes no options.")
    return {}


def _require_here(job: Job, done: str) -> None:
    if job.is_elsewhere:
        raise Conflict(f"This job runs elsewhere; it can only be {done} where it runs.")


def _pausing(job: Job) -> str:
    return f"Pausing after {counted(job.running, 'running video')}" if job.running else "Pausing..."


def _time(seconds: float) -> str:
    return counted(round(seconds / 60), "minute") if seconds >= 120 else f"{seconds:g} s"


def _title(name: str) -> str:
    printable = "".join(letter if letter.isprintable() else " " for letter in name)
    return " ".join(printable.split())[:MAX_NAME] or "Untitled list"


def _storable(text: str | None, *, longest: int | None = None) -> str | None:
    """Text that every database and JSON take: file names and plug-ins may bring anything, of any length."""
    return None if text is None else text[:longest].replace("\x00", "").encode("utf-8", "replace").decode()


def _checked_key(key: str) -> str:
    checked = checked_text(key, "Idempotency-Key")
    if not checked:
        raise Invalid("Idempotency-Key must not be empty.")
    return checked


def _checked_limit(limit: int) -> int:
    if not 1 <= limit <= MAX_PAGE:
        raise Invalid(f"limit must be from 1 to {MAX_PAGE:,}.")
    return limit


def _submission(job: Job, videos: VideoList) -> Submission:
    return Submission(job, videos.duplicates, videos.invalid, job.found, job.total_videos - job.found)


def _request_hash(job: Job, videos: VideoList) -> str:
    rows = [(row.video_id, row.cells) for row in videos.rows]
    request = [rows, job.name, job.processor, job.options]
    return hashlib.sha256(msgspec.json.encode(request, order="deterministic")).hexdigest()
