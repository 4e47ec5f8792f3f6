"""Posts to webhooks: the name is resolved and checked at the moment of connecting, and only checked addresses are used.

Redirects are not followed, no proxy is asked, and of an answer only the status counts.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote

import httpcore

from backend import VERSION
from backend.clock import Clock
from backend.domain.sending import MAX_TRY_SECONDS, TIMED_OUT, UNREACHABLE, Receipt, Verdict, answer_of_status
from backend.notifications.guard import Guard, NoSuchHost, PrivateAddress, ascii_host, web_address
from progress_dashboard.tasks import first_completed

if find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]  # httpcore looks for it thrice a request: 40 % of its time
KEPT_SECONDS = 5.0  # an idle connection, for the next message to the same receiver
MAX_KEPT, MAX_READ_BYTES = 16, 16_384
SAFE = "/%:@!$&'()*+,;=-._~?"  # what an address may have as it is
BAD_CERTIFICATE = "The receiver's certificate is not valid for its name; renew it, or correct the address."
NO_TLS = "The receiver does not speak TLS there; check its port, or write http:// instead of https://."
NOT_HTTP = Receipt(Verdict.AGAIN, "The receiver's answer is not HTTP; check the address and its port.")


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of the header `X-Dashboard-Signature`."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked. The name of the host stays that of the request and of TLS."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception | None = None
        for address in await self._guard.addresses(host, port):
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError()

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


class Webhooks:
    """Posts messages. Any number of posts may be under way; none waits for another."""

    def __init__(self, guard: Guard, clock: Clock, *, max_seconds: float = MAX_TRY_SECONDS) -> None:
        self._network = GuardedNetwork(guard)
        self._clock = clock
        self._max_seconds = max_seconds
        self._pool: httpcore.AsyncConnectionPool | None = None
        self._opening = asyncio.Lock()

    async def post(self, url: str, secret: str | None, event_id: str, body: bytes) -> Receipt:
        """Post the body once, signed with the secret if there is one, and return what came of it."""
        try:
            return await first_completed(self._posted(url, secret, event_id, body), self._timed_out())
        except PrivateAddress as error:
            return Receipt(Verdict.ENDED, error.sentence)
        except NoSuchHost as error:
            return Receipt(Verdict.AGAIN, error.sentence)
        except httpcore.ProtocolError:
            return NOT_HTTP
        except ssl.SSLError as error:
            return Receipt(Verdict.AGAIN, _about(error))
        except httpcore.ConnectError as error:
            return Receipt(Verdict.AGAIN, _about(error.__cause__ or error.__context__))
        except (httpcore.NetworkError, httpcore.TimeoutException, OSError):
            return Receipt(Verdict.AGAIN, UNREACHABLE)

    async def close(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            await self._pool.aclose()

    async def _posted(self, url: str, secret: str | None, event_id: str, body: bytes) -> Receipt:
        timestamp = str(int(self._clock.now().timestamp()))
        headers = _headers(url, event_id, timestamp)
        if secret:
            headers["X-Dashboard-Signature"] = signature(secret, timestamp, body)
        pool = await self._opened()
        request = httpcore.Request("POST", _url(url), headers=_encoded(headers, len(body)), content=body)
        response = await pool.handle_async_request(request)
        try:
            await _read_a_little(response)
        finally:
            await response.aclose()
        return answer_of_status(response.status)

    async def _timed_out(self) -> Receipt:
        await self._clock.sleep(self._max_seconds)
        return Receipt(Verdict.AGAIN, TIMED_OUT)

    async def _opened(self) -> httpcore.AsyncConnectionPool:
        async with self._opening:
            if self._pool is None:
                context = await asyncio.to_thread(ssl.create_default_context)  # it reads many certificates
                self._pool = httpcore.AsyncConnectionPool(
                    ssl_context=context,
                    max_connections=None,  # what hangs must hold up nothing else
                    max_keepalive_connections=MAX_KEPT,
                    keepalive_expiry=KEPT_SECONDS,
                    network_backend=self._network,
                )
        return self._pool


async def _read_a_little(response: httpcore.Response) -> None:
    """Read a short body, so that the connection can be used again; a longer one is left."""
    read = 0
    async for part in response.aiter_stream():
        read += len(part)
        if read > MAX_READ_BYTES:
            return


def _headers(url: str, event_id: str, timestamp: str) -> dict[str, str]:
    parts = web_address(url)
    host = ascii_host(parts.hostname or "")
    shown = f"[{host}]" if ":" in host else host
    return {
        "Host": shown if parts.port is None else f"{shown}:{parts.port}",
        "Content-Type": "application/json",
        "User-Agent": f"progress-dashboard/{VERSION}",
        "X-Dashboard-Event-Id": event_id,
        "X-Dashboard-Timestamp": timestamp,
    }


def _encoded(headers: Mapping[str, str], length: int) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in {**headers, "Content-Length": str(length)}.items()]


def _url(url: str) -> httpcore.URL:
    parts = web_address(url)
    target = quote(parts.path or "/", safe=SAFE) + (f"?{quote(parts.query, safe=SAFE)}" if parts.query else "")
    host = ascii_host(parts.hostname or "")
    return httpcore.URL(scheme=parts.scheme.encode(), host=host.encode(), port=parts.port, target=target.encode())


def _about(error: BaseException | None) -> str:
    """Return why there is no connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return BAD_CERTIFICATE
    return NO_TLS if isinstance(error, ssl.SSLError) else UNREACHABLE
