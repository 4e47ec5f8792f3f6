"""The one connection of a process to a server as one user: it keeps a mirror whole and comes back by itself."""

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
MESSAGE_INTERVAL_SECONDS = 0.1  # the server closes a connection that says too much in a second
SETTLING_SECONDS = 0.2  # of the first frames after connecting, which settle most of what is in doubt
MAX_HISTORY_REQUESTS = 4
PAGE_SIZE = 500
INTERNAL_ERROR = "The feed broke off by a fault of its own; its log says more. Start it again."


class ReadyState(IntEnum):
    """As of a browser's WebSocket."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


@dataclass(frozen=True, slots=True)
class ConnectionPolicy:
    """How a connection is kept up: when to come back, when it is dead, when ended jobs are forgotten."""

    reconnection: Reconnection
    heartbeat: Heartbeat
    completed_ttl_seconds: float
    failed_ttl_seconds: float
    cleanup_interval_seconds: float


@dataclass(eq=False)
class Follower:
    """One who follows jobs over a connection: `monitored` ones, or all; each consumer of theirs has an outbox."""

    monitored: frozenset[str] | None = None
    outboxes: WeakSet[Outbox] = field(default_factory=WeakSet)
    has_left: bool = False

    def sees(self, job_id: str, mirror: Mirror) -> bool:
        """Whether this job is theirs; one that was only looked up is so for those who monitor it."""
        return job_id not in mirror.looked_up if self.monitored is None else job_id in self.monitored

    def take(self, news: Iterable[ProgressUpdate], mirror: Mirror) -> None:
        for update in news:
            if self.sees(update.job_id, mirror):
                for outbox in self.outboxes:
                    outbox.put(update)


class FeedConnection:
    """A mirror of what the server shows, and all who follow it.

    `state`, `stopped` (why it tries no more) and `mirror` are to be read; `changed` returns when any of them changed.
    """

    def __init__(self, network: Network, policy: ConnectionPolicy, clock: Clock, rng: Random) -> None:
        self.mirror = Mirror(
            completed_ttl_seconds=policy.completed_ttl_seconds, failed_ttl_seconds=policy.failed_ttl_seconds
        )
        self.state = ReadyState.CLOSED
        self.stopped: FeedStopped | None = None
        self.followers: set[Follower] = set()
        self._network = network
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._tried = 0
        self._next_attempt: float | None = None
        self._last_received = 0.0
        self._brought_news = False
        self._unsent: list[str] = []
        self._change = asyncio.Event()
        self._retry = asyncio.Event()
        self._restart = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def attempt(self) -> int:
        """Which attempt to come back is on, or waited for; 0 while connected and at first."""
        return 0 if self.state in (ReadyState.OPEN, ReadyState.CLOSING) else self._tried

    @property
    def next_attempt_in(self) -> float | None:
        """Seconds until the next attempt; None when none is waited for."""
        return None if self._next_attempt is None else max(0.0, self._next_attempt - self._clock.monotonic())

    @property
    def next_attempt_at(self) -> datetime | None:
        seconds = self.next_attempt_in
        return None if seconds is None else self._clock.now() + timedelta(seconds=seconds)

    async def changed(self) -> None:
        """Return after the next change of anything."""
        await self._change.wait()

    def join(self, follower: Follower) -> None:
        """One more follows; the first one opens the connection, and any one does so again after a stop."""
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
        """One less; returns when the connection is closed after the last one."""
        follower.has_left = True
        self.followers.discard(follower)
        if self.followers:
            self._update_monitored()
            self._notify()
        else:
            await self._close()

    def monitor(self, follower: Follower, job_id: str) -> None:
        """They want this job, and no more all of them."""
        sees_it_already = follower.sees(job_id, self.mirror)
        follower.monitored = frozenset({job_id, *(follower.monitored or ())})
        self._update_monitored()
        self.mirror.look_up(job_id)
        delivered = self.mirror.delivered(job_id)
        if delivered is not None and not sees_it_already:
            follower.take([delivered], self.mirror)
        self._notify()

    def unmonitor(self, follower: Follower, job_id: str) -> None:
        """They want this job no more."""
        if follower.monitored is not None:
            follower.monitored -= {job_id}
            self._update_monitored()
            self._notify()

    def outbox(self, follower: Follower) -> Outbox:
        """For a consumer of theirs; the newest state of each job is in it."""
        outbox = Outbox()
        for job_id in tuple(self.mirror.jobs):
            delivered = self.mirror.delivered(job_id)
            if delivered is not None and follower.sees(job_id, self.mirror):
                outbox.put(delivered)
        follower.outboxes.add(outbox)
        return outbox

    async def send(self, text: str) -> None:
        """Queue a message; waits while 100 others wait. Raises `FeedStopped`."""
        while len(self._unsent) >= MAX_QUEUED_MESSAGES and not self.stopped:
            await self.changed()
        self.raise_if_stopped()
        self._unsent.append(text)
        self._notify()

    def raise_if_stopped(self) -> None:
        """Raises `FeedStopped` when it tries no more."""
        if self.stopped:
            raise FeedStopped(self.stopped.sentence, code=self.stopped.code)

    def retry_now(self) -> None:
        """Do not wait for the next attempt; after a stop, start again."""
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
        """The mirror keeps what anybody wants."""
        wanted: frozenset[str] | None = frozenset()
        for follower in self.followers:
            wanted = None if wanted is None or follower.monitored is None else wanted | follower.monitored
        if self.mirror.keep(wanted):
            self._restart.set()

    async def _run(self) -> None:
        try:
            while not self.stopped:
                await self._wait_to_reconnect(await self._connect())
        except Exception:
            log.exception("the progress feed broke", extra={"action": "feed_broke"})
            self._stop(FeedStopped(INTERNAL_ERROR))

    async def _wait_to_reconnect(self, disconnect: Disconnect | None) -> None:
        """Wait as long as it takes, or stop; None: nothing went wrong."""
        if disconnect is None:
            return
        then = self._policy.reconnection.after(disconnect, tried=self._tried, rng=self._rng)
        if isinstance(then, FeedStopped):
            self._stop(then)
            return
        self._tried = then.attempt
        facts = {"action": "feed_lost", "why": disconnect.words, "attempt": then.attempt, "delay": then.delay_seconds}
        log.info("progress feed lost, it comes back", extra=facts)
        await self._pause(then.delay_seconds)

    async def _pause(self, seconds: float) -> None:
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
        """A connection from handshake to end; how it ended, None when it has to be opened anew at once."""
        self._set_state(ReadyState.CONNECTING)
        self._restart.clear()
        try:
            transport = await self._network.connect(after=self.mirror.position)
        except ConnectionLost as ended:
            self._set_state(ReadyState.CLOSED)
            return Disconnect(ended.words, ended.code)
        began, self._brought_news = self._clock.monotonic(), False
        try:
            return await self._live_on(transport, began)
        finally:
            self._set_state(ReadyState.CLOSING)
            await transport.close()
            self._set_state(ReadyState.CLOSED)

    async def _live_on(self, transport: Transport, began: float) -> Disconnect | None:
        self._last_received = began
        self.mirror.connected()
        self._set_state(ReadyState.OPEN)
        log.info("progress feed connected", extra={"action": "feed_connected"})
        try:
            await first_completed(
                self._listen(transport),
                self._watch(),
                self._ping(transport),
                self._send_queued(transport),
                self._fill_gaps(),
                self._restart.wait(),
            )
        except ConnectionLost as ended:
            return Disconnect(ended.words, ended.code, self._clock.monotonic() - began, self._brought_news)
        except OutOfStep:
            return Disconnect("some news did not arrive", None, self._clock.monotonic() - began, self._brought_news)
        return None

    async def _listen(self, transport: Transport) -> NoReturn:
        while True:
            frame = await transport.receive()
            self._last_received = self._clock.monotonic()
            position = self.mirror.position
            news = self.mirror.receive(frame, at=self._clock.now())
            self._brought_news = self._brought_news or bool(news) or self.mirror.position != position
            self._hand_on(news)

    async def _watch(self) -> NoReturn:
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
        """Ask history for what was missed, for a few jobs at once."""
        asked: set[str] = set()
        places = asyncio.Semaphore(MAX_HISTORY_REQUESTS)

        async def ask(job_id: str) -> None:
            try:
                await self._fill_gap(job_id, places)
            finally:
                asked.discard(job_id)

        async with asyncio.TaskGroup() as tasks:
            while True:
                while not self.mirror.gaps.keys() - asked:
                    await self.changed()
                await self._clock.sleep(SETTLING_SECONDS)
                for job_id in sorted(self.mirror.gaps.keys() - asked):
                    asked.add(job_id)
                    tasks.create_task(ask(job_id))

    async def _fill_gap(self, job_id: str, places: asyncio.Semaphore) -> None:
        """Ask until nothing of this job is missed; what history refuses is given up."""
        failures = 0
        delays = self._policy.reconnection.delays_seconds
        while job_id in self.mirror.gaps:
            try:
                async with places:
                    await self._ask_for_page(job_id)
                failures = 0
            except NoSuchJob:
                self._hand_on(self.mirror.give_up(job_id, gone=True))
            except HistoryRefused as refused:
                self._give_up(job_id, refused)
            except (HistoryFailed, HistoryUnreachable) as error:
                await self._clock.sleep(delays[min(failures, len(delays) - 1)])
                failures += isinstance(error, HistoryFailed)
                if failures >= self._policy.reconnection.attempts:
                    self._give_up(job_id, error)

    async def _ask_for_page(self, job_id: str) -> None:
        after = self.mirror.gaps.get(job_id)
        if after is None:  # it was told while this waited for its place
            return
        updates = await self._network.history(job_id, after=after, limit=PAGE_SIZE)
        self._hand_on(self.mirror.fill_in(job_id, updates, at=self._clock.now(), whole=len(updates) < PAGE_SIZE))

    def _give_up(self, job_id: str, error: Exception) -> None:
        log.warning("history was not to be had", extra={"action": "history_given_up", "job_id": job_id, "why": error})
        self._hand_on(self.mirror.give_up(job_id))

    async def _expire(self) -> NoReturn:
        while True:
            await self._clock.sleep(self._policy.cleanup_interval_seconds)
            if self.mirror.expire(self._clock.now()):
                self._notify()

    def _hand_on(self, news: Sequence[ProgressUpdate]) -> None:
        for follower in self.followers:
            follower.take(news, self.mirror)
        self._notify()

    def _set_state(self, state: ReadyState) -> None:
        self.state = state
        self._notify()

    def _notify(self) -> None:
        self._change.set()
        self._change = asyncio.Event()
