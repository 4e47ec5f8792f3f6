"""The limit on password guessing."""

from __future__ import annotations

import pytest

from backend.accounts.throttle import Throttle
from backend.errors import TooManyAttempts
from tests.support.clock import VirtualClock

HOME, AWAY = "192.0.2.1", "198.51.100.1"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def throttle(clock: VirtualClock) -> Throttle:
    return Throttle(clock)


def fail(throttle: Throttle, times: int, name: str = "ana", address: str = HOME) -> None:
    for _ in range(times):
        throttle.admit(name, address)


def expect_refusal(throttle: Throttle, name: str = "ana", address: str = HOME) -> float:
    """Return the seconds that the refused attempt has to wait."""
    with pytest.raises(TooManyAttempts) as refusal:
        throttle.admit(name, address)
    return refusal.value.retry_after


def test_the_sixth_failure_has_to_wait(throttle: Throttle) -> None:
    fail(throttle, 5)
    assert expect_refusal(throttle) == 1


async def test_the_waits_double_up_to_a_minute(throttle: Throttle, clock: VirtualClock) -> None:
    fail(throttle, 5)
    waits = []
    for _ in range(9):
        waits.append(expect_refusal(throttle))
        await clock.advance(waits[-1])
        throttle.admit("ana", HOME)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_refused_attempt_does_not_make_the_wait_longer(throttle: Throttle) -> None:
    fail(throttle, 5)
    assert [expect_refusal(throttle) for _ in range(50)] == [1] * 50


def test_a_success_resets_the_failures(throttle: Throttle) -> None:
    for _ in range(3):
        fail(throttle, 5)
        throttle.succeeded("ana", HOME)
    fail(throttle, 5)
    assert expect_refusal(throttle) == 1


async def test_an_hour_resets_the_failures(throttle: Throttle, clock: VirtualClock) -> None:
    fail(throttle, 5)
    await clock.advance(3601)
    fail(throttle, 5)
    assert expect_refusal(throttle) == 1


def test_guessing_does_not_lock_an_account_in_other_networks(throttle: Throttle) -> None:
    fail(throttle, 5, address=HOME)
    throttle.admit("ana", AWAY)
    assert expect_refusal(throttle, address=HOME) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [(HOME, "192.0.2.200"), ("2001:db8::1", "2001:db8::ffff:1"), (HOME, "::ffff:192.0.2.9")],
)
def test_another_address_of_the_network_does_not_help(throttle: Throttle, one: str, other: str) -> None:
    fail(throttle, 5, address=one)
    assert expect_refusal(throttle, address=other) == 1


async def test_one_network_cannot_guess_at_all_accounts(throttle: Throttle, clock: VirtualClock) -> None:
    """Over all accounts, a network may fail 30 times and once more every 10 s."""
    for number in range(30):
        throttle.admit(f"user{number}", HOME)
    assert expect_refusal(throttle, "user30") == 10
    throttle.admit("user30", AWAY)
    await clock.advance(10)
    throttle.admit("user30", HOME)
    assert expect_refusal(throttle, "user31") == 10


def test_others_do_not_lock_out_a_known_account(throttle: Throttle) -> None:
    """An account that has signed in from a network does not wait because of other accounts there."""
    throttle.admit("ana", HOME)
    throttle.succeeded("ana", HOME)
    for number in range(30):
        throttle.admit(f"user{number}", HOME)
    throttle.admit("ana", HOME)
    assert expect_refusal(throttle, "ben") == 20


def test_right_passwords_never_wait(throttle: Throttle) -> None:
    for number in range(500):
        throttle.admit(f"user{number}", HOME)
        throttle.succeeded(f"user{number}", HOME)
    fail(throttle, 5)
    assert expect_refusal(throttle) == 1


def test_the_memory_of_the_throttle_is_bounded(clock: VirtualClock) -> None:
    """The oldest failures are forgotten for the newest."""
    throttle = Throttle(clock, remembered=3)
    for number in range(4):
        fail(throttle, 5, address=f"192.0.{number}.1")
    assert expect_refusal(throttle, address="192.0.3.1") == 1
    throttle.admit("ana", "192.0.0.1")
