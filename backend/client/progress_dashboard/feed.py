"""`ProgressFeed`: a program's view of a running dashboard, the counterpart of a `useWebSocket` hook."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from datetime import datetime
from random import Random
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

import msgspec

from .address import Address
from .clock import Clock, SystemClock
from .connection import ConnectionPolicy, FeedConnection, Follower, ReadyState
from .errors import FeedStopped, InvalidArgument
from .policy import Heartbeat, Reconnection
from .protocol import ProgressUpdate
from .proxies import proxy_for
from .settings import TOKEN_VARIABLE, URL_VARIABLE, settings_from_environment
from .tokens import checked_token
from .transport import Network, RealNetwork

MAX_MESSAGE_BYTES = 64 * 1024
_CLOCK = SystemClock()
_Key = tuple[object, ...]


class ProgressFeed:
    """Follows the jobs of a user, live, and reconnects automatically.

        async with ProgressFeed("http://localhost:8000", token=token) as feed:
            async for update in feed:
                print(update.message, update.progress)

    Without arguments it uses `DASHBOARD_URL` and `DASHBOARD_TOKEN`. The address may begin with http, https, ws or wss.
    Entering does not wait for the server. Feeds with the same address, token and settings share one connection in an
    event loop. It keeps the jobs that any of these feeds follows, and each feed shows its own.

    Each iteration is a consumer of its own. It begins with the newest state of each job, then yields every update once,
    in the order of `seq` within a job, and every error even if the connection was lost in between. A slow consumer
    misses percents only. An iteration ends when the feed is left. It raises `FeedStopped` when the feed has stopped,
    because the token was refused or ten attempts in a row failed.

    Ended jobs leave when the server removes them. If it does not send removals, they leave 5 minutes after their end,
    those with failures after a day.
    All times are seconds. Raises `InvalidArgument` for an address or a token that cannot be one.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        reconnect_delays_seconds: Sequence[float] = (3, 6, 12, 24, 30),
        reconnect_attempts: int = 10,
        heartbeat_interval_seconds: float = 25,
        heartbeat_timeout_seconds: float = 60,
        completed_job_ttl_seconds: float = 300,
        failed_job_ttl_seconds: float = 86_400,
        cleanup_interval_seconds: float = 60,
        clock: Clock = _CLOCK,
        rng: Random | None = None,
        network: Network | None = None,
    ) -> None:
        """Make a feed; enter it to connect. A `network` replaces the one that leads to the address.

        Entering raises `InvalidArgument` if the environment names a proxy that cannot be used.
        """
        given = settings_from_environment()
        self._address, token_in_url = Address.parse(url) if url else Address.parse(given.url, URL_VARIABLE)
        self._token = (
            checked_token(token or "") or checked_token(token_in_url) or checked_token(given.token, TOKEN_VARIABLE)
        )
        self._policy = ConnectionPolicy(
            Reconnection(tuple(reconnect_delays_seconds), reconnect_attempts),
            Heartbeat(heartbeat_interval_seconds, heartbeat_timeout_seconds),
            completed_job_ttl_seconds,
            failed_job_ttl_seconds,
            cleanup_interval_seconds,
        )
        self._clock = clock
        self._rng = rng or Random()  # noqa: S311  spreads delays
        self._network = network
        self._monitored: frozenset[str] | None = None
        self._follower: Follower | None = None
        self._connection: FeedConnection | None = None
        self._last_seen: Mapping[str, ProgressUpdate] = {}

    def __repr__(self) -> str:
        return f"ProgressFeed({self._address.base!r})"

    async def __aenter__(self) -> Self:
        if self._connection is not None:
            raise RuntimeError("This feed is in use already; make another one, which shares the connection.")
        self._follower = Follower(self._monitored)
        self._connection = _SHARED.connection(self._key, self._new_connection)
        self._connection.join(self._follower)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, follower = self._entered()
        self._last_seen, self._monitored = dict(self.job_progress), follower.monitored
        self._connection = self._follower = None
        if connection.followers == {follower}:
            _SHARED.discard(self._key)
        await connection.leave(follower)

    def __aiter__(self) -> Updates:
        return Updates(*self._entered())

    @property
    def job_progress(self) -> Mapping[str, ProgressUpdate]:
        """The newest state of each job by job ID; a live view until the feed is left."""
        if self._connection is None or self._follower is None:
            return self._last_seen
        return JobProgress(self._connection, self._follower)

    @property
    def ready_state(self) -> ReadyState:
        """The state of the connection; CLOSED between attempts, and while the feed is not entered."""
        return ReadyState.CLOSED if self._connection is None else self._connection.state

    @property
    def is_connected(self) -> bool:
        """True while the connection is open."""
        return self.ready_state is ReadyState.OPEN

    @property
    def reconnecting(self) -> bool:
        """True while the feed tries to connect again, after a lost connection or a failed attempt."""
        return self.attempt > 0 and self.stopped is None

    @property
    def attempt(self) -> int:
        """Number of the attempt to reconnect, from 1; 0 while connected and during the very first attempt."""
        return 0 if self._connection is None else self._connection.attempt

    @property
    def next_attempt_at(self) -> datetime | None:
        """Time of the next attempt, in UTC; None when none is waited for."""
        return None if self._connection is None else self._connection.next_attempt_at

    @property
    def next_attempt_in(self) -> float | None:
        """Seconds until the next attempt; None when none is waited for."""
        return None if self._connection is None else self._connection.next_attempt_in

    @property
    def last_problem(self) -> str:
        """Why the last connection ended or could not be opened; "" while connected, and before the first end."""
        return "" if self._connection is None else self._connection.last_problem

    @property
    def stopped(self) -> FeedStopped | None:
        """The reason why the feed has stopped; None while it has not."""
        return None if self._connection is None else self._connection.stopped

    def retry_now(self) -> None:
        """Begin the next attempt now; after a stop, start again and resume with the jobs that are known."""
        self._entered()[0].retry_now()

    async def changed(self) -> None:
        """Return after the next change of the connection or of any job, or when the feed is left."""
        await self._entered()[0].changed()

    async def send_json(self, message: object) -> None:
        """Queue a message, which is sent as soon as the feed is connected; wait while 100 others are queued.

        Raises `FeedStopped`, and `InvalidArgument` for a message over 64 KiB.
        """
        connection, _ = self._entered()
        text = msgspec.json.encode(message)
        if len(text) > MAX_MESSAGE_BYTES:
            raise InvalidArgument("A message may have at most 64 KiB; send a smaller one.")
        await connection.send(text.decode())

    def monitor(self, job_id: str) -> None:
        """Follow this job, even if it has left the dashboard; from the first call on, follow only monitored jobs."""
        if self._connection is not None and self._follower is not None:
            self._connection.monitor(self._follower, job_id)
        else:
            self._monitored = frozenset({job_id, *(self._monitored or ())})

    def unmonitor(self, job_id: str) -> None:
        """Stop following this job; when no monitored job is left, follow none."""
        if self._connection is not None and self._follower is not None:
            self._connection.unmonitor(self._follower, job_id)
        elif self._monitored is not None:
            self._monitored -= {job_id}

    @property
    def _key(self) -> _Key:
        return self._address, self._token, self._policy, self._clock, self._network

    def _new_connection(self) -> FeedConnection:
        network = self._network or RealNetwork(self._address, self._token, proxy_for(self._address.base))
        return FeedConnection(network, self._policy, self._clock, self._rng)

    def _entered(self) -> tuple[FeedConnection, Follower]:
        if self._connection is None or self._follower is None:
            raise RuntimeError("Enter the feed first: async with ProgressFeed(...) as feed.")
        return self._connection, self._follower


class Updates:
    """One consumer of a feed; nothing is kept for it after its last reference is gone."""

    def __init__(self, connection: FeedConnection, follower: Follower) -> None:
        self._connection = connection
        self._follower = follower
        self._outbox = connection.outbox(follower)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ProgressUpdate:
        while not self._follower.has_left:
            update = self._next_followed()
            if update is not None:
                return update
            self._connection.raise_if_stopped()
            await self._connection.changed()
        raise StopAsyncIteration

    def _next_followed(self) -> ProgressUpdate | None:
        """Take the next update, without those of jobs that were unmonitored while they waited."""
        while (update := self._outbox.take()) is not None:
            if self._follower.monitored is None or update.job_id in self._follower.monitored:
                return update
        return None


class JobProgress(Mapping[str, ProgressUpdate]):
    """The jobs of a mirror that a follower sees."""

    def __init__(self, connection: FeedConnection, follower: Follower) -> None:
        self._mirror = connection.mirror
        self._follower = follower

    def __getitem__(self, job_id: str) -> ProgressUpdate:
        if not self._follower.sees(job_id, self._mirror):
            raise KeyError(job_id)
        return self._mirror.jobs[job_id]

    def __iter__(self) -> Iterator[str]:
        return (job_id for job_id in self._mirror.jobs if self._follower.sees(job_id, self._mirror))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


class SharedConnections:
    """The connections of each event loop, by address, token and settings."""

    def __init__(self) -> None:
        self._by_loop: MutableMapping[asyncio.AbstractEventLoop, dict[_Key, FeedConnection]] = WeakKeyDictionary()

    def connection(self, key: _Key, make: Callable[[], FeedConnection]) -> FeedConnection:
        """Return the connection of this key in the running loop; make it if there is none."""
        connections = self._by_loop.setdefault(asyncio.get_running_loop(), {})
        if key not in connections:
            connections[key] = make()
        return connections[key]

    def discard(self, key: _Key) -> None:
        """Remove a connection that its last follower leaves; the next follower gets a new one."""
        del self._by_loop[asyncio.get_running_loop()][key]


_SHARED = SharedConnections()
