"""What the reports of a sender elsewhere make of its job: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

import msgspec

from backend.causes import fingerprint
from backend.errors import Conflict, Fault, Invalid
from backend.jobs import LONGEST_ERROR, SAYABLE, VIDEO_ID, Job, SenderReport, Status, VideoStatus, checked_text
from backend.store import VideoChange

MAX_REPORTS = 1_000


@dataclass(frozen=True, slots=True)
class Heard:
    """What one report of a sender made of its job, and of one of its videos."""

    job: Job
    kept: bool
    change: VideoChange | None = None

    @property
    def failed(self) -> set[int]:
        return {self.change.position} if self.change and self.change.has_result else set()


def checked_reports(reports: Sequence[SenderReport], total_videos: int) -> list[SenderReport]:
    """The reports with texts that are storable or None; raises `Invalid`, naming what does not fit."""
    if len(reports) > MAX_REPORTS:
        raise Invalid(f"At most {MAX_REPORTS:,} reports go into one request; send the rest in another.")
    return [_checked(report, total_videos) for report in reports]


def _checked(report: SenderReport, total_videos: int) -> SenderReport:
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


def new_reports(job: Job, reports: Sequence[SenderReport]) -> list[SenderReport]:
    """What the job has not heard yet, in the order of `n`, the first of each; `Conflict` when it has ended."""
    new = {report.n: report for report in reversed(reports) if report.n > job.reported}
    if new and job.is_finished:
        ended = "was cancelled" if job.status is Status.CANCELLED else "has already ended"
        raise Conflict(f"This job {ended}; make a new one.")
    return sorted(new.values(), key=attrgetter("n"))


def heard(
    job: Job, reports: Sequence[SenderReport], positions: Mapping[str, int], *, failed: Collection[int], at: datetime
) -> Iterator[Heard]:
    """What the new reports make of the job, one after the other, up to its end.

    `positions`: where the videos that are named stand in its list; `failed`: the positions of those that failed before.
    """
    known = set(failed)
    if reports and job.status is Status.PENDING:
        job = job.claimed(at=at)
        yield Heard(job, kept=True)
    for report in reports:
        position = positions.get(report.video_id or "")
        is_known = position in known
        earlier = job
        job = job.heard(report, is_new_failure=bool(report.error) and position is not None and not is_known, at=at)
        if job.is_finished:
            job = job.evolve(reported=reports[-1].n)  # a repetition of what follows is not news either
        change = None if position is None or is_known else _video_change(earlier, job, position, report)
        step = Heard(job, kept=report.error is not None or job.status is not earlier.status, change=change)
        known |= step.failed
        yield step
        if job.is_finished:
            return


def _video_change(earlier: Job, job: Job, position: int, report: SenderReport) -> VideoChange | None:
    """What a report says of the video that it names, one that has not failed before."""
    if (error := report.error) is not None:
        return VideoChange(
            job_id=job.id,
            position=position,
            status=VideoStatus.FAILED,
            attempts=job.attempt,
            started_at=job.updated_at,
            duration_seconds=0.0,  # how long it took is known elsewhere
            error=error,
            fault=Fault.PERMANENT,
            job_attempt=job.attempt,
            fingerprint=fingerprint(error, report.video_id or ""),
        )
    if job.current_video == earlier.current_video:
        return None
    return VideoChange(job_id=job.id, position=position, status=VideoStatus.COMPLETED, attempts=0)
