"""The limit on password guessing."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from backend.clock import Clock
from backend.domain.networks import network_of
from backend.errors import TooManyAttempts

K = TypeVar("K")
V = TypeVar("V")
IPV4_BITS = 24  # of the network that is limited as one


@dataclass(frozen=True, slots=True)
class SignInFailures:
    """The failures in a row of one account from one network.

    `last_at` is the time of the newest one (`Clock.monotonic`). `is_known` is True if the account has signed in from
    there before.
    """

    number: int = 0
    last_at: float = -math.inf
    is_known: bool = False


class Throttle:
    """Limits how often passwords can be guessed.

    An account may fail five times from one network (IPv4 /24, IPv6 /64), then it waits 1, 2, 4 … 60 s. A network may
    fail 30 times over all accounts, and once more every 10 s; an account that has signed in from there before does not
    wait for that. An attempt counts from its start, so that parallel ones count too. Remembers the newest 10,000.
    """

    FREE_FAILURES = 5
    MAX_WAIT_SECONDS = 60.0
    MEMORY_SECONDS = 3600.0
    BURST = 30
    REFILL_SECONDS = 10.0

    def __init__(self, clock: Clock, *, remembered: int = 10_000) -> None:
        self._clock = clock
        self._remembered = remembered
        self._failures: OrderedDict[tuple[str, str], SignInFailures] = OrderedDict()
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    def admit(self, name: str, address: str) -> None:
        """Count an attempt as failed until `succeeded` is called. Raises `TooManyAttempts` while it has to wait."""
        now, network = self._clock.monotonic(), network_of(address, ipv4_bits=IPV4_BITS)
        failures = self._recall(name, network, now)
        wait = failures.last_at + self._delay(failures.number) - now
        if not failures.is_known:
            wait = max(wait, self._debt(network, now) - (self.BURST - 1) * self.REFILL_SECONDS)
        if wait > 0:
            seconds = math.ceil(wait)
            raise TooManyAttempts(
                f"Too many attempts to sign in; wait {seconds} s and try again.", retry_after=float(seconds)
            )
        one_more = SignInFailures(failures.number + 1, now, failures.is_known)
        self._remember(self._failures, (name, network), one_more)
        self._remember(self._paid_until, network, now + self._debt(network, now) + self.REFILL_SECONDS)

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures before an admitted attempt that had the right password."""
        now, network = self._clock.monotonic(), network_of(address, ipv4_bits=IPV4_BITS)
        self._remember(self._failures, (name, network), SignInFailures(is_known=True))
        self._remember(self._paid_until, network, now + self._debt(network, now) - self.REFILL_SECONDS)

    def _recall(self, name: str, network: str, now: float) -> SignInFailures:
        failures = self._failures.get((name, network), SignInFailures())
        is_forgotten = now - failures.last_at > self.MEMORY_SECONDS
        return SignInFailures(is_known=failures.is_known) if is_forgotten else failures

    def _delay(self, failures: int) -> float:
        excess = failures - self.FREE_FAILURES
        return 0.0 if excess < 0 else min(self.MAX_WAIT_SECONDS, 2.0 ** min(excess, 10))

    def _debt(self, network: str, now: float) -> float:
        return max(0.0, self._paid_until.get(network, now) - now)

    def _remember(self, memory: OrderedDict[K, V], key: K, value: V) -> None:
        memory[key] = value
        memory.move_to_end(key)
        if len(memory) > self._remembered:
            memory.popitem(last=False)
