"""The one door to jobs, for pages, routes, commands, executors and timers: who may, what happens, what is told."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from backend.auth import User
from backend.clock import Clock, to_millis
from backend.csv_files import Duplicate, Problem, VideoList, list_of_ids
from backend.demo import DemoClips
from backend.errors import Conflict, Invalid, JobNotFound, NotFound, StoreRefused
from backend.executors import Executor
from backend.hub import ProgressHub, Reader
from backend.jobs import ELSEWHERE, SAYABLE, VIDEO_ID, Job, SenderReport, Source, Status, Video, VideoStatus, counted
from backend.media import MediaDirectory, MediaSource
from backend.processors import validated_options
from backend.store import SORTS, JobStore, NewJob, Page, VideoChange

log = logging.getLogger(__name__)
INSERTED_AT_ONCE = 2_000
TODO_AT_ONCE = 200
RETRY_SECONDS = 1.0
MAX_PAGE = 1_000
MAX_NAME = 200
MAX_REPORTS = 1_000
LONGEST_TEXT, LONGEST_ERROR = 500, 2_000


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
class Ended:
    """A video has its result: `error` and `traceback`, or `result`."""

    video: Video
    started_at: datetime
    duration_seconds: float
    result: Mapping[str, Any] | None = None
    error: str | None = None
    traceback: str | None = None


Report = Started | Moved | Ended


class Position(msgspec.Struct):
    """Of an encoded update, where it stands."""

    seq: int


@dataclass
class InMotion:
    """A job that is unfinished or on the dashboard, with the shares of its running videos by position.

    `step`: the newest one of its videos, not yet in `job`. Of a job that runs elsewhere: the positions of its failed
    videos, and when (monotonic) its sender was last heard.
    """

    job: Job
    heard_at: float
    fractions: dict[int, float] = field(default_factory=dict)
    step: tuple[Video, str, datetime] | None = None
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


@dataclass(frozen=True, slots=True)
class Heard:
    """What one report of a sender made of its job, and of one of its videos."""

    job: Job
    kept: bool
    change: VideoChange | None = None

    @property
    def failed(self) -> set[int]:
        return {self.change.position} if self.change and self.change.has_result else set()


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
    ) -> None:
        self._store = store
        self._hub = hub
        self._executor = executor
        self._media = media
        self._demo = demo
        self._clock = clock
        self._moving: dict[str, InMotion] = {}
        self._submitting: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

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
                self._decide(job.requeued(at=self._clock.now(), message="Waiting to go on after a restart"))
            if job.status is not Status.PAUSED:
                await self._executor.submit(job.id, user=job.owner_id)

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
        job = job.evolve(options=_checked_options(processor, options or {}), total_videos=len(videos.rows))
        if idempotency_key is None:
            return await self._create(job, videos, None)
        key = _checked_key(idempotency_key)
        request_hash = await asyncio.to_thread(_fingerprint, job, videos)
        lock = self._submitting.setdefault((by.id, key), asyncio.Lock())
        async with lock:
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
        prefix = checked_text(q, "q")
        return await self._store.videos(job_id, status=status, q=prefix, limit=_checked_limit(limit), cursor=cursor)

    async def video(self, job_id: str, position: int, *, by: User) -> Video:
        """One video of a job, by its position."""
        await self.find(job_id, by=by)
        video = await self._store.video(job_id, position)
        if video is None:
            raise NotFound("There is no such video in this job.")
        return video

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

    async def count_found(self, video_ids: Collection[str]) -> int:
        """How many of these have a file in the media directory."""
        return await self._media.count_found(video_ids)

    def watch(self, *, by: User, after: int | None = None) -> Reader:
        """The live states of this user's dashboard, from `after` on or from the beginning."""
        return self._hub.reader(seen_by(by), after)

    async def claim(self, job_id: str) -> Job | None:
        """The job, now processing under a new epoch; None when it is no longer waiting."""
        moving = self._moving.get(job_id)
        if moving is None or moving.job.status is not Status.PENDING:
            return None
        moving.fractions.clear()
        return self._decide(moving.job.claimed(at=self._clock.now()))

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
                log.exception("a job's videos could not be read; tried again", extra={"job_id": job.id})
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
            case Ended():
                self._ended(moving, report)

    async def release(self, job_id: str, epoch: int) -> None:
        """Put a job back in line that its holder had to let go of; its running videos are pending again."""
        if self._held(job_id, epoch):
            await self._take_back_running(job_id)
        if moving := self._held(job_id, epoch):
            self._decide(moving.job.requeued(at=self._clock.now(), message="Waiting to go on"))
            await self._executor.submit(job_id, user=moving.job.owner_id)

    async def break_off(self, job_id: str, epoch: int, sentence: str) -> None:
        """End a job that itself failed, whatever its videos did; those that ran are pending."""
        if self._held(job_id, epoch):
            await self._take_back_running(job_id)
        if moving := self._held(job_id, epoch):
            self._decide(moving.job.broken(sentence, at=self._clock.now()))

    async def hear(self, job_id: str, reports: Sequence[SenderReport], *, by: User) -> Job:
        """Take down what the sender of a job that runs elsewhere says; the job's newest state, once it is stored.

        All of it or nothing. Reports count in the order of `n`; those that are not above the newest one are ignored,
        and so is what follows the end. Raises `Conflict` for a job that runs here and for news of one that has ended.
        """
        job = await self._elsewhere(job_id, by)
        reports = [_checked_report(report, job.total_videos) for report in _few(reports)]
        positions = await self._positions(job_id, {report.video_id for report in reports if report.video_id})
        moving = self._moving.get(job_id)
        if moving is None:  # ended a while ago, perhaps just now
            job = await self.find(job_id, by=by)
            _new_reports(job, reports)
            return job
        self._take_down(moving, reports, positions)
        job = moving.job
        await self._hub.durable()
        is_newest = self._moving.get(job_id) is moving and moving.job is job
        return job.evolve(seq=self._hub.seq_of(job_id)) if is_newest else await self.find(job_id, by=by)

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
            del self._moving[job.id]
            self._hub.stage_removal(job)
            log.info("job left the dashboard", extra={"action": "job_removed", "job_id": job.id})

    async def _elsewhere(self, job_id: str, by: User) -> Job:
        moving = self._moving.get(job_id)
        if moving is None:
            job = await self.find(job_id, by=by)
        elif seen_by(by) in (None, moving.job.owner_id):
            job = moving.job
        else:
            raise JobNotFound
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
        steps = list(_steps(moving, _new_reports(moving.job, reports), positions, at=self._clock.now()))
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

    async def _take_back_running(self, job_id: str) -> None:
        await self._hub.durable()  # what was reported comes before what is taken back
        await self._store.take_back_running([job_id])

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
        await self._hub.durable()
        job = job.evolve(seq=self._hub.seq_of(job.id))
        log.info("job submitted", extra={"action": "job_submitted", "job_id": job.id, "user": job.owner})
        if not job.is_elsewhere:
            await self._executor.submit(job.id, user=job.owner_id)
        return _submission(job, videos)

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
            result=report.result,
        )
        self._hub.stage(moving.job, kept=report.error is not None or moving.job.is_finished, videos=(change,))
        if moving.job.is_finished:
            self._tell_end(moving.job)

    def _decide(self, job: Job) -> Job:
        self._moving[job.id].change(job)
        self._hub.stage(job, kept=True)
        if job.is_finished:
            self._tell_end(job)
        return job

    def _tell_end(self, job: Job) -> None:
        extra = {"action": "job_ended", "job_id": job.id, "status": job.status.value, "failed": job.failed}
        log.info("job ended", extra=extra)


def seen_by(user: User) -> str | None:
    """Whose jobs this user sees: their own, or (None) everybody's."""
    return None if user.is_admin else user.id


def checked_text(text: str, what: str, longest: int = LONGEST_TEXT) -> str:
    """`text` without surrounding blanks; raises `Invalid` for characters that no database takes, or when too long."""
    if "\x00" in text or len(text) > longest or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Invalid(f"{what} must be readable text of at most {longest:,} characters.")
    return text.strip()


def _checked_options(processor: str, options: Mapping[str, Any]) -> dict[str, Any]:
    if processor != ELSEWHERE:
        return validated_options(processor, options)
    if options:
        raise Invalid("A job that runs elsewhere takes no options.")
    return {}


def _few(reports: Sequence[SenderReport]) -> Sequence[SenderReport]:
    if len(reports) > MAX_REPORTS:
        raise Invalid(f"At most {MAX_REPORTS:,} reports go into one request; send the rest in another.")
    return reports


def _checked_report(report: SenderReport, total_videos: int) -> SenderReport:
    """The report with texts that are storable or None; raises `Invalid`."""
    if report.status is not None and report.status not in SAYABLE:
        raise Invalid(f"status must be one of {', '.join(SAYABLE)}.")
    if report.current_video is not None and report.current_video > total_videos:
        raise Invalid(f"current_video must be from 0 to {total_videos:,}, the number of videos in this job.")
    if report.video_id is not None and not VIDEO_ID.match(report.video_id):
        raise Invalid("video_id must be the ID of one of this job's videos.")
    if report.message is None and report.error is None:
        return report
    message = checked_text(report.message or "", "message") or None
    error = checked_text(report.error or "", "error", LONGEST_ERROR) or None
    return msgspec.structs.replace(report, message=message, error=error)


def _new_reports(job: Job, reports: Sequence[SenderReport]) -> list[SenderReport]:
    """What the job has not heard yet, in the order of `n`, the first of each; `Conflict` when it has ended."""
    new = {report.n: report for report in reversed(reports) if report.n > job.reported}
    if new and job.is_finished:
        raise Conflict("This job has already ended; make a new one.")
    return sorted(new.values(), key=attrgetter("n"))


def _steps(
    moving: InMotion, reports: Sequence[SenderReport], positions: Mapping[str, int], *, at: datetime
) -> Iterator[Heard]:
    """What the reports make of the job, one after the other, up to its end."""
    job, failed = moving.job, set[int]()
    if reports and job.status is Status.PENDING:
        job = job.claimed(at=at)
        yield Heard(job, kept=True)
    for report in reports:
        position = positions.get(report.video_id or "")
        is_known = position in failed or position in moving.failed
        earlier = job
        job = job.heard(report, is_new_failure=bool(report.error) and position is not None and not is_known, at=at)
        if job.is_finished:
            job = job.evolve(reported=reports[-1].n)  # a repetition of what follows is not news either
        change = None if position is None or is_known else _video_change(earlier, job, position, report.error)
        step = Heard(job, kept=report.error is not None or job.status is not earlier.status, change=change)
        failed |= step.failed
        yield step
        if job.is_finished:
            return


def _video_change(earlier: Job, job: Job, position: int, error: str | None) -> VideoChange | None:
    """What a report says of the video that it names, one that has not failed before."""
    if error is not None:
        return VideoChange(
            job_id=job.id,
            position=position,
            status=VideoStatus.FAILED,
            attempts=job.attempt,
            started_at=job.updated_at,
            duration_seconds=0.0,  # how long it took is known elsewhere
            error=error,
        )
    if job.current_video == earlier.current_video:
        return None
    return VideoChange(job_id=job.id, position=position, status=VideoStatus.COMPLETED, attempts=0)


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


def _fingerprint(job: Job, videos: VideoList) -> str:
    rows = [(row.video_id, row.cells) for row in videos.rows]
    request = [rows, job.name, job.processor, job.options]
    return hashlib.sha256(msgspec.json.encode(request, order="deterministic")).hexdigest()
