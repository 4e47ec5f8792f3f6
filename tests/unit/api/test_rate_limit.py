"""The limit on refused sockets, by the address that they come from."""

from __future__ import annotations

import pytest

from backend.api.rate_limit import MAX_REMEMBERED_ADDRESSES, WINDOW_SECONDS, RefusalLimiter
from tests.support.clock import VirtualClock

LIMIT = 3
ADDRESS, OTHER = "192.0.2.7", "192.0.2.8"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def limiter(clock: VirtualClock) -> RefusalLimiter:
    return RefusalLimiter(LIMIT, clock)


def refuse(limiter: RefusalLimiter, *addresses: str) -> None:
    for address in addresses:
        limiter.count(address)


def test_an_address_is_blocked_from_the_limit_on(limiter: RefusalLimiter) -> None:
    blocked = []
    for _ in range(LIMIT + 1):
        blocked.append(limiter.is_blocked(ADDRESS))
        refuse(limiter, ADDRESS)
    assert blocked == [False] * LIMIT + [True]
    assert limiter.is_blocked(ADDRESS)


def test_other_addresses_are_not_blocked_with_it(limiter: RefusalLimiter) -> None:
    refuse(limiter, *[ADDRESS] * LIMIT, OTHER)
    assert (limiter.is_blocked(ADDRESS), limiter.is_blocked(OTHER)) == (True, False)


async def test_the_block_ends_a_minute_after_the_first_refusal(limiter: RefusalLimiter, clock: VirtualClock) -> None:
    refuse(limiter, ADDRESS)
    await clock.advance(WINDOW_SECONDS - 1)
    refuse(limiter, *[ADDRESS] * LIMIT)
    assert limiter.is_blocked(ADDRESS)
    await clock.advance(0.5)
    assert limiter.is_blocked(ADDRESS)
    await clock.advance(0.5)
    assert not limiter.is_blocked(ADDRESS)


async def test_a_refusal_after_the_minute_counts_as_the_first(limiter: RefusalLimiter, clock: VirtualClock) -> None:
    refuse(limiter, *[ADDRESS] * LIMIT)
    await clock.advance(WINDOW_SECONDS)
    refuse(limiter, *[ADDRESS] * (LIMIT - 1))
    assert not limiter.is_blocked(ADDRESS)
    await clock.advance(WINDOW_SECONDS - 1)
    refuse(limiter, ADDRESS)
    assert limiter.is_blocked(ADDRESS)


@pytest.mark.parametrize(
    ("address", "other", "is_same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("", "", True),
    ],
)
def test_ipv6_counts_by_its_64_bit_network_and_ipv4_by_address(
    limiter: RefusalLimiter, address: str, other: str, is_same: bool
) -> None:
    refuse(limiter, *[address] * LIMIT)
    assert limiter.is_blocked(other) is is_same


def test_only_the_newest_addresses_are_remembered(limiter: RefusalLimiter) -> None:
    refuse(limiter, *[ADDRESS] * LIMIT, *[OTHER] * LIMIT)
    addresses = [f"198.18.{number >> 8}.{number & 255}" for number in range(MAX_REMEMBERED_ADDRESSES - 1)]
    refuse(limiter, *addresses)
    assert (limiter.is_blocked(ADDRESS), limiter.is_blocked(OTHER)) == (False, True)


def test_a_refusal_makes_an_address_one_of_the_newest(limiter: RefusalLimiter) -> None:
    refuse(limiter, *[ADDRESS] * LIMIT, *[OTHER] * LIMIT, ADDRESS)
    addresses = [f"198.18.{number >> 8}.{number & 255}" for number in range(MAX_REMEMBERED_ADDRESSES - 1)]
    refuse(limiter, *addresses)
    assert (limiter.is_blocked(ADDRESS), limiter.is_blocked(OTHER)) == (True, False)
