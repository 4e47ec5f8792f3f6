"""What a client does when its connection ends, and when it takes it for dead: values in, decisions out; no waiting."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .errors import FeedStopped

POLICY = 1008  # WebSocket's close code for "you may not"
JITTER = 0.1  # share by which a delay is made longer by chance, so that not all clients come back at once
TOKEN_REFUSED = "The server refused the token; get a new one."


@dataclass(frozen=True, slots=True)
class Disconnect:
    """How a connection ended, or why there was none.

    `words` say why, to stand within a sentence (of the server's own, when it refused); `code` is WebSocket's close
    code, None without a close. `brought_news`: something arrived that was not known before.
    """

    words: str
    code: int | None = None
    stayed_seconds: float = 0.0
    brought_news: bool = False


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Try again after this time; `attempt` counts from 1."""

    attempt: int
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Reconnection:
    """When to try again, and when no more.

    The last delay repeats. The count of attempts begins anew after a connection that was of use: it brought news, or
    stayed for the first delay at least. One that is accepted and dropped at once is a failed attempt.
    """

    delays_seconds: tuple[float, ...] = (3, 6, 12, 24, 30)
    attempts: int = 10

    def after(self, disconnect: Disconnect, *, tried: int, rng: Random) -> RetryAfter | FeedStopped:
        """What follows on this ending; `tried`: attempts since the last connection that was of use."""
        if disconnect.code == POLICY:
            return FeedStopped(disconnect.words or TOKEN_REFUSED, code=POLICY)
        attempt = 1 if self._was_of_use(disconnect) else tried + 1
        if attempt > self.attempts:
            return FeedStopped(
                f"The connection was lost and {self.attempts} attempts to get it back failed ({disconnect.words}); "
                "check that the server runs, then start again.",
                code=disconnect.code,
            )
        delay = self.delays_seconds[min(attempt, len(self.delays_seconds)) - 1]
        return RetryAfter(attempt, delay * rng.uniform(1, 1 + JITTER))

    def _was_of_use(self, disconnect: Disconnect) -> bool:
        return disconnect.brought_news or disconnect.stayed_seconds >= self.delays_seconds[0]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """When to ask an open connection for a sign of life, and when it counts as dead. Moments are monotonic seconds."""

    interval_seconds: float = 25
    timeout_seconds: float = 60

    def until_ping(self, now: float, *, last_received: float, last_ping: float) -> float:
        """Seconds until the next ping, 0 or less: now. Whatever was heard spares one."""
        return max(last_received, last_ping) + self.interval_seconds - now

    def until_dead(self, now: float, *, last_received: float) -> float:
        """Seconds of further silence until it is dead, 0 or less: it is."""
        return last_received + self.timeout_seconds - now
