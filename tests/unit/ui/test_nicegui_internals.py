"""What the program takes from the inside of NiceGUI, and what it does where that is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from backend.errors import CannotStart
from ui.nicegui_internals import (
    BROADCAST_MEMBERS,
    HANDLERS,
    NAMESPACE,
    SECURITY_MEMBERS,
    MethodBroadcast,
    RoomBroadcast,
    broadcasts,
    missing_members,
    require_security_members,
)


def nicegui_without(*missing: str, handlers: Iterable[str] = HANDLERS) -> SimpleNamespace:
    """Return a stand-in for NiceGUI with all members but the missing ones."""
    root = SimpleNamespace()
    for name in {*SECURITY_MEMBERS, *BROADCAST_MEMBERS} - {*missing}:
        *parents, last = name.split(".")
        owner = root
        for parent in parents:
            owner = vars(owner).setdefault(parent, SimpleNamespace())
        vars(owner)[last] = {NAMESPACE: dict.fromkeys(handlers)} if last == "handlers" else object()
    return root


class FakeElement:
    """An element of a page, which records the frames that it gets."""

    def __init__(self) -> None:
        self.frames: list[Mapping[str, Any]] = []
        self.is_deleted = False
        self.client = SimpleNamespace(has_socket_connection=True)

    def run_method(self, name: str, frame: Mapping[str, Any]) -> None:
        assert name == "receive"
        self.frames.append(frame)


async def joined(broadcast: MethodBroadcast, number: int) -> list[Any]:
    """Return new elements that have joined the broadcast."""
    elements: list[Any] = [FakeElement() for _ in range(number)]
    for element in elements:
        await broadcast.join(element)
    return elements


def test_the_installed_nicegui_has_all_members() -> None:
    assert missing_members((*SECURITY_MEMBERS, *BROADCAST_MEMBERS)) == []
    require_security_members()


@pytest.mark.parametrize("member", SECURITY_MEMBERS)
def test_without_a_security_member_the_program_does_not_start(member: str) -> None:
    require_security_members(nicegui_without())
    with pytest.raises(CannotStart, match=f"lacks {member},"):
        require_security_members(nicegui_without(member))


@pytest.mark.parametrize("handler", HANDLERS)
def test_without_a_socket_handler_the_program_does_not_start(handler: str) -> None:
    others = [name for name in HANDLERS if name != handler]
    with pytest.raises(CannotStart, match=f"lacks the handler {handler},"):
        require_security_members(nicegui_without(handlers=others))


def test_a_broadcast_takes_rooms_where_nicegui_has_them(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(broadcasts(nicegui_without())("jobs of ana"), RoomBroadcast)
    assert caplog.messages == []


@pytest.mark.parametrize("member", BROADCAST_MEMBERS)
def test_without_a_room_member_the_plain_way_serves(member: str, caplog: pytest.LogCaptureFixture) -> None:
    broadcast = broadcasts(nicegui_without(member))
    assert [isinstance(broadcast(name), MethodBroadcast) for name in ("ana", "ben")] == [True, True]
    assert caplog.messages == [f"this NiceGUI lacks {member}; live pages take the plain way, which is slower"]


async def test_the_plain_way_sends_to_all_that_have_joined() -> None:
    broadcast = MethodBroadcast()
    first, second = await joined(broadcast, 2)
    await broadcast.send({"seq": 1})
    await broadcast.leave(second)
    await broadcast.send({"seq": 2})
    assert first.frames == [{"seq": 1}, {"seq": 2}]
    assert second.frames == [{"seq": 1}]


async def test_the_plain_way_sends_to_one() -> None:
    broadcast = MethodBroadcast()
    first, second = await joined(broadcast, 2)
    await broadcast.send_to(second, {"seq": 1})
    assert (first.frames, second.frames) == ([], [{"seq": 1}])


async def test_the_plain_way_forgets_disconnected_and_deleted_pages() -> None:
    broadcast = MethodBroadcast()
    disconnected, deleted, staying = await joined(broadcast, 3)
    disconnected.client.has_socket_connection = False
    deleted.is_deleted = True
    await broadcast.send({"seq": 1})
    disconnected.client.has_socket_connection = True  # it is back, and has not joined again
    await broadcast.send({"seq": 2})
    assert (disconnected.frames, deleted.frames) == ([], [])
    assert staying.frames == [{"seq": 1}, {"seq": 2}]


async def test_joining_twice_sends_a_frame_once() -> None:
    broadcast = MethodBroadcast()
    [element] = await joined(broadcast, 1)
    await broadcast.join(element)
    await broadcast.send({"seq": 1})
    assert element.frames == [{"seq": 1}]
