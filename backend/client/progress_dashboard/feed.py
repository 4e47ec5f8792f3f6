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

from .clock import Clock, SystemClock
from .connection import ConnectionPolicy, FeedConnection, Follower, ReadyState
from .errors import FeedStopped, InvalidArgument
from .outbox import Outbox
from .policy import Heartbeat, Reconnection
from .protocol import ProgressUpdate
from .settings import settings_from_environment
from .transport import Address, Network, RealNetwork

MAX_MESSAGE_BYTES = 64 * 1024
_CLOCK = SystemClock()
_Key = tuple[object, ...]


class ProgressFeed:
    """Follows the jobs of a user, live, and comes back by itself.

        async with ProgressFeed("http://localhost:8000", token=token) as feed:
            async for update in feed:
                print(update.message, update.progress)

    What is not given is `DASHBOARD_URL` and `DASHBOARD_TOKEN`. The address may begin with http, https, ws or wss.
    Entering does not wait for the server. Feeds with the same address, token and settings share one connection in an
    event loop; it keeps the jobs that any of them wants, and each feed shows its own.

    Each iteration is a consumer of its own: it begins with the newest state of each job, then gets every update once,
    job by job in the order of `seq`, and every error although the connection was lost in between. One that is slow
    misses percents only. It ends when the feed is left, and raises `FeedStopped` when the feed stopped by itself: the
    token was refused, or ten attempts in a row failed.

    Ended jobs leave when the server removes them, or 5 minutes (with failures a day) after their end without word.
    All times are seconds. Raises `InvalidArgument` for what is no address or no token.
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
        """`network` stands in for the real one, as the tests' does; then there is no address."""
        given = settings_from_environment()
        self._address, token_in_url = Address.parse(url or given.url)
        self._token = _checked(token or token_in_url or given.token)
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
            raise RuntimeError("This feed is in use already; make another one, they share the connection.")
        self._follower = Follower(self._monitored)
        self._connection = _SHARED.connection(self._key, self._make)
        self._connection.join(self._follower)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, follower = self._entered()
        self._last_seen, self._monitored = dict(self.job_progress), follower.monitored
        self._connection = self._follower = None
        if connection.followers == {follower}:
            _SHARED.forget(self._key)
        await connection.leave(follower)

    def __aiter__(self) -> Updates:
        return Updates(*self._entered())

    @property
    def job_progress(self) -> Mapping[str, ProgressUpdate]:
        """The newest state of each job, by job ID; it follows what happens until the feed is left."""
        if self._connection is None or self._follower is None:
            return self._last_seen
        return JobProgress(self._connection, self._follower)

    @property
    def ready_state(self) -> ReadyState:
        """CLOSED between attempts, before the feed is entered and after it is left."""
        return ReadyState.CLOSED if self._connection is None else self._connection.state

    @property
    def is_connected(self) -> bool:
        return self.ready_state is ReadyState.OPEN

    @property
    def reconnecting(self) -> bool:
        """Whether the connection was lost, or never came about, and is tried again."""
        return self.attempt > 0 and self.stopped is None

    @property
    def attempt(self) -> int:
        """Which attempt to come back is on or waited for, from 1; 0 while connected and during the first one of all."""
        return 0 if self._connection is None else self._connection.attempt

    @property
    def next_attempt_at(self) -> datetime | None:
        """When the next attempt begins; None when none is waited for."""
        return None if self._connection is None else self._connection.next_attempt_at

    @property
    def next_attempt_in(self) -> float | None:
        """The same as seconds from now."""
        return None if self._connection is None else self._connection.next_attempt_in

    @property
    def stopped(self) -> FeedStopped | None:
        """Why the feed tries no more; None while it does."""
        return None if self._connection is None else self._connection.stopped

    def retry_now(self) -> None:
        """Begin the next attempt now; after a stop, start again with what is known."""
        self._entered()[0].retry_now()

    async def changed(self) -> None:
        """Return after the next change of the connection or of any job, or when the feed is left."""
        await self._entered()[0].changed()

    async def send_json(self, message: object) -> None:
        """Send a message; it waits in line before and between connections, at most 100 do.

        Returns once it is in line. Raises `FeedStopped`, and `InvalidArgument` over 64 KiB.
        """
        connection, _ = self._entered()
        text = msgspec.json.encode(message)
        if len(text) > MAX_MESSAGE_BYTES:
            raise InvalidArgument("A message may have at most 64 KiB.")
        await connection.send(text.decode())

    def monitor(self, job_id: str) -> None:
        """Follow this job, also one that is no more on the dashboard; from the first call on, only such jobs."""
        if self._connection is not None and self._follower is not None:
            self._connection.monitor(self._follower, job_id)
        else:
            self._monitored = frozenset({job_id, *(self._monitored or ())})

    def unmonitor(self, job_id: str) -> None:
        """Follow this job no more; without any monitored job left, none is followed."""
        if self._connection is not None and self._follower is not None:
            self._connection.unmonitor(self._follower, job_id)
        elif self._monitored is not None:
            self._monitored -= {job_id}

    @property
    def _key(self) -> _Key:
        return self._address, self._token, self._policy, self._clock, self._network

    def _make(self) -> FeedConnection:
        network = self._network or RealNetwork(self._address, self._token)
        return FeedConnection(network, self._policy, self._clock, self._rng)

    def _entered(self) -> tuple[FeedConnection, Follower]:
        if self._connection is None or self._follower is None:
            raise RuntimeError("Enter the feed first: async with ProgressFeed(...) as feed.")
        return self._connection, self._follower


class Updates:
    """One consumer of a feed; let go of it, and nothing is kept for it any more."""

    def __init__(self, connection: FeedConnection, follower: Follower) -> None:
        self._connection = connection
        self._follower = follower
        self._outbox = connection.outbox(follower)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ProgressUpdate:
        while not self._follower.has_left:
            update = _next_seen(self._outbox, self._follower, self._connection)
            if update is not None:
                return update
            self._connection.raise_if_stopped()
            await self._connection.changed()
        raise StopAsyncIteration


class JobProgress(Mapping[str, ProgressUpdate]):
    """What a follower sees of a mirror."""

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


class Shared:
    """The connections of each event loop, by what makes them the same."""

    def __init__(self) -> None:
        self._of: MutableMapping[asyncio.AbstractEventLoop, dict[_Key, FeedConnection]] = WeakKeyDictionary()

    def connection(self, key: _Key, make: Callable[[], FeedConnection]) -> FeedConnection:
        here = self._of.setdefault(asyncio.get_running_loop(), {})
        if key not in here:
            here[key] = make()
        return here[key]

    def forget(self, key: _Key) -> None:
        """The last one leaves it; who comes now gets a new one."""
        del self._of[asyncio.get_running_loop()][key]


def _checked(token: str) -> str:
    token = token.strip()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise InvalidArgument("That is not a token; `python main.py token NAME` prints one.")
    return token


def _next_seen(outbox: Outbox, follower: Follower, connection: FeedConnection) -> ProgressUpdate | None:
    while (update := outbox.take()) is not None:
        if follower.monitored is None or update.job_id in follower.monitored:
            return update
    return None


_SHARED = Shared()
