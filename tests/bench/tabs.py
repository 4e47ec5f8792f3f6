"""Simulated tabs: each loads a page and speaks NiceGUI's Socket.IO as the page's own script does, but draws nothing.

A tab asks for the page's HTML, connects, joins the live room where the page has a grid, decodes every message, and
acknowledges every three seconds.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from html import unescape
from typing import Any, Self
from urllib.parse import urlencode

import httpx
import msgspec
import socketio  # type: ignore[import-untyped]

ACK_SECONDS = 3.0
LONGEST_SECONDS = 60.0
SOCKET_PATH = "_nicegui_ws/socket.io"
CLIENT_ID = re.compile(r"client_id['\"]?: ?['\"]([0-9a-f-]{36})")
NEXT_MESSAGE = re.compile(r"next_message_id['\"]?: ?(\d+)")
ELEMENTS = re.compile(r"parseElements\(String\.raw`(.*?)`\)", re.DOTALL)


class Counted:
    """JSON as Socket.IO wants it; `read` counts the bytes of all tabs."""

    def __init__(self) -> None:
        self.read = 0

    def loads(self, text: str) -> Any:
        """One message."""
        self.read += len(text.encode())
        return msgspec.json.decode(text)

    @staticmethod
    def dumps(value: object, **_: object) -> str:
        """As small as can be."""
        return msgspec.json.encode(value).decode()


class Tab:
    """One simulated tab."""

    def __init__(self, url: str, cookie: str, received: Counted) -> None:
        self._url = url
        self._headers = {"Cookie": cookie, "Origin": url}
        self._next = self._acked = 0
        self._client_id = ""
        self._acking: asyncio.Task[None] | None = None
        self._socket = socketio.AsyncClient(
            json=received, reconnection=False, websocket_extra_options={"max_msg_size": 0}
        )
        self._socket.on("*", self._heard)

    @property
    def is_connected(self) -> bool:
        return bool(self._socket.connected)

    async def open(self, path: str) -> Self:
        """Load the page and follow it; raises what the network says when it does not come in time."""
        async with httpx.AsyncClient(timeout=LONGEST_SECONDS, headers=self._headers) as http:
            html = (await http.get(self._url + path)).raise_for_status().text
        self._client_id, self._next = _found(CLIENT_ID, html), int(_found(NEXT_MESSAGE, html))
        await self._socket.connect(
            f"{self._url}/?{urlencode(self._query())}",
            headers=self._headers,
            transports=["websocket"],
            socketio_path=SOCKET_PATH,
            wait_timeout=int(LONGEST_SECONDS),
        )
        self._acking = asyncio.create_task(self._acknowledge())
        for element_id, listener_id in watchers(html):
            await self._socket.emit(
                "event", {"id": element_id, "client_id": self._client_id, "listener_id": listener_id, "args": []}
            )
        return self

    async def close(self) -> None:
        """Leave."""
        if self._acking is not None:
            self._acking.cancel()
        await self._socket.disconnect()

    def _query(self) -> dict[str, str]:
        return {
            "client_id": self._client_id,
            "next_message_id": str(self._next),
            "implicit_handshake": "true",
            "document_id": str(uuid.uuid4()),
            "tab_id": str(uuid.uuid4()),
        }

    def _heard(self, _: str, message: object = None, *__: object) -> None:
        if isinstance(message, dict) and "_id" in message:
            self._next = message["_id"] + 1

    async def _acknowledge(self) -> None:
        while True:
            await asyncio.sleep(ACK_SECONDS)
            if self._next > self._acked:
                self._acked = self._next
                await self._socket.emit("ack", {"client_id": self._client_id, "next_message_id": self._next})


def watchers(html: str) -> list[tuple[int, str]]:
    """(element, listener) of the page's grid: what its script says `watch` to once it is connected."""
    elements = json.loads(unescape(_found(ELEMENTS, html)))
    return [
        (int(element_id), event["listener_id"])
        for element_id, element in elements.items()
        for event in element.get("events", [])
        if event["type"] == "watch"
    ]


def _found(pattern: re.Pattern[str], html: str) -> str:
    match = pattern.search(html)
    assert match, f"the page does not hold {pattern.pattern}"
    return match[1]
