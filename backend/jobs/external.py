"""External jobs: another program processes their videos and reports on them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

import msgspec

from backend.clock import Clock
from backend.domain import messages
from backend.domain.auth import User
from backend.domain.causes import fingerprint
from backend.domain.job import Job
from backend.domain.texts import checked_text
from backend.domain.video import VideoStatus
from backend.domain.video_ids import VIDEO_ID
from backend.errors import Conflict, Fault, Invalid
from backend.jobs.active import ActiveJob, ActiveJobs
from backend.jobs.queries import JobQueries
from backend.store.changes import VideoChange
from backend.store.videos import VideoStore
from progress_dashboard.protocol import EXTERNAL, MAX_ERROR_LENGTH, REPORTABLE, SenderReport, Status

MAX_REPORTS = 1_000
MAX_POSITIONS = 20_000  # of a job that are held in memory; those of longer lists are read for each request


class ExternalJobs:
    """What a sender may do: report on its job, or be silent for too long."""

    def __init__(self, active: ActiveJobs, queries: JobQueries, videos: VideoStore, clock: Clock) -> None:
        self._active = active
        self._queries = queries
        self._videos = videos
        self._clock = clock

    async def apply_reports(self, job_id: str, reports: Sequence[SenderReport], *, by: User) -> Job:
        """Apply all reports or none; returns the job's newest state, once it is stored.

        Reports count in the order of `n`. Reports whose `n` is not above the newest
        applied one are ignored, and so are reports after the one that ends the job.
        Raises `Conflict` for a job that is not external and for news of one that has ended.
        """
        job = await self._external(job_id, by)
        reports = _checked_reports(reports, job.total_videos)
        positions = await self._positions(job, {report.video_id for report in reports if report.video_id})
        active = self._active.get(job_id)
        if active is None:  # it ended a while ago, perhaps just now
            job = await self._queries.find(job_id, by=by)
            _new_reports(job, reports)
            return job
        self._apply(active, reports, positions)
        return await self._active.stored(job_id) or await self._queries.find(job_id, by=by)

    async def load_failures(self, job_id: str) -> None:
        """Read which videos of the job failed, after a start of the server."""
        if active := self._active.get(job_id):
            active.failed_positions = await self._videos.failed_positions(job_id)

    def fail_silent(self, timeout_seconds: float) -> None:
        """End the jobs whose sender said nothing for so long. Their videos stay as they are."""
        now = self._clock.monotonic()
        for active in self._active:
            waiting = active.job.is_external and active.job.status in (Status.PENDING, Status.PROCESSING)
            if waiting and now - active.last_report_at >= timeout_seconds:
                sentence = messages.silent_sender(timeout_seconds)
                self._active.change(active, active.job.with_job_error(sentence, at=self._clock.now()))

    async def _external(self, job_id: str, by: User) -> Job:
        active = self._active.visible(job_id, by)
        job = active.job if active else await self._queries.find(job_id, by=by)
        if not job.is_external:
            raise Conflict(
                f"This is not an external job, so it takes no reports; create one with processor {EXTERNAL}."
            )
        return job

    async def _positions(self, job: Job, video_ids: Set[str]) -> Mapping[str, int]:
        """Return the positions of at least these videos. Raises `Invalid` for one that is not in the job."""
        active = self._active.get(job.id)
        if video_ids and active and not active.positions and job.total_videos <= MAX_POSITIONS:
            active.positions = await self._videos.all_positions(job.id)
        if active and video_ids <= active.positions.keys():
            return active.positions
        return await self._videos.positions(job.id, video_ids)

    def _apply(self, active: ActiveJob, reports: Sequence[SenderReport], positions: Mapping[str, int]) -> None:
        new = _new_reports(active.job, reports)
        changes = list(reported(active.job, new, positions, failed=active.failed_positions, at=self._clock.now()))
        active.last_report_at = self._clock.monotonic()
        for change in changes:
            videos = (change.video,) if change.video else ()
            active.failed_positions |= change.failed_positions
            if change.is_lossless:
                self._active.change(active, change.job, videos=videos)
            else:
                active.replace(change.job)
                self._active.progress(active, videos=videos)


@dataclass(frozen=True, slots=True)
class ReportedChange:
    """What one report makes of its job and of one of its videos. A lossless change is stored and sent for itself."""

    job: Job
    is_lossless: bool
    video: VideoChange | None = None

    @property
    def failed_positions(self) -> set[int]:
        return {self.video.position} if self.video and self.video.has_result else set()


def reported(
    job: Job, reports: Sequence[SenderReport], positions: Mapping[str, int], *, failed: Collection[int], at: datetime
) -> Iterator[ReportedChange]:
    """Yield what the new reports make of the job, one after the other, up to its end.

    `positions` are those of the videos that are named, `failed` those of the videos that failed before.
    """
    known = set(failed)
    if reports and job.status is Status.PENDING:
        job = job.claimed(at=at)
        yield ReportedChange(job, is_lossless=True)
    for report in reports:
        position = positions.get(report.video_id or "")
        is_known = position in known
        is_new_failure = bool(report.error) and position is not None and not is_known
        earlier, job = job, job.with_report(report, is_new_failure=is_new_failure, at=at)
        if job.is_finished:
            job = job.evolve(reported=reports[-1].n)  # repeating what follows the end is not news either
        video = None if position is None or is_known else _video_change(earlier, job, position, report)
        is_lossless = report.error is not None or job.status is not earlier.status
        change = ReportedChange(job, is_lossless=is_lossless, video=video)
        known |= change.failed_positions
        yield change
        if job.is_finished:
            return


def _checked_reports(reports: Sequence[SenderReport], total_videos: int) -> list[SenderReport]:
    """Return the reports with storable texts or None. Raises `Invalid`, naming what does not fit."""
    if len(reports) > MAX_REPORTS:
        raise Invalid(f"At most {MAX_REPORTS:,} reports go into one request; send the rest in another.")
    return [_checked(report, total_videos) for report in reports]


def _checked(report: SenderReport, total_videos: int) -> SenderReport:
    if report.status is not None and report.status not in REPORTABLE:
        raise Invalid(f"status must be one of {', '.join(REPORTABLE)}.")
    if report.current_video is not None and report.current_video > total_videos:
        raise Invalid(f"current_video must be from 0 to {total_videos:,}, the number of videos in this job.")
    if report.video_id is not None and not VIDEO_ID.match(report.video_id):
        raise Invalid("video_id must be the ID of one of this job's videos.")
    if report.message is None and report.error is None:
        return report
    message = checked_text(report.message or "", "message") or None
    error = checked_text(report.error or "", "error", MAX_ERROR_LENGTH) or None
    return msgspec.structs.replace(report, message=message, error=error)


def _new_reports(job: Job, reports: Sequence[SenderReport]) -> list[SenderReport]:
    """Return the reports that are new to the job, in the order of `n`, the first of each.

    Raises `Conflict` if there are any and the job has ended.
    """
    new = {report.n: report for report in reversed(reports) if report.n > job.reported}
    if new and job.is_finished:
        ended = "was cancelled" if job.status is Status.CANCELLED else "has already ended"
        raise Conflict(f"This job {ended}; create a new one.")
    return sorted(new.values(), key=attrgetter("n"))


def _video_change(earlier: Job, job: Job, position: int, report: SenderReport) -> VideoChange | None:
    """Return what a report says of the video that it names, one that has not failed before."""
    if (error := report.error) is not None:
        return VideoChange(
            job_id=job.id,
            position=position,
            status=VideoStatus.FAILED,
            attempts=job.attempt,
            started_at=job.updated_at,
            duration_seconds=0.0,  # only the sender knows how long it took
            error=error,
            fault=Fault.PERMANENT,
            job_attempt=job.attempt,
            fingerprint=fingerprint(error, report.video_id or ""),
        )
    if job.current_video == earlier.current_video:
        return None
    return VideoChange(job_id=job.id, position=position, status=VideoStatus.COMPLETED, attempts=0)
