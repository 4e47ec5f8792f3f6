"""The host names, web origins and proxies that the server trusts: decisions on header values only."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from enum import Enum
from urllib.parse import urlsplit

from backend.domain.networks import ip_of
from backend.settings import HOST_NAME, Settings

WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104  addresses to compare with, not to bind
DEFAULT_PORTS = {"http": 80, "https": 443}


class Hosts:
    """The host names of this server.

    Names are compared exactly, because a foreign page may point its own name at this machine (DNS rebinding). Loopback
    names and `--host` match with the server's own port, an `ALLOWED_HOSTS` entry without a port with every port.
    """

    def __init__(self, settings: Settings) -> None:
        names = {"127.0.0.1", "localhost", "[::1]", *_bound_name(settings.host)}
        allowed = {entry.lower() for entry in settings.allowed_hosts}
        self._exact = {f"{name}:{settings.port}" for name in names} | allowed
        self._names = {entry for entry in allowed if not _port(entry)}
        if settings.port == DEFAULT_PORTS["http"]:
            self._exact |= names
        if settings.public_url:
            self._exact.add(_host_of(settings.public_url))

    def is_known(self, host: str) -> bool:
        """Return True if a Host header names this server."""
        found = HOST_NAME.fullmatch(host.lower())
        return found is not None and (found[0] in self._exact or found["name"] in self._names)


class OriginKind(Enum):
    """The origin of a request, as a browser states it. It proves nothing about other programs."""

    OWN = "a page of this server"
    ALLOWED = "a page of ALLOWED_ORIGINS, which may call the API with a token; its cookies are ignored"
    ABSENT = "no page: a typed address, a link, or a program other than a browser"
    FOREIGN = "any other page"


class Origins:
    """The trusted web origins: the request's own scheme, host and port, that of PUBLIC_URL, and ALLOWED_ORIGINS."""

    def __init__(self, settings: Settings) -> None:
        self._allowed = frozenset(origin.lower() for origin in settings.allowed_origins)
        self._public = frozenset({_origin_of(settings.public_url)} if settings.public_url else ())

    def own(self, scheme: str, host: str) -> frozenset[str]:
        """Return the origins of this server's pages, for a request to `host`.

        An ALLOWED_ORIGINS entry with the same host and port is one of them: it is this server behind a TLS proxy.
        """
        same_host = {f"{scheme}://{host}"} | {origin for origin in self._allowed if origin.partition("://")[2] == host}
        return self._public | same_host

    def kind_of(self, headers: Mapping[str, str], own: frozenset[str]) -> OriginKind:
        """Return the kind of origin that these headers state.

        `Sec-Fetch-Site` lowers the trust, with one exception: "same-origin" makes an allowed origin the server's own,
        for a proxy that changes the host.
        """
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is None:
            return OriginKind.ABSENT if site in (None, "none", "same-origin") else OriginKind.FOREIGN
        allowed = origin in self._allowed
        if site in (None, "same-origin") and (origin in own or (allowed and site is not None)):
            return OriginKind.OWN
        return OriginKind.ALLOWED if allowed else OriginKind.FOREIGN


class Proxies:
    """The proxies whose X-Forwarded headers are used; by default none, not even on this machine."""

    def __init__(self, settings: Settings) -> None:
        self._trusted = [ipaddress.ip_network(entry, strict=False) for entry in settings.trusted_proxies]

    def is_trusted(self, address: str) -> bool:
        """Return True if `address` is one of the trusted proxies."""
        found = ip_of(address)
        return found is not None and any(found in network for network in self._trusted)

    def client(self, forwarded_for: str) -> str | None:
        """Return the client that the trusted proxies name: the last address that is not a trusted proxy."""
        for hop in reversed(forwarded_for.split(",")):
            if not self.is_trusted(hop.strip()):
                found = ip_of(hop.strip())
                return str(found) if found else None
        return None


def public_host(settings: Settings) -> str | None:
    """Return the host and port of PUBLIC_URL, as a browser writes them, if it is an https address."""
    return _host_of(settings.public_url) if settings.public_url.startswith("https://") else None


def _bound_name(host: str) -> set[str]:
    if host in WILDCARDS:
        return set()
    return {f"[{host.lower()}]" if ":" in host else host.lower()}


def _port(host: str) -> str | None:
    found = HOST_NAME.fullmatch(host)
    return found["port"] if found else None


def _host_of(url: str) -> str:
    parts = urlsplit(url)
    name = _bound_name(parts.hostname or "").pop()
    return name if parts.port in (None, DEFAULT_PORTS[parts.scheme]) else f"{name}:{parts.port}"


def _origin_of(url: str) -> str:
    return f"{urlsplit(url).scheme}://{_host_of(url)}"
