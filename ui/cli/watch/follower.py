"""Following jobs for `watch`: from the feed, and what only the routes tell, to the display."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import NoReturn

import httpx
import msgspec

from backend.clock import Clock, SystemClock, iso
from backend.errors import JobNotFound, NotFound
from backend.settings import Settings
from progress_dashboard import FeedStopped, ProgressFeed, ProgressUpdate
from progress_dashboard.tasks import first_completed
from ui.cli.client import (
    JOBS_AT_ONCE,
    TOKEN_REFUSED,
    Access,
    RequestRefused,
    ServerAway,
    checked,
    each_job,
    find_job,
    no_answer,
    speaking,
)
from ui.cli.watch.display import Display, display
from ui.cli.watch.model import (
    ConnectionState,
    Followed,
    connection,
    ended_already,
    exit_status,
    in_order,
    is_at_work,
    moment,
    news,
    state,
)

TIMEOUT = httpx.Timeout(10, connect=5)
PAINT_SECONDS = 0.25
AGAIN_SECONDS = 1.0
GONE_SECONDS = 2.0  # history is asked first how a job ended that left while nobody listened
PAST = timedelta(hours=1)  # of what was done before, to know a job's pace at once
MAX_PACED_JOBS = 20  # jobs whose past is asked for
POLICY = 1008


async def follow(access: Access, settings: Settings, given: str | None) -> int:
    """Show the job that was given until it ends, None: all jobs for ever; the exit status.

    Raises `DashboardError` when that is not possible, or no longer.
    """
    feed = ProgressFeed(
        access.url,
        token=access.token,
        reconnect_delays_seconds=settings.reconnect_delays_seconds,
        reconnect_attempts=settings.reconnect_attempts,
        heartbeat_interval_seconds=settings.heartbeat_interval_seconds,
        heartbeat_timeout_seconds=settings.heartbeat_timeout_seconds,
    )
    with display() as shown:
        async with feed:
            watching = Watching(feed, shown, access, SystemClock(), attempts=settings.reconnect_attempts)
            return await watching.run(given)


class Watching:
    """Jobs that are followed over a feed, and shown."""

    def __init__(self, feed: ProgressFeed, shown: Display, access: Access, clock: Clock, *, attempts: int) -> None:
        self._feed = feed
        self._display = shown
        self._access = access
        self._clock = clock
        self._attempts = attempts
        self._jobs: dict[str, Followed] = {}
        self._listed: set[str] = set()
        self._newest_before = 0
        self._server_ahead: timedelta | None = None
        self._was_connected = False

    async def run(self, given: str | None) -> int:
        """Follow the job that was given until it ends, None: all jobs for ever; the exit status."""
        try:
            return await first_completed(self._follow(given), self._keep_painting())
        except FeedStopped as stopped:
            raise self._why(stopped) from None
        finally:
            self._paint()

    async def _follow(self, given: str | None) -> int:
        await self._look_up(given)
        if given is None:
            return await self._follow_all()
        [job] = self._jobs.values()
        status = exit_status(job.update)
        if status is not None:
            self._display.tell(ended_already(job.update))
            return status
        self._display.say(state(job))
        job_id = job.update.job_id
        self._feed.monitor(job_id)
        return await first_completed(self._until_ended(job_id), self._until_gone(job_id))

    async def _follow_all(self) -> NoReturn:
        for job in self._jobs.values():
            self._display.say(state(job))
        async for update in self._feed:
            self._take(update)
            self._forget_removed()
        raise asyncio.CancelledError  # the feed was left

    async def _until_ended(self, job_id: str) -> int:
        async for update in self._feed:
            if update.job_id == job_id:
                self._take(update)
            status = exit_status(self._jobs[job_id].update)
            if status is not None:
                return status
        raise asyncio.CancelledError

    async def _until_gone(self, job_id: str) -> int:
        """The exit status of a job that left while nobody listened; raises `JobNotFound` when it was deleted."""
        while True:
            await self._clock.sleep(GONE_SECONDS)
            if not self._feed.is_connected or job_id in self._feed.job_progress:
                continue
            try:
                [job] = await asyncio.to_thread(_known, self._access, job_id)
            except ServerAway:
                continue
            except NotFound:
                raise JobNotFound("The job was deleted while it was watched.") from None
            self._take(job.update)
            status = exit_status(job.update)
            if status is not None:
                return status

    async def _look_up(self, given: str | None) -> None:
        """Begin with what the server knows, as soon as it answers."""
        while True:
            await self._until_connected()
            try:
                known = await asyncio.to_thread(_known, self._access, given)
            except ServerAway:
                await self._clock.sleep(AGAIN_SECONDS)
                continue
            self._jobs = {job.update.job_id: job for job in known}
            self._newest_before = max((job.update.seq for job in known), default=0)
            for job in known:
                self._compare_clocks(job.update)
            return

    async def _until_connected(self) -> None:
        while not self._feed.is_connected:
            if self._feed.stopped:
                raise self._feed.stopped
            await self._feed.changed()
        self._was_connected = True

    def _take(self, update: ProgressUpdate) -> None:
        """Keep it, and say what is new in it; what was before the watching began is no news."""
        self._compare_clocks(update)
        before = self._jobs.get(update.job_id)
        if before is None:
            self._jobs[update.job_id] = Followed.beginning(update)
            if update.seq > self._newest_before:
                self._display.say(state(self._jobs[update.job_id]))
        elif update.seq > before.update.seq:
            self._jobs[update.job_id] = after = before.then(update).estimated(self._server_now())
            for said in news(before.update, after):
                self._display.say(said)

    def _forget_removed(self) -> None:
        """Jobs that the feed showed and shows no more."""
        listed = set(self._feed.job_progress)
        for job_id in self._listed - listed:
            self._jobs.pop(job_id, None)
        self._listed = listed

    async def _keep_painting(self) -> NoReturn:
        while True:
            self._paint()
            await self._clock.sleep(PAINT_SECONDS)

    def _paint(self) -> None:
        now = self._server_now()
        self._was_connected = self._was_connected or self._feed.is_connected
        for job_id, job in self._jobs.items():
            if is_at_work(job.update):
                self._jobs[job_id] = job.estimated(now)
        self._display.paint(in_order(self._jobs.values()), self._connection())

    def _connection(self) -> ConnectionState:
        return connection(
            is_connected=self._feed.is_connected,
            attempt=self._feed.attempt,
            attempts=self._attempts,
            seconds=self._feed.next_attempt_in,
            nobody_at=None if self._was_connected else self._access.url,
            has_stopped=self._feed.stopped is not None,
        )

    def _compare_clocks(self, update: ProgressUpdate) -> None:
        """An update is from the past: the server's clock is ahead by what the newest ones show at least."""
        ahead = moment(update) - self._clock.now()
        self._server_ahead = ahead if self._server_ahead is None else max(self._server_ahead, ahead)

    def _server_now(self) -> datetime:
        return self._clock.now() + (self._server_ahead or timedelta())

    def _why(self, stopped: FeedStopped) -> RequestRefused:
        """Why nothing can be followed any more, in words for the terminal."""
        if stopped.code == POLICY:
            return RequestRefused(TOKEN_REFUSED)
        return RequestRefused(stopped.sentence if self._was_connected else no_answer(self._access.url))


def _known(access: Access, given: str | None) -> list[Followed]:
    """The job that was given, None: all jobs on the dashboard, as the server tells them."""
    with speaking(access, timeout=TIMEOUT) as client:
        told = [find_job(client, given)] if given is not None else each_job(client, dashboard=True)
        updates = [msgspec.convert(job, ProgressUpdate) for job in told]
        paced = {update.job_id for update in filter(is_at_work, updates[:MAX_PACED_JOBS])}
        return [Followed.through(_past(client, update) if update.job_id in paced else [], update) for update in updates]


def _past(client: httpx.Client, newest: ProgressUpdate) -> list[ProgressUpdate]:
    """The job's updates of the hour before, oldest first."""
    path = f"/api/jobs/{newest.job_id}/progress-history"
    query: dict[str, str | int] = {"since": iso(moment(newest) - PAST), "limit": JOBS_AT_ONCE}
    past: list[ProgressUpdate] = []
    while True:
        page = _UPDATES.decode(checked(client.get(path, params=query)).content)
        past += page
        if len(page) < JOBS_AT_ONCE:
            return [update for update in past if update.seq < newest.seq]
        query = {"after": page[-1].seq, "limit": JOBS_AT_ONCE}


_UPDATES = msgspec.json.Decoder(list[ProgressUpdate])
