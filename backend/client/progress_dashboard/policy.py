"""The decisions of a client about its connection: values in, decisions out, no waiting."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .errors import FeedStopped

POLICY_VIOLATION = 1008  # the WebSocket close code of a refused token
JITTER = 0.1  # the largest share that is added to a delay at random, so that not all clients reconnect at once
REFUSED = "The server refused the token; get a new one."


@dataclass(frozen=True, slots=True)
class Disconnect:
    """How a connection ended, or why none could be opened."""

    # Why, as a part of a sentence; for a refused token the server's own sentence, "" when it gave none.
    reason: str
    # WebSocket close code, 1006 after an end without a close; None when the server did not end a connection.
    code: int | None = None
    # How long the connection was open; 0 when none was opened.
    open_seconds: float = 0.0
    # True when it brought something new: an update or a newer position.
    received_updates: bool = False


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """The decision to connect again after a delay."""

    # Number of the attempt, from 1.
    attempt: int
    # Delay before the attempt, with jitter.
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Reconnection:
    """Decides when to connect again and when to stop.

    The last delay repeats. The count of attempts restarts after a useful connection: one that received updates, or that
    was open for the first delay at least. A connection that is accepted and dropped at once is a failed attempt.
    """

    # Delays before the first attempt, the second and so on, without jitter.
    delays_seconds: tuple[float, ...] = (3, 6, 12, 24, 30)
    # Number of attempts in a row after which the client stops.
    attempts: int = 10

    def after(self, disconnect: Disconnect, *, tried: int, rng: Random) -> RetryAfter | FeedStopped:
        """Return the decision that follows a disconnect; `tried`: attempts since the last useful connection."""
        if disconnect.code == POLICY_VIOLATION:
            return FeedStopped(disconnect.reason or REFUSED, code=POLICY_VIOLATION)
        attempt = 1 if self._was_useful(disconnect) else tried + 1
        if attempt > self.attempts:
            return FeedStopped(
                f"The connection was lost and {self.attempts} attempts to get it back failed ({disconnect.reason}); "
                "check that the server runs, then start again.",
                code=disconnect.code,
            )
        delay = self.delays_seconds[min(attempt, len(self.delays_seconds)) - 1]
        return RetryAfter(attempt, delay * rng.uniform(1, 1 + JITTER))

    def _was_useful(self, disconnect: Disconnect) -> bool:
        return disconnect.received_updates or disconnect.open_seconds >= self.delays_seconds[0]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Decides when to ping an open connection and when to treat it as dead; moments are monotonic seconds."""

    # Silence after which a ping is sent.
    interval_seconds: float = 25
    # Silence after which the connection counts as dead.
    timeout_seconds: float = 60

    def until_ping(self, now: float, *, last_received: float, last_ping: float) -> float:
        """Return the seconds until the next ping is due, 0 or less when it is due; a received frame postpones it."""
        return max(last_received, last_ping) + self.interval_seconds - now

    def until_dead(self, now: float, *, last_received: float) -> float:
        """Return the seconds of further silence until the connection is dead, 0 or less when it is."""
        return last_received + self.timeout_seconds - now
