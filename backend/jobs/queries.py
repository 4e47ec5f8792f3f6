"""Reads: what a user may see of jobs, stored and live."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import msgspec

from backend.clock import to_millis
from backend.delivery.hub import JobReader, ProgressHub, Reader
from backend.domain.auth import User
from backend.domain.job import ExportedJob, Job
from backend.domain.job_filter import ANY_JOB, JobFilter
from backend.domain.judgement import SaidForecast
from backend.domain.texts import checked_text
from backend.domain.timeline import Timeline
from backend.domain.video import Cause, ExportedVideo, Outcome, Video, VideoStatus, VideoTimes
from backend.errors import Invalid, JobNotFound, NotFound
from backend.store import Store
from backend.store.job_lists import SORTS, Wanted
from backend.store.pages import Page
from progress_dashboard.protocol import Status

MAX_PAGE = 1_000


class Position(msgspec.Struct):
    """The position of an encoded update."""

    seq: int


class JobQueries:
    """Every read takes the user who asks: another user's job is not found, like one that does not exist."""

    def __init__(self, store: Store, hub: ProgressHub) -> None:
        self._store = store
        self._hub = hub

    async def find(self, job_id: str, *, by: User) -> Job:
        """Return the job. Raises `JobNotFound`, also for another user's job."""
        return await self._require_visible(job_id, by)

    async def find_many(self, job_ids: Collection[str], *, by: User) -> list[Job]:
        """Return those of the jobs that this user may see, in their newest states."""
        return await self._store.jobs.find_many(job_ids, owner_id=by.sees_jobs_of)

    async def export_many(self, job_ids: Collection[str], *, by: User) -> list[ExportedJob]:
        """Return those of the jobs that this user may see, for an export."""
        return [ExportedJob.of(job) for job in await self.find_many(job_ids, by=by)]

    async def jobs(
        self,
        *,
        by: User,
        dashboard: bool | None = None,
        status: Status | None = None,
        q: str = "",
        sort: str = "newest",
        only: JobFilter = ANY_JOB,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Job]:
        """Return a page of jobs. One of a search or a filter may be short, or empty, and lead on."""
        wanted = _wanted(by, dashboard=dashboard, status=status, q=q, sort=sort, only=only)
        return await self._store.jobs.page(wanted, limit=checked_limit(limit), cursor=cursor)

    async def count_found(
        self,
        *,
        by: User,
        dashboard: bool | None = None,
        status: Status | None = None,
        q: str = "",
        only: JobFilter = ANY_JOB,
    ) -> int | None:
        """Return how many jobs such a list has; None for very many, or if that would take too long."""
        return await self._store.jobs.count_wanted(_wanted(by, dashboard=dashboard, status=status, q=q, only=only))

    async def count_jobs(self, *, by: User) -> int:
        """Return the number of jobs in History."""
        return await self._store.jobs.count(owner_id=by.sees_jobs_of)

    async def export_jobs(
        self,
        *,
        by: User,
        dashboard: bool | None = None,
        status: Status | None = None,
        q: str = "",
        sort: str = "newest",
        only: JobFilter = ANY_JOB,
        cursor: str | None = None,
    ) -> Page[ExportedJob]:
        """Return the next jobs of such a list, for an export."""
        wanted = _wanted(by, dashboard=dashboard, status=status, q=q, sort=sort, only=only)
        return await self._store.jobs.lines(wanted, cursor=cursor)

    async def ids_with_video(self, q: str, *, by: User) -> list[str]:
        """Return the IDs of the jobs on the dashboard with a video whose ID begins with `q` or whose error has it.

        Returns none for "".
        """
        wanted = checked_text(q, "The search")
        return await self._store.jobs.ids_with_video(wanted, owner_id=by.sees_jobs_of) if wanted else []

    async def columns(self, job_id: str, *, by: User) -> tuple[str, ...]:
        """Return the header of the job's own list."""
        await self._require_visible(job_id, by)
        return await self._store.jobs.columns(job_id)

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
        """Return a page of the job's videos with their newest results."""
        await self._require_visible(job_id, by)
        wanted, limit = checked_text(q, "q"), checked_limit(limit)
        return await self._store.videos.page(job_id, status=status, q=wanted, limit=limit, cursor=cursor)

    async def export_videos(self, job_id: str, *, by: User, cursor: str | None = None) -> Page[ExportedVideo]:
        """Return the next videos of the job for an export."""
        await self._require_visible(job_id, by)
        return await self._store.videos.lines(job_id, cursor=cursor)

    async def video(self, job_id: str, position: int, *, by: User) -> Video:
        """Return one video of the job. Raises `NotFound` if there is none at this position."""
        await self._require_visible(job_id, by)
        video = await self._store.videos.find(job_id, position)
        if video is None:
            raise NotFound("There is no such video in this job.")
        return video

    async def outcomes(self, job_id: str, position: int, *, by: User) -> list[Outcome]:
        """Return the results of one video, oldest first."""
        await self._require_visible(job_id, by)
        return await self._store.videos.outcomes(job_id, position)

    async def outcome_strip(self, job_id: str, *, by: User) -> str:
        """Return the status of each video, one character of `OUTCOME_MARKS` each, in the order of the list."""
        await self._require_visible(job_id, by)
        return await self._store.videos.outcome_strip(job_id)

    async def causes(self, job_id: str, *, by: User) -> list[Cause]:
        """Return why the job's failed videos failed, most videos first."""
        await self._require_visible(job_id, by)
        return await self._store.videos.causes(job_id)

    async def times(self, job_id: str, *, by: User) -> VideoTimes:
        """Return how long the job's videos took by their newest results."""
        job = await self._require_visible(job_id, by)
        return await self._store.videos.times(job_id, job.attempt)

    async def timeline(self, job_id: str, *, by: User) -> Timeline:
        """Return what happened to the job as a whole, for as long as there is a record of it."""
        await self._require_visible(job_id, by)
        return await self._store.history.timeline(job_id)

    async def forecasts(self, job_id: str, *, by: User) -> list[SaidForecast]:
        """Return what was said about the end of the job's newest attempt, and how true it was."""
        job = await self._require_visible(job_id, by)
        return await self._store.forecasts.of(job_id, job.attempt)

    async def history(
        self, job_id: str, *, by: User, since: datetime | None = None, after: int | None = None, limit: int = 1000
    ) -> list[bytes]:
        """Return the job's updates as they were sent, encoded, oldest first.

        `since` is inclusive, `after` (a seq) exclusive. Percents are thinned, but the last page always ends with the
        job's newest state.
        """
        job = await self._require_visible(
            job_id, by
        )  # before its rows: none of those up to this state can be missing then
        rows = await self._store.history.page(job_id, since=since, after=after, limit=checked_limit(limit))
        last = msgspec.json.decode(rows[-1], type=Position).seq if rows else after or 0
        if len(rows) < limit and job.seq > last and (since is None or to_millis(job.updated_at) >= to_millis(since)):
            rows.append(msgspec.json.encode(job.update()))
        return rows

    def watch(self, *, by: User, after: int | None = None) -> Reader:
        """Return a reader of the dashboard's live states, from the position `after` on or from the beginning."""
        return self._hub.reader(by.sees_jobs_of, after)

    async def watch_job(self, job_id: str, *, by: User) -> JobReader:
        """Return a reader of the live states of one job. Raises `JobNotFound`."""
        await self._require_visible(job_id, by)
        return self._hub.job_reader(job_id)

    @property
    def position(self) -> int:
        """The newest position: `watch` after it gives what happens from now on."""
        return self._hub.stored_seq

    async def _require_visible(self, job_id: str, by: User) -> Job:
        job = self._hub.job(job_id) or await self._store.jobs.find(job_id, owner_id=by.sees_jobs_of)
        if job is None or not by.may_see(job.owner_id):
            raise JobNotFound
        return job


def _wanted(
    by: User, *, dashboard: bool | None, status: Status | None, q: str, only: JobFilter, sort: str = "newest"
) -> Wanted:
    if sort not in SORTS:
        raise Invalid(f"sort must be one of {', '.join(SORTS)}.")
    return Wanted(
        owner_id=by.sees_jobs_of, dashboard=dashboard, status=status, q=checked_text(q, "q"), sort=sort, only=only
    )


def checked_limit(limit: int) -> int:
    """Return the limit of a page. Raises `Invalid`."""
    if not 1 <= limit <= MAX_PAGE:
        raise Invalid(f"limit must be from 1 to {MAX_PAGE:,}.")
    return limit
