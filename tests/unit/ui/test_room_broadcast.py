"""A frame to all pages in a room: past the queues of those that keep up, and without end for none."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from engineio.async_socket import AsyncSocket  # type: ignore[import-untyped]
from nicegui import core
from starlette.types import Scope

from ui.nicegui_internals import MAX_WAITING, NAMESPACE, DirectWay, RoomBroadcast


@dataclass
class RecordingTransport:
    """The transport of a page, which takes what is written until it is full."""

    is_full: bool = False
    taken: list[Any] = field(default_factory=list)

    def offer(self, frames: bytes) -> bool:
        if not self.is_full:
            self.taken.append(json.loads(frames.removeprefix(b"42"))[1])
        return not self.is_full


class Page:
    """A page with a Socket.IO connection, whose transport nothing reads."""

    def __init__(self, name: str) -> None:
        self.transport = RecordingTransport()
        self.engine_id = f"engine of {name}"
        core.sio.environ[self.engine_id] = {"asgi.scope": {"page": self}}
        self.socket = core.sio.eio.sockets[self.engine_id] = AsyncSocket(core.sio.eio, self.engine_id)
        self.client = SimpleNamespace(id=name)

    async def connect(self) -> None:
        sid = await core.sio.manager.connect(self.engine_id, NAMESPACE)
        await core.sio.enter_room(sid, self.client.id)

    @property
    def waiting(self) -> list[Any]:
        """The frames in the queue of the framework."""
        found = []
        while not self.socket.queue.empty():
            found.append(json.loads(self.socket.queue.get_nowait().data.removeprefix("2"))[1])
        return found

    async def close(self) -> None:
        await core.sio.manager.disconnect(core.sio.manager.sid_from_eio_sid(self.engine_id, NAMESPACE), NAMESPACE)
        del core.sio.eio.sockets[self.engine_id], core.sio.environ[self.engine_id]


@pytest.fixture
async def pages() -> Any:
    opened = [Page("one"), Page("two")]
    for page in opened:
        await page.connect()
    yield opened
    for page in opened:
        await page.close()


@pytest.fixture
def broadcast() -> RoomBroadcast:
    def offer(scope: Scope, frames: bytes) -> bool:
        transport: RecordingTransport = scope["page"].transport
        return transport.offer(frames)

    return RoomBroadcast("jobs of ana", DirectWay(offer, lambda text: text))


async def test_a_frame_is_written_past_the_queues(pages: list[Any], broadcast: RoomBroadcast) -> None:
    for page in pages:
        await broadcast.join(page)
    await broadcast.send({"seq": 1})
    await broadcast.leave(pages[1])
    await broadcast.send({"seq": 2})
    assert [page.transport.taken for page in pages] == [[{"seq": 1}, {"seq": 2}], [{"seq": 1}]]
    assert [page.waiting for page in pages] == [[], []]


async def test_a_frame_waits_behind_what_waits(pages: list[Any], broadcast: RoomBroadcast) -> None:
    await broadcast.join(pages[0])
    await broadcast.send_to(pages[0], {"seq": 1})
    await broadcast.send({"seq": 2})
    assert (pages[0].transport.taken, pages[0].waiting) == ([], [{"seq": 1}, {"seq": 2}])
    await broadcast.send({"seq": 3})
    assert pages[0].transport.taken == [{"seq": 3}]


async def test_a_page_that_does_not_keep_up_has_to_ask_again(pages: list[Any], broadcast: RoomBroadcast) -> None:
    for page in pages:
        await broadcast.join(page)
    pages[0].transport.is_full = True
    for seq in range(3 * MAX_WAITING):
        await broadcast.send({"seq": seq})
    *waiting, last = pages[0].waiting
    assert waiting == [{"seq": seq} for seq in range(MAX_WAITING)]
    assert last == {"prev": -1, "snapshot": False}
    assert len(pages[1].transport.taken) == 3 * MAX_WAITING
    pages[0].transport.is_full = False
    await broadcast.join(pages[0])
    await broadcast.send({"seq": 99})
    assert pages[0].transport.taken == [{"seq": 99}]


async def test_without_a_direct_way_frames_wait_in_the_queues(pages: list[Any]) -> None:
    plain = RoomBroadcast("jobs of ana")
    for page in pages:
        await plain.join(page)
    await plain.send({"seq": 1})
    assert [page.waiting for page in pages] == [[{"seq": 1}], [{"seq": 1}]]
