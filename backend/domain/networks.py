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


GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
SPECIAL_IPV4 = [ipaddress.IPv4Network(text) for text in ("192.0.0.0/24", "192.88.99.0/24")]  # older Pythons miss them
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # the last 32 bits are an IPv4 address


def is_public(text: str) -> bool:
    """Return True for an address of the public internet; tunnels that may lead to any IPv4 address are not.

    >>> is_public("93.184.216.34"), is_public("2606:4700::1111"), is_public("64:ff9b::5db8:d822")
    (True, True, True)
    >>> is_public("127.0.0.1"), is_public("169.254.169.254"), is_public("::ffff:10.0.0.1"), is_public("64:ff9b::7f00:1")
    (False, False, False, False)
    >>> is_public("100.64.0.1"), is_public("224.0.0.1"), is_public("fe80::1%eth0"), is_public("2002:7f00:1::")
    (False, False, False, False)
    """
    found = ip_of(text)
    if isinstance(found, ipaddress.IPv6Address):
        if found not in NAT64:
            is_tunnel = found.sixtofour or found.teredo
            return found in GLOBAL_UNICAST and found.is_global and not is_tunnel
        found = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)
    if found is None or any(found in network for network in SPECIAL_IPV4):
        return False
    return found.is_global and not (found.is_multicast or found.is_reserved)
