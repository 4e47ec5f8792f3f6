"""The decisions of a client about its connection."""

from __future__ import annotations

from random import Random

import pytest

from progress_dashboard import FeedStopped
from progress_dashboard.policy import Disconnect, Heartbeat, Reconnection, RetryAfter

CUT = Disconnect("it was cut", 1006)
LOW, HIGH = 0.0, 0.999_999


class ConstantRandom(Random):
    """Returns the same share at every call."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self._share = share

    def random(self) -> float:
        return self._share


def decide(disconnect: Disconnect, *, tried: int, share: float = LOW) -> RetryAfter | FeedStopped:
    return Reconnection().after(disconnect, tried=tried, rng=ConstantRandom(share))


def retries(disconnect: Disconnect, *, share: float = LOW) -> list[RetryAfter]:
    """Return the decisions of a client whose attempts all end like this, until it stops."""
    decisions: list[RetryAfter] = []
    while isinstance(decision := decide(disconnect, tried=len(decisions), share=share), RetryAfter):
        decisions.append(decision)
    return decisions


def stop_reason(disconnect: Disconnect, *, tried: int) -> tuple[str, int | None]:
    decision = decide(disconnect, tried=tried)
    assert isinstance(decision, FeedStopped)
    return decision.sentence, decision.code


@pytest.mark.parametrize("code", [None, 1000, 1001, 1005, 1006, 1009, 1011, 1012, 1013])
def test_ten_attempts_come_after_3_6_12_24_and_30_seconds(code: int | None) -> None:
    delays = (3, 6, 12, 24, 30, 30, 30, 30, 30, 30)
    expected = [RetryAfter(number, delay) for number, delay in enumerate(delays, start=1)]
    assert retries(Disconnect("it ended", code)) == expected


def test_jitter_makes_each_delay_up_to_a_tenth_longer() -> None:
    delays = [retry.delay_seconds for retry in retries(CUT, share=HIGH)]
    assert delays[:5] == pytest.approx([3.3, 6.6, 13.2, 26.4, 33.0], rel=1e-5)


def test_after_ten_attempts_it_stops_with_the_reason() -> None:
    assert stop_reason(CUT, tried=10) == (
        "The connection was lost and 10 attempts to get it back failed (it was cut); "
        "check that the server runs, then start again.",
        1006,
    )


@pytest.mark.parametrize("tried", [0, 4, 10])
def test_a_refused_token_stops_it_at_once(tried: int) -> None:
    """The reason is the server's own sentence."""
    sentence = "Your token has ended; get a new one."
    assert stop_reason(Disconnect(sentence, 1008), tried=tried) == (sentence, 1008)


def test_a_refusal_without_a_reason_gets_one() -> None:
    assert stop_reason(Disconnect("", 1008), tried=0) == ("The server refused the token; get a new one.", 1008)


def test_a_refusal_stops_it_even_after_a_useful_connection() -> None:
    refusal = Disconnect("You may not.", 1008, open_seconds=3_600, received_updates=True)
    assert stop_reason(refusal, tried=0) == ("You may not.", 1008)


@pytest.mark.parametrize(
    "disconnect", [Disconnect("", 1006, open_seconds=3), Disconnect("", 1006, open_seconds=0.1, received_updates=True)]
)
def test_a_useful_connection_restarts_the_count(disconnect: Disconnect) -> None:
    assert decide(disconnect, tried=10) == RetryAfter(1, 3)


def test_a_connection_that_is_dropped_at_once_is_a_failed_attempt() -> None:
    assert decide(Disconnect("", 1006, open_seconds=2.9), tried=3) == RetryAfter(4, 24)


def test_a_ping_is_due_after_25_seconds_of_silence_and_25_later() -> None:
    heartbeat = Heartbeat()
    assert heartbeat.until_ping(100, last_received=100, last_ping=0) == 25
    assert heartbeat.until_ping(125, last_received=100, last_ping=0) == 0
    assert heartbeat.until_ping(125, last_received=100, last_ping=125) == 25


def test_a_received_frame_postpones_the_ping() -> None:
    assert Heartbeat().until_ping(130, last_received=126, last_ping=125) == 21


def test_a_connection_is_dead_after_60_seconds_of_silence() -> None:
    assert Heartbeat().until_dead(159, last_received=100) == 1
    assert Heartbeat().until_dead(160, last_received=100) == 0
