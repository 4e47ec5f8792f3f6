"""The proxy between this machine and a server: a company's proxy never knows a server that is near.

The environment decides (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`), or the settings of the system. One rule
serves the progress socket and the requests, whose libraries differ.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from .errors import InvalidArgument

SCHEMES = ("http", "https", "socks5", "socks5h")  # that both libraries speak
SOCKS_PACKAGES = ("socksio", "python_socks")
NEAR_DOMAINS = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
NEAR_NETWORKS = [
    ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "0.0.0.0/32"),
        *("::1/128", "fc00::/7", "fe80::/10", "::/128"),
    )
]  # not `is_private`, which also counts networks that no machine is in


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that leads to a server."""

    # Its address, perhaps with a password.
    url: str = field(repr=False)
    # Its address without user name and password, and where it is set.
    shown: str


def is_near(hostname: str) -> bool:
    """Return True for a host of this machine or of its own network, to which no proxy leads.

    >>> is_near("127.0.0.1"), is_near("192.168.1.5"), is_near("fd00::5"), is_near("dash"), is_near("ops.example")
    (True, True, True, True, False)
    """
    host = hostname.partition("%")[0].rstrip(".").lower()
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(NEAR_DOMAINS)
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in NEAR_NETWORKS)


def proxy_for(url: str, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """Return the proxy that leads to the server at this http or https URL; None for a direct connection.

    Raises `InvalidArgument` for a proxy that cannot be used, without its password.
    """
    parts = urlsplit(url)
    if is_near(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    kind = next((kind for kind in (parts.scheme, "all") if proxies.get(kind)), None)
    if kind is None:
        return None
    given = proxies[kind].strip()
    return _checked(given if "://" in given else f"http://{given}", _variable(kind, environment))


def _variable(kind: str, environment: Mapping[str, str]) -> str:
    names = (name for name in environment if name.lower() == f"{kind}_proxy")
    return next(names, "the system's settings")


def _checked(url: str, variable: str) -> Proxy:
    parts = _parts(url)
    if parts is None:
        raise InvalidArgument(
            f"The proxy of {variable} cannot be used; set it to an address such as http://proxy.example:3128, "
            "or name the dashboard's host in NO_PROXY."
        )
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]} of {variable}"
    if parts.scheme.startswith("socks") and not all(find_spec(package) for package in SOCKS_PACKAGES):
        raise InvalidArgument(
            f"The proxy {shown} needs two more packages; run `pip install socksio 'python-socks[asyncio]'`, "
            "or name the dashboard's host in NO_PROXY."
        )
    return Proxy(url, shown)


def _parts(url: str) -> SplitResult | None:
    """Return the parts of a proxy's address; None if it is not one that both libraries take."""
    try:
        parts = urlsplit(url)
        _ = parts.port, unquote(parts.netloc, errors="strict")  # either may raise
    except ValueError:
        return None
    if parts.scheme not in SCHEMES or not parts.hostname or parts.path not in ("", "/"):
        return None
    if parts.query or parts.fragment or (parts.username is None) != (parts.password is None):
        return None
    return parts
