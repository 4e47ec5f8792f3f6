"""The networks that IP addresses belong to."""

from __future__ import annotations

import pytest

from backend.domain.networks import network_of


@pytest.mark.parametrize("address", ["", "testclient", "not an address"])
def test_what_is_no_address_is_a_network_of_its_own(address: str) -> None:
    assert network_of(address, ipv4_bits=24) == address


def test_a_link_local_address_belongs_to_its_network() -> None:
    assert network_of("fe80::1%eth0", ipv4_bits=24) == "fe80::/64"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ],
)
def test_an_address_belongs_to_its_network(address: str, network: str) -> None:
    assert network_of(address, ipv4_bits=24) == network
