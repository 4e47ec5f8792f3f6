"""What a client does when its connection ends, told by values."""

from __future__ import annotations

from random import Random

import pytest

from progress_dashboard.policy import Again, Ending, FeedStopped, Heartbeat, Reconnection

CUT = Ending("it was cut", 1006)
LEAST, MOST = 0.0, 0.999_999


class Always(Random):
    """Chance that always says the same."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self._share = share

    def random(self) -> float:
        return self._share


def endured(ending: Ending, *, share: float = LEAST) -> list[float]:
    """The delays before the attempts when each of them ends so, until the feed stops."""
    policy, chance = Reconnection(), Always(share)
    delays: list[float] = []
    while isinstance(then := policy.after(ending, tried=len(delays), chance=chance), Again):
        assert then.attempt == len(delays) + 1
        delays.append(then.delay_seconds)
    return delays


def stopped(ending: Ending, *, tried: int) -> FeedStopped:
    then = Reconnection().after(ending, tried=tried, chance=Always(LEAST))
    assert isinstance(then, FeedStopped)
    return then


@pytest.mark.parametrize("code", [None, 1000, 1001, 1005, 1006, 1009, 1011, 1012, 1013])
def test_ten_attempts_come_after_3_6_12_24_and_then_30_seconds(code: int | None) -> None:
    assert endured(Ending("it ended", code)) == [3, 6, 12, 24, 30, 30, 30, 30, 30, 30]


def test_each_delay_is_up_to_a_tenth_longer_by_chance() -> None:
    assert endured(CUT, share=MOST)[:5] == pytest.approx([3.3, 6.6, 13.2, 26.4, 33.0], rel=1e-5)


def test_after_ten_attempts_it_stops_and_says_why() -> None:
    reason = stopped(CUT, tried=10)
    assert reason.sentence == (
        "The connection was lost and 10 attempts to get it back failed (it was cut); "
        "check that the server runs, then start again."
    )
    assert reason.code == 1006


@pytest.mark.parametrize("tried", [0, 4, 10])
def test_a_refused_token_stops_it_at_once_with_the_servers_words(tried: int) -> None:
    reason = stopped(Ending("Your token has ended; get a new one.", 1008), tried=tried)
    assert (reason.sentence, reason.code) == ("Your token has ended; get a new one.", 1008)


def test_a_refusal_without_words_gets_some() -> None:
    assert stopped(Ending("", 1008), tried=0).sentence == "The server refused the token; get a new one."


def test_a_refusal_stops_it_also_after_a_good_connection() -> None:
    assert stopped(Ending("You may not.", 1008, stayed_seconds=3_600, brought_news=True), tried=0).code == 1008


@pytest.mark.parametrize(
    "ending", [Ending("", 1006, stayed_seconds=3), Ending("", 1006, stayed_seconds=0.1, brought_news=True)]
)
def test_after_a_connection_that_was_of_use_the_count_begins_anew(ending: Ending) -> None:
    assert Reconnection().after(ending, tried=10, chance=Always(LEAST)) == Again(1, 3)


def test_a_connection_that_is_dropped_at_once_is_a_failed_attempt() -> None:
    assert Reconnection().after(Ending("", 1006, stayed_seconds=2.9), tried=3, chance=Always(LEAST)) == Again(4, 24)


def test_a_ping_is_due_after_25_seconds_without_a_word_and_again_25_after_it() -> None:
    heartbeat = Heartbeat()
    assert heartbeat.until_ping(100, heard=100, pinged=0) == 25
    assert heartbeat.until_ping(125, heard=100, pinged=0) == 0
    assert heartbeat.until_ping(125, heard=100, pinged=125) == 25


def test_what_is_heard_spares_a_ping() -> None:
    assert Heartbeat().until_ping(130, heard=126, pinged=125) == 21


def test_60_seconds_of_silence_are_death() -> None:
    assert Heartbeat().until_dead(159, heard=100) == 1
    assert Heartbeat().until_dead(160, heard=100) == 0
