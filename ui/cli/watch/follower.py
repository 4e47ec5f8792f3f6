"""The follower of `watch`: reads jobs from the feed and the routes, and shows them on the display."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NoReturn

import httpx
import msgspec

from backend.clock import Clock, SystemClock, iso
from backend.errors import DashboardError, JobNotFound, NotFound
from backend.settings import Settings
from progress_dashboard import FeedStopped, ProgressFeed, ProgressUpdate
from progress_dashboard.protocol import EXTERNAL
from progress_dashboard.tasks import first_completed
from progress_dashboard.transport import RealNetwork
from ui.cli.client import (
    PAGE_SIZE,
    TOKEN_REFUSED,
    Access,
    RequestRefused,
    ServerUnreachable,
    checked,
    each_job,
    find_job,
    open_client,
)
from ui.cli.watch.display import Display, open_display
from ui.cli.watch.model import (
    ConnectionState,
    FollowedJob,
    already_ended,
    connection_state,
    exit_status,
    in_order,
    is_processing,
    moment,
    news,
    plain,
    summary,
    unusual,
)

TIMEOUT = httpx.Timeout(10, connect=5)
DRAW_SECONDS = 0.25
RETRY_SECONDS = 1.0
SILENT_SECONDS = 1.5  # a longer wait at the start is shown
REMOVED_CHECK_SECONDS = 2.0  # gives the feed time to read from the history how the job ended
PACE_HISTORY = timedelta(hours=1)  # read at the start, so that the pace of a job is known at once
MAX_PACED_JOBS = 20  # jobs whose history is read at the start
POLICY_VIOLATION = 1008


async def follow(access: Access, settings: Settings, job: str | None) -> int:
    """Show this job until it ends (None: all jobs, without end), and return the exit status.

    Raises `DashboardError` if the job cannot be followed, or not any longer.
    """
    feed = ProgressFeed(
        access.url,
        token=access.token,
        reconnect_delays_seconds=settings.reconnect_delays_seconds,
        reconnect_attempts=settings.reconnect_attempts,
        heartbeat_interval_seconds=settings.heartbeat_interval_seconds,
        heartbeat_timeout_seconds=settings.heartbeat_timeout_seconds,
        network=RealNetwork(access.address, access.token, access.proxy),
    )
    with open_display() as display:
        async with feed:
            follower = JobFollower(feed, display, access, SystemClock(), attempts=settings.reconnect_attempts)
            return await follower.run(job)


class JobFollower:
    """Follows jobs over a feed and shows them."""

    def __init__(self, feed: ProgressFeed, display: Display, access: Access, clock: Clock, *, attempts: int) -> None:
        self._feed = feed
        self._display = display
        self._access = access
        self._clock = clock
        self._attempts = attempts
        self._jobs: dict[str, FollowedJob] = {}
        self._listed: set[str] = set()
        self._newest_before = 0
        self._server_ahead: timedelta | None = None
        self._was_connected = False
        self._began = clock.monotonic()
        self._has_jobs = False  # true after they were read
        self._problem = ""

    async def run(self, job: str | None) -> int:
        """Follow this job until it ends (None: all jobs, without end), and return the exit status."""
        try:
            return await first_completed(self._follow(job), self._keep_drawing())
        except FeedStopped as stopped:
            raise self._refusal(stopped) from None
        finally:
            self._draw()

    async def _follow(self, job: str | None) -> int:
        await self._look_up(job)
        if job is None:
            return await self._follow_all()
        [found] = self._jobs.values()
        status = exit_status(found.update)
        if status is not None:
            self._display.write(already_ended(found.update))
            return status
        self._display.announce(summary(found))
        job_id = found.update.job_id
        self._feed.monitor(job_id)
        status = await first_completed(self._until_ended(job_id), self._until_removed(job_id))
        await self._say_if_unusual(job_id)
        return status

    async def _say_if_unusual(self, job_id: str) -> None:
        """Say if the job took longer or less than its list usually does; nothing if the server cannot be asked."""
        with suppress(DashboardError):
            if said := unusual(await asyncio.to_thread(_answer, self._access, job_id)):
                self._display.write(said)

    async def _follow_all(self) -> NoReturn:
        for job in self._jobs.values():
            self._display.announce(summary(job))
        if not self._jobs:
            self._display.write("No active jobs; the next one is shown here.")
        async for update in self._feed:
            self._apply(update)
            self._forget_removed()
        raise asyncio.CancelledError  # the feed was closed

    async def _until_ended(self, job_id: str) -> int:
        async for update in self._feed:
            if update.job_id == job_id:
                self._apply(update)
            status = exit_status(self._jobs[job_id].update)
            if status is not None:
                return status
        raise asyncio.CancelledError

    async def _until_removed(self, job_id: str) -> int:
        """Return the exit status of a job that was removed during a disconnect. Raises `JobNotFound` if deleted."""
        while True:
            await self._clock.sleep(REMOVED_CHECK_SECONDS)
            if not self._feed.is_connected or job_id in self._feed.job_progress:
                continue
            try:
                [job] = await asyncio.to_thread(_read, self._access, job_id)
            except ServerUnreachable as unreachable:
                self._problem = unreachable.sentence
                continue
            except NotFound:
                raise JobNotFound("The job was deleted while it was followed.") from None
            self._problem = ""
            self._apply(job.update)
            status = exit_status(job.update)
            if status is not None:
                return status

    async def _look_up(self, job: str | None) -> None:
        """Load the jobs from the server, as soon as it answers."""
        while True:
            await self._until_connected()
            try:
                known = await asyncio.to_thread(_read, self._access, job)
            except ServerUnreachable as unreachable:
                self._problem = unreachable.sentence
                await self._clock.sleep(RETRY_SECONDS)
                continue
            self._has_jobs, self._problem = True, ""
            self._jobs = {found.update.job_id: found for found in known}
            self._newest_before = max((found.update.seq for found in known), default=0)
            for found in known:
                self._compare_clocks(found.update)
            return

    async def _until_connected(self) -> None:
        while not self._feed.is_connected:
            if self._feed.stopped:
                raise self._feed.stopped
            await self._feed.changed()
        self._was_connected = True

    def _apply(self, update: ProgressUpdate) -> None:
        """Apply an update and announce its news. What was known at the start is no news."""
        self._compare_clocks(update)
        before = self._jobs.get(update.job_id)
        if before is None:
            self._jobs[update.job_id] = FollowedJob.first(update)
            if update.seq > self._newest_before:
                self._display.announce(summary(self._jobs[update.job_id]))
        elif update.seq > before.update.seq:
            self._jobs[update.job_id] = after = before.with_update(update).estimated(self._server_now())
            for entry in news(before.update, after):
                self._display.announce(entry)

    def _forget_removed(self) -> None:
        """Forget the jobs that have left the feed."""
        listed = set(self._feed.job_progress)
        for job_id in self._listed - listed:
            self._jobs.pop(job_id, None)
        self._listed = listed

    async def _keep_drawing(self) -> NoReturn:
        while True:
            self._draw()
            await self._clock.sleep(DRAW_SECONDS)

    def _draw(self) -> None:
        now = self._server_now()
        self._was_connected = self._was_connected or self._feed.is_connected
        for job_id, job in self._jobs.items():
            if is_processing(job.update):
                self._jobs[job_id] = job.estimated(now)
        self._display.draw(in_order(self._jobs.values()), self._connection())

    def _connection(self) -> ConnectionState:
        return connection_state(
            is_connected=self._feed.is_connected,
            attempt=self._feed.attempt,
            attempts=self._attempts,
            seconds=self._feed.next_attempt_in,
            unreachable_url=None if self._was_connected else self._access.url,
            has_stopped=self._feed.stopped is not None,
            problem=self._feed.last_problem,
            waiting_for=self._waiting_for(),
        )

    def _waiting_for(self) -> str:
        """Return what it has been waiting for longer than usual; "" while it is not."""
        if self._problem:
            return f"{self._access.url}: {self._problem}"
        is_long = self._clock.monotonic() - self._began >= SILENT_SECONDS
        return f"an answer of {self._access.url}" if is_long and not self._has_jobs else ""

    def _compare_clocks(self, update: ProgressUpdate) -> None:
        """Measure how far the server's clock is ahead: at least as far as the newest update is in the future."""
        ahead = moment(update) - self._clock.now()
        self._server_ahead = ahead if self._server_ahead is None else max(self._server_ahead, ahead)

    def _server_now(self) -> datetime:
        return self._clock.now() + (self._server_ahead or timedelta())

    def _refusal(self, stopped: FeedStopped) -> RequestRefused:
        """Return the error that says why the feed stopped."""
        if stopped.code == POLICY_VIOLATION:
            return RequestRefused(TOKEN_REFUSED)
        if self._was_connected:
            return RequestRefused(stopped.sentence)
        problem = self._feed.last_problem
        return RequestRefused(
            f"{self._access.no_answer.rstrip('.')} ({plain(problem)})." if problem else self._access.no_answer
        )


def _read(access: Access, job: str | None) -> list[FollowedJob]:
    """Read this job, or with None all jobs on the dashboard, from the server."""
    with open_client(access, timeout=TIMEOUT) as client:
        jobs = [find_job(client, job)] if job is not None else list(each_job(client, dashboard=True))
        updates = [msgspec.convert(found, ProgressUpdate) for found in jobs]
        paced = {update.job_id for update in filter(is_processing, updates[:MAX_PACED_JOBS])}
        return [
            FollowedJob.from_history(_past(client, update) if update.job_id in paced else [], update, _found(job))
            for job, update in zip(jobs, updates, strict=True)
        ]


def _answer(access: Access, job_id: str) -> Mapping[str, Any]:
    with open_client(access, timeout=TIMEOUT) as client:
        return find_job(client, job_id)


def _found(job: Mapping[str, Any]) -> int | None:
    """Return how many of the job's videos had a file; None for an external job, whose files are elsewhere."""
    return None if job["processor"] == EXTERNAL else job["found"]


def _past(client: httpx.Client, newest: ProgressUpdate) -> list[ProgressUpdate]:
    """Read the job's updates of the hour before, oldest first."""
    path = f"/api/jobs/{newest.job_id}/progress-history"
    query: dict[str, str | int] = {"since": iso(moment(newest) - PACE_HISTORY), "limit": PAGE_SIZE}
    past: list[ProgressUpdate] = []
    while True:
        page = _UPDATES.decode(checked(client.get(path, params=query)).content)
        past += page
        if len(page) < PAGE_SIZE:
            return [update for update in past if update.seq < newest.seq]
        query = {"after": page[-1].seq, "limit": PAGE_SIZE}


_UPDATES = msgspec.json.Decoder(list[ProgressUpdate])
