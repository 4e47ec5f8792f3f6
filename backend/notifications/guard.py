"""Which addresses may be called: a user's channel must not reach what only this machine or its network can."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from urllib.parse import SplitResult, urlsplit

from backend.domain.networks import is_public
from backend.errors import Invalid

MAX_URL_LENGTH = 2_000
MAX_PORT = 65_535
PRIVATE = (
    "The address leads to this machine or a private network, which is not allowed; use a public address, or let the "
    "administrator set DASHBOARD_NOTIFY_PRIVATE_ADDRESSES."
)
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the IP addresses of a name. Raises `OSError` if there are none."""


class PrivateAddress(Invalid):
    __doc__ = PRIVATE


class NoSuchHost(Invalid):
    """The receiver's host name is not known; check the address."""


class SystemNames:
    """Asks the system for the addresses of names: each name in a thread of its own, once at a time.

    A name server that hangs so holds up nothing that has another name, nor the end of the program.
    """

    def __init__(self) -> None:
        self._asked: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        if (host, port) not in self._asked:
            answer: asyncio.Future[Sequence[str]] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(lambda done: self._forget(host, port, done))
            self._asked[host, port] = answer
            threading.Thread(target=_look_up, args=(host, port, answer), name="resolver", daemon=True).start()
        return await asyncio.shield(self._asked[host, port])

    def _forget(self, host: str, port: int, answer: asyncio.Future[Sequence[str]]) -> None:
        del self._asked[host, port]
        answer.exception()  # also if nobody waits for it any more


def _look_up(host: str, port: int, answer: asyncio.Future[Sequence[str]]) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        tell: Callable[[], None] = partial(_finish, answer, list(dict.fromkeys(str(one[4][0]) for one in found)), None)
    except (OSError, UnicodeError) as error:
        tell = partial(_finish, answer, [], error)
    with suppress(RuntimeError):  # the loop has ended
        answer.get_loop().call_soon_threadsafe(tell)


def _finish(answer: asyncio.Future[Sequence[str]], found: Sequence[str], error: Exception | None) -> None:
    if error is None:
        answer.set_result(found)
    else:
        answer.set_exception(error)


class Guard:
    """Knows which addresses may be called; `allows_private` is the administrator's choice."""

    def __init__(self, *, allows_private: bool = False, resolve: Resolve | None = None) -> None:
        self.allows_private = allows_private
        self._resolve = resolve or SystemNames()

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Return all addresses of this host, to connect to one of them, not to the name again.

        Raises `PrivateAddress` if one of them may not be called, `NoSuchHost` if there are none.
        """
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError):
            raise NoSuchHost from None
        if not found:
            raise NoSuchHost
        if not self.allows_private and not all(map(is_public, found)):
            raise PrivateAddress
        return found

    async def check(self, host: str, port: int) -> None:
        """Raise `PrivateAddress` for a host that may not be called. A name that is not known now may be later."""
        try:
            await self.addresses(host, port)
        except NoSuchHost:
            return


def web_address(url: str) -> SplitResult:
    """Return the parts of a webhook's URL. Raises `Invalid` with what is wrong, and nothing of the URL."""
    if len(url) > MAX_URL_LENGTH:
        raise Invalid(f"The address must have at most {MAX_URL_LENGTH:,} characters.")
    if not url.isprintable() or " " in url:
        raise Invalid("The address has a space or a control character in it; copy it again.")
    try:
        parts = urlsplit(url)
        port, host = parts.port, ascii_host(parts.hostname or "")
    except ValueError:
        raise Invalid("The address cannot be read; write one such as https://hooks.example/path.") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise Invalid("The address must start with https:// or http:// and a host name.")
    if parts.username is not None or parts.password is not None:
        raise Invalid("The address must have no user name or password; receivers check the signature instead.")
    if parts.fragment:
        raise Invalid("The address must have no part behind #; leave it out.")
    return parts


def ascii_host(host: str) -> str:
    """Return the host name as DNS knows it. Raises `ValueError`.

    >>> ascii_host("bücher.example")
    'xn--bcher-kva.example'
    """
    return host if host.isascii() else host.encode("idna").decode()
