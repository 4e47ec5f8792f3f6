"""IP addresses and the networks that they belong to."""

from __future__ import annotations

import ipaddress


def network_of(address: str, *, ipv4_bits: int) -> str:
    """Return the network within which a stranger can change addresses: `ipv4_bits` of IPv4, /64 of IPv6.

    Returns anything that is no address unchanged.

    >>> network_of("192.0.2.77", ipv4_bits=24), network_of("::ffff:192.0.2.1", ipv4_bits=32)
    ('192.0.2.0/24', '192.0.2.1/32')
    >>> network_of("2001:db8:1:2:3::4", ipv4_bits=24)
    '2001:db8:1:2::/64'
    """
    found = ip_of(address)
    if found is None:
        return address
    return str(ipaddress.ip_network((found, ipv4_bits if found.version == 4 else 64), strict=False))


def ip_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address without its zone, an IPv4-mapped one as IPv4; None for anything else."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
