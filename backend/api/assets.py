"""The code and style of the pages, answered from memory: a page asks for forty of them before it draws anything.

They are the same for everyone and belong to one version, so each is made and compressed once, and to the end, even if
the browser that asked first is closed on the way. They are always sent whole: the rest of the plain file behind the
beginning of the compressed one, which a browser may keep, is no file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_CACHED_BYTES = 32 * 1024 * 1024
CONDITIONS = ("if-none-match", "if-modified-since")  # the app answers these itself
REPLACED = (b"accept-ranges", b"content-length")


@dataclass(eq=False)
class Answer:
    """An answer of the app."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    is_whole: bool = False

    async def note(self, message: Message) -> None:
        """Note what the app sends."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [pair for pair in message["headers"] if pair[0].lower() not in REPLACED]
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            self.is_whole = not message.get("more_body", False)

    async def send(self, send: Send) -> None:
        """Send it, with its length: a browser never takes a part of it for all."""
        headers = [*self.headers, (b"content-length", b"%d" % len(self.body)), (b"accept-ranges", b"none")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class AssetCache:
    """An ASGI app before `app` that keeps the answers for the paths that `is_asset` names."""

    def __init__(
        self, app: ASGIApp, is_asset: Callable[[str], bool], *, max_cached_bytes: int = MAX_CACHED_BYTES
    ) -> None:
        self._app = app
        self._is_asset = is_asset
        self._free_bytes = max_cached_bytes
        self._answers: dict[tuple[str, bool], Answer] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_cacheable(scope):
            await self._app(scope, receive, send)
            return
        key = scope["path"], "gzip" in Headers(scope=scope).get("accept-encoding", "")
        answer = self._answers.get(key) or await self._make(key, scope)
        await answer.send(send)

    async def _make(self, key: tuple[str, bool], scope: Scope) -> Answer:
        answer = Answer()
        await self._app(_without_range(scope), _staying_client(), answer.note)
        is_kept = answer.status == 200 and answer.is_whole and len(answer.body) <= self._free_bytes
        if is_kept and key not in self._answers:  # another request may have made it meanwhile
            self._free_bytes -= len(answer.body)
            self._answers[key] = answer
        return answer

    def _is_cacheable(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"]:
            return False
        headers = Headers(scope=scope)
        return self._is_asset(scope["path"]) and not any(name in headers for name in CONDITIONS)


def _without_range(scope: Scope) -> Scope:
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() not in (b"range", b"if-range")]}


def _staying_client() -> Receive:
    """Return the messages of a client that never goes: the app ends an answer early, as if whole, when one does."""
    request = iter(({"type": "http.request", "body": b"", "more_body": False},))

    async def receive() -> Message:
        for message in request:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    return receive
