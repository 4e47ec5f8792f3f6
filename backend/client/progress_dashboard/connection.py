"""The one connection of a process to a server as one user: it keeps a mirror complete and reconnects automatically."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from math import inf
from random import Random
from typing import NoReturn
from weakref import WeakSet

from .clock import Clock
from .errors import FeedStopped
from .mirror import Mirror, OutOfStep
from .outbox import Outbox
from .policy import Disconnect, Heartbeat, Reconnection
from .protocol import ProgressUpdate
from .tasks import first_completed
from .transport import (
    ConnectionLost,
    HistoryFailed,
    HistoryRefused,
    HistoryUnreachable,
    Network,
    NoSuchJob,
    Transport,
)

log = logging.getLogger(__name__)
MAX_QUEUED_MESSAGES = 100  # messages that wait for a connection
MESSAGE_INTERVAL_SECONDS = 0.1  # the server closes a connection that sends too many messages in a second
SETTLING_SECONDS = 0.2  # wait before history requests, because the first frames after connecting close most gaps
MAX_HISTORY_REQUESTS = 4  # at the same time
PAGE_SIZE = 500  # updates of a job's history
INTERNAL_ERROR = "The feed stopped because of an internal error; look into its log, then start it again."


class ReadyState(IntEnum):
    """The state of the connection, with the numbers of a browser's WebSocket."""

    # The first attempt or a later one is under way.
    CONNECTING = 0
    # The server has accepted the connection.
    OPEN = 1
    # The connection has ended and is being closed.
    CLOSING = 2
    # There is no connection: between attempts, or for good.
    CLOSED = 3


@dataclass(frozen=True, slots=True)
class ConnectionPolicy:
    """The rules of a connection: when to reconnect, when it is dead, when ended jobs are forgotten."""

    # When to connect again, and when to stop.
    reconnection: Reconnection
    # When to ping, and when to treat the connection as dead.
    heartbeat: Heartbeat
    # How long a completed or cancelled job is kept after its end, unless the server tells when it leaves.
    completed_ttl_seconds: float
    # The same for a job that failed or completed with errors.
    failed_ttl_seconds: float
    # How often to look for jobs to forget.
    cleanup_interval_seconds: float


@dataclass(eq=False)
class Follower:
    """One feed on a connection: the jobs that it follows, and an outbox for each of its consumers."""

    # IDs of the monitored jobs; None for all jobs.
    monitored: frozenset[str] | None = None
    # Outboxes of its consumers; one that its consumer has released drops out.
    outboxes: WeakSet[Outbox] = field(default_factory=WeakSet)
    # True after it has left the connection.
    has_left: bool = False

    def sees(self, job_id: str, mirror: Mirror) -> bool:
        """Return True if it follows this job; a job that was only looked up is for those who monitor it."""
        return job_id not in mirror.looked_up if self.monitored is None else job_id in self.monitored

    def take(self, updates: Iterable[ProgressUpdate], mirror: Mirror) -> None:
        """Queue the updates of the jobs that it follows for each of its consumers."""
        for update in updates:
            if self.sees(update.job_id, mirror):
                for outbox in self.outboxes:
                    outbox.put(update)


class FeedConnection:
    """A mirror of what the server shows, and the followers that share it."""

    def __init__(self, network: Network, policy: ConnectionPolicy, clock: Clock, rng: Random) -> None:
        # What the server shows.
        self.mirror = Mirror(
            completed_ttl_seconds=policy.completed_ttl_seconds, failed_ttl_seconds=policy.failed_ttl_seconds
        )
        # State of the connection at this moment.
        self.state = ReadyState.CLOSED
        # Why it no longer tries to connect; None while it does.
        self.stopped: FeedStopped | None = None
        # Why the last connection ended or could not be opened; "" while it is open, and before the first end.
        self.last_problem = ""
        # The feeds that share it.
        self.followers: set[Follower] = set()
        self._network = network
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._tried = 0
        self._next_attempt: float | None = None
        self._last_received = 0.0
        self._received_updates = False
        self._unsent: list[str] = []
        self._change = asyncio.Event()
        self._retry = asyncio.Event()
        self._restart = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def attempt(self) -> int:
        """Number of the attempt to reconnect that is under way or waited for; 0 while connected and at first."""
        return 0 if self.state in (ReadyState.OPEN, ReadyState.CLOSING) else self._tried

    @property
    def next_attempt_in(self) -> float | None:
        """Seconds until the next attempt; None when none is waited for."""
        return None if self._next_attempt is None else max(0.0, self._next_attempt - self._clock.monotonic())

    @property
    def next_attempt_at(self) -> datetime | None:
        """Time of the next attempt, in UTC; None when none is waited for."""
        seconds = self.next_attempt_in
        return None if seconds is None else self._clock.now() + timedelta(seconds=seconds)

    async def changed(self) -> None:
        """Return after the next change of `state`, `stopped`, `mirror` or an attempt."""
        await self._change.wait()

    def join(self, follower: Follower) -> None:
        """Add a follower; the first one opens the connection, and each one reopens it after a stop."""
        self.followers.add(follower)
        self._update_monitored()
        for job_id in follower.monitored or ():
            self.mirror.look_up(job_id)
        if not self._tasks:
            self._tasks.append(asyncio.create_task(self._expire(), name="progress feed cleanup"))
            self._start()
        elif self.stopped:
            self.retry_now()

    async def leave(self, follower: Follower) -> None:
        """Remove a follower; after the last one close the connection and wait for its end."""
        follower.has_left = True
        self.followers.discard(follower)
        if self.followers:
            self._update_monitored()
            self._notify()
        else:
            await self._close()

    def monitor(self, follower: Follower, job_id: str) -> None:
        """Follow this job for a follower, and no longer all jobs."""
        saw_it = follower.sees(job_id, self.mirror)
        follower.monitored = frozenset({job_id, *(follower.monitored or ())})
        self._update_monitored()
        self.mirror.look_up(job_id)
        delivered = self.mirror.delivered(job_id)
        if delivered is not None and not saw_it:
            follower.take([delivered], self.mirror)
        self._notify()

    def unmonitor(self, follower: Follower, job_id: str) -> None:
        """Stop following this job for a follower."""
        if follower.monitored is not None:
            follower.monitored -= {job_id}
            self._update_monitored()
            self._notify()

    def outbox(self, follower: Follower) -> Outbox:
        """Return an outbox for a new consumer of a follower; it begins with the newest state of each job."""
        outbox = Outbox()
        for job_id in tuple(self.mirror.jobs):
            delivered = self.mirror.delivered(job_id)
            if delivered is not None and follower.sees(job_id, self.mirror):
                outbox.put(delivered)
        follower.outboxes.add(outbox)
        return outbox

    async def send(self, text: str) -> None:
        """Queue a message; wait while 100 others are queued. Raises `FeedStopped`."""
        while len(self._unsent) >= MAX_QUEUED_MESSAGES and not self.stopped:
            await self.changed()
        self.raise_if_stopped()
        self._unsent.append(text)
        self._notify()

    def raise_if_stopped(self) -> None:
        """Raise `FeedStopped` if it no longer tries to connect."""
        if self.stopped:
            raise FeedStopped(self.stopped.sentence, code=self.stopped.code)

    def retry_now(self) -> None:
        """Begin the next attempt now; after a stop, start again."""
        if self.stopped:
            self.stopped, self._tried = None, 0
            self._start()
        self._retry.set()

    def _start(self) -> None:
        self._tasks[1:] = [asyncio.create_task(self._run(), name="progress feed")]
        self._set_state(ReadyState.CONNECTING)

    async def _close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._set_state(ReadyState.CLOSED)
            await self._network.close()

    def _update_monitored(self) -> None:
        """Make the mirror keep the jobs that any follower follows."""
        followed: frozenset[str] | None = frozenset()
        for follower in self.followers:
            followed = None if followed is None or follower.monitored is None else followed | follower.monitored
        if self.mirror.keep(followed):
            self._restart.set()

    async def _run(self) -> None:
        try:
            while not self.stopped:
                await self._wait_to_reconnect(await self._connect())
        except Exception:
            log.exception("progress feed failed", extra={"action": "feed_failed"})
            self._stop(FeedStopped(INTERNAL_ERROR))

    async def _wait_to_reconnect(self, disconnect: Disconnect | None) -> None:
        """Wait for the next attempt, or stop; return at once after a connection that was closed on purpose (None)."""
        if disconnect is None:
            return
        self.last_problem = disconnect.reason
        decision = self._policy.reconnection.after(disconnect, tried=self._tried, rng=self._rng)
        if isinstance(decision, FeedStopped):
            self._stop(decision)
            return
        self._tried = decision.attempt
        log.info(
            "progress feed disconnected, reconnecting",
            extra={
                "action": "feed_disconnected",
                "why": disconnect.reason,
                "attempt": decision.attempt,
                "delay": decision.delay_seconds,
            },
        )
        await self._sleep_unless_retried(decision.delay_seconds)

    async def _sleep_unless_retried(self, seconds: float) -> None:
        self._retry.clear()
        self._next_attempt = self._clock.monotonic() + seconds
        self._notify()
        try:
            await first_completed(self._clock.sleep(seconds), self._retry.wait())
        finally:
            self._next_attempt = None

    def _stop(self, reason: FeedStopped) -> None:
        log.warning("progress feed stopped", extra={"action": "feed_stopped", "why": reason.sentence})
        self.stopped = reason
        self._set_state(ReadyState.CLOSED)

    async def _connect(self) -> Disconnect | None:
        """Hold a connection from handshake to end; return how it ended, None to open another one at once."""
        self._set_state(ReadyState.CONNECTING)
        self._restart.clear()
        try:
            transport = await self._network.connect(after=self.mirror.position)
        except ConnectionLost as lost:
            self._set_state(ReadyState.CLOSED)
            return Disconnect(lost.reason, lost.code)
        try:
            return await self._use(transport)
        finally:
            self._set_state(ReadyState.CLOSING)
            await transport.close()
            self._set_state(ReadyState.CLOSED)

    async def _use(self, transport: Transport) -> Disconnect | None:
        opened_at = self._last_received = self._clock.monotonic()
        self._received_updates, self.last_problem = False, ""
        self.mirror.connected()
        self._set_state(ReadyState.OPEN)
        log.info("progress feed connected", extra={"action": "feed_connected"})
        try:
            await first_completed(
                self._receive(transport),
                self._watch_for_silence(),
                self._ping(transport),
                self._send_queued(transport),
                self._fill_gaps(),
                self._restart.wait(),
            )
        except ConnectionLost as lost:
            return Disconnect(lost.reason, lost.code, self._clock.monotonic() - opened_at, self._received_updates)
        except OutOfStep:
            reason = "some updates did not arrive"
            return Disconnect(reason, None, self._clock.monotonic() - opened_at, self._received_updates)
        return None

    async def _receive(self, transport: Transport) -> NoReturn:
        while True:
            frame = await transport.receive()
            self._last_received = self._clock.monotonic()
            position = self.mirror.position
            updates = self.mirror.receive(frame, at=self._clock.now())
            self._received_updates = self._received_updates or bool(updates) or self.mirror.position != position
            self._deliver(updates)

    async def _watch_for_silence(self) -> NoReturn:
        heartbeat = self._policy.heartbeat
        while (left := heartbeat.until_dead(self._clock.monotonic(), last_received=self._last_received)) > 0:
            await self._clock.sleep(left)
        raise ConnectionLost(f"the server was silent for {heartbeat.timeout_seconds:g} s")

    async def _ping(self, transport: Transport) -> NoReturn:
        last_ping = -inf
        while True:
            now = self._clock.monotonic()
            wait = self._policy.heartbeat.until_ping(now, last_received=self._last_received, last_ping=last_ping)
            if wait > 0:
                await self._clock.sleep(wait)
            else:
                last_ping = now
                await transport.send("ping")

    async def _send_queued(self, transport: Transport) -> NoReturn:
        while True:
            while not self._unsent:
                await self.changed()
            await transport.send(self._unsent[0])
            del self._unsent[0]
            self._notify()
            await self._clock.sleep(MESSAGE_INTERVAL_SECONDS)

    async def _fill_gaps(self) -> NoReturn:
        """Request the history of the jobs with gaps, of a few jobs at once."""
        requested: set[str] = set()
        places = asyncio.Semaphore(MAX_HISTORY_REQUESTS)

        async def fill(job_id: str) -> None:
            try:
                await self._fill_gap(job_id, places)
            finally:
                requested.discard(job_id)

        async with asyncio.TaskGroup() as tasks:
            while True:
                while not self.mirror.gaps.keys() - requested:
                    await self.changed()
                await self._clock.sleep(SETTLING_SECONDS)
                for job_id in sorted(self.mirror.gaps.keys() - requested):
                    requested.add(job_id)
                    tasks.create_task(fill(job_id))

    async def _fill_gap(self, job_id: str, places: asyncio.Semaphore) -> None:
        """Request history until this job has no gap; give up when the server refuses it, or failed too often."""
        failures = 0
        delays = self._policy.reconnection.delays_seconds
        while job_id in self.mirror.gaps:
            try:
                async with places:
                    await self._request_page(job_id)
                failures = 0
            except NoSuchJob:
                self._deliver(self.mirror.give_up(job_id, gone=True))
            except HistoryRefused as refused:
                self._give_up(job_id, refused)
            except (HistoryFailed, HistoryUnreachable) as error:
                await self._clock.sleep(delays[min(failures, len(delays) - 1)])
                failures += isinstance(error, HistoryFailed)
                if failures >= self._policy.reconnection.attempts:
                    self._give_up(job_id, error)

    async def _request_page(self, job_id: str) -> None:
        after = self.mirror.gaps.get(job_id)
        if after is None:  # a frame closed the gap while this request waited for its place
            return
        updates = await self._network.history(job_id, after=after, limit=PAGE_SIZE)
        self._deliver(self.mirror.fill_in(job_id, updates, at=self._clock.now(), whole=len(updates) < PAGE_SIZE))

    def _give_up(self, job_id: str, error: Exception) -> None:
        log.warning("history not available", extra={"action": "history_given_up", "job_id": job_id, "why": error})
        self._deliver(self.mirror.give_up(job_id))

    async def _expire(self) -> NoReturn:
        while True:
            await self._clock.sleep(self._policy.cleanup_interval_seconds)
            if self.mirror.expire(self._clock.now()):
                self._notify()

    def _deliver(self, updates: Sequence[ProgressUpdate]) -> None:
        for follower in self.followers:
            follower.take(updates, self.mirror)
        self._notify()

    def _set_state(self, state: ReadyState) -> None:
        self.state = state
        self._notify()

    def _notify(self) -> None:
        self._change.set()
        self._change = asyncio.Event()
