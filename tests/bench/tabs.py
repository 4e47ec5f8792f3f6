"""Simulated tabs: each loads a page and speaks NiceGUI's Socket.IO as the page's own script does, but draws nothing.

A tab requests the page's HTML, connects, subscribes to the live frames if the page has a grid, decodes every message,
and acknowledges every three seconds. It tells the grid which jobs it shows: the first ones of the usual order. After a
lost connection it requests what it missed, as the page does.
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
MAX_WAIT_SECONDS = 60.0
SHOWN = 18  # cards that a window of 1440 x 900 px draws
LIVE_FRAME = "jobs"  # the event of ui/components/dashboard/job_feed.js
SOCKET_PATH = "_nicegui_ws/socket.io"
CLIENT_ID = re.compile(r"client_id['\"]?: ?['\"]([0-9a-f-]{36})")
NEXT_MESSAGE = re.compile(r"next_message_id['\"]?: ?(\d+)")
ELEMENTS = re.compile(r"parseElements\(String\.raw`(.*?)`\)", re.DOTALL)

Listener = tuple[int, str]  # element, listener


class Counted:
    """A JSON module for Socket.IO; `read` counts the bytes of all tabs."""

    def __init__(self) -> None:
        self.read = 0

    def loads(self, text: str) -> Any:
        """Decode one message."""
        self.read += len(text.encode())
        return msgspec.json.decode(text)

    @staticmethod
    def dumps(value: object, **_: object) -> str:
        """Encode without spaces."""
        return msgspec.json.encode(value).decode()


class Tab:
    """One simulated tab."""

    def __init__(self, url: str, cookie: str, received: Counted) -> None:
        self._url = url
        self._headers = {"Cookie": cookie, "Origin": url}
        self._next_message = self._acknowledged = 0
        self._client_id = ""
        self._document_id = str(uuid.uuid4())
        self._tab_id = str(uuid.uuid4())
        self._watching: list[Listener] = []
        self._looking: list[Listener] = []
        self._seq: int | None = None
        self._has_frame = asyncio.Event()
        self._acknowledging: asyncio.Task[None] | None = None
        self._socket = socketio.AsyncClient(
            json=received, reconnection=False, websocket_extra_options={"max_msg_size": 0}
        )
        self._socket.on("*", self._receive)

    @property
    def is_connected(self) -> bool:
        return bool(self._socket.connected)

    async def open(self, path: str) -> Self:
        """Load the page and connect. Raises the network's error if it does not come in time."""
        async with httpx.AsyncClient(timeout=MAX_WAIT_SECONDS, headers=self._headers) as http:
            html = (await http.get(self._url + path)).raise_for_status().text
        self._client_id, self._next_message = _found(CLIENT_ID, html), int(_found(NEXT_MESSAGE, html))
        self._watching, self._looking = listeners(html, "watch"), listeners(html, "look")
        await self.connect()
        self._acknowledging = asyncio.create_task(self._acknowledge())
        return self

    async def disconnect(self) -> None:
        """End the connection, as if it were lost."""
        await self._socket.disconnect()

    async def next_frame(self) -> None:
        """Wait for the next live frame of the page's grid."""
        await asyncio.wait_for(self._has_frame.wait(), MAX_WAIT_SECONDS)
        self._has_frame.clear()

    async def close(self) -> None:
        """Close the tab."""
        if self._acknowledging is not None:
            self._acknowledging.cancel()
        await self._socket.disconnect()

    async def connect(self) -> None:
        """Connect, also after a lost connection, and request what was missed."""
        self._has_frame.clear()
        await self._socket.connect(
            f"{self._url}/?{urlencode(self._query())}",
            headers=dict(self._headers),  # the library removes the cookie from it
            transports=["websocket"],
            socketio_path=SOCKET_PATH,
            wait_timeout=int(MAX_WAIT_SECONDS),
        )
        await self._emit(self._watching, self._seq)

    async def _emit(self, listeners: list[Listener], value: object) -> None:
        for element_id, listener_id in listeners:
            event = {"id": element_id, "client_id": self._client_id, "listener_id": listener_id}
            await self._socket.emit("event", event | {"args": [json.dumps(value)]})

    def _query(self) -> dict[str, str]:
        return {
            "client_id": self._client_id,
            "next_message_id": str(self._next_message),
            "implicit_handshake": "true",
            "document_id": self._document_id,
            "tab_id": self._tab_id,
        }

    async def _receive(self, event: str, message: object = None, *_: object) -> None:
        if not isinstance(message, dict):
            return
        if "_id" in message:
            self._next_message = message["_id"] + 1
        if event != LIVE_FRAME:
            return
        if "seq" not in message:  # it did not keep up
            await self._emit(self._watching, self._seq)
            return
        self._seq = message.get("resume", message["seq"])
        self._has_frame.set()
        if message["snapshot"]:
            first = sorted(message["jobs"], key=lambda job: (job["rank"], -job["created"], job["id"]))[:SHOWN]
            await self._emit(self._looking, [job["id"] for job in first])

    async def _acknowledge(self) -> None:
        while True:
            await asyncio.sleep(ACK_SECONDS)
            if self._next_message > self._acknowledged:
                self._acknowledged = self._next_message
                await self._socket.emit("ack", {"client_id": self._client_id, "next_message_id": self._next_message})


def listeners(html: str, event_type: str) -> list[Listener]:
    """Return who listens to an event of the page's grid: `watch` subscribes, `look` tells what is shown."""
    elements = json.loads(unescape(_found(ELEMENTS, html)))
    return [
        (int(element_id), event["listener_id"])
        for element_id, element in elements.items()
        for event in element.get("events", [])
        if event["type"] == event_type
    ]


def _found(pattern: re.Pattern[str], html: str) -> str:
    match = pattern.search(html)
    assert match, f"the page does not contain {pattern.pattern}"
    return match[1]
