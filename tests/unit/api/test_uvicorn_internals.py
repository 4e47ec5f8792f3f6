"""The choice of the protocols that serve requests and sockets."""

from __future__ import annotations

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from backend.api.uvicorn_internals import (
    PLAIN_HTTP_PROTOCOL,
    PLAIN_PROTOCOL,
    DirectProtocol,
    LimitedProtocol,
    http_protocol,
    websocket_protocol,
)

OF_THE_CLASS = ("__dict__", "__weakref__")


def test_the_installed_uvicorn_has_all_members_for_direct_sending(caplog: pytest.LogCaptureFixture) -> None:
    assert websocket_protocol(direct=True) is DirectProtocol
    assert caplog.records == []


def test_direct_sending_can_be_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    assert websocket_protocol(direct=False) == PLAIN_PROTOCOL
    assert caplog.records == []


@pytest.mark.parametrize("removed", ["pause_writing", "handle_parser_exception"])  # the other methods call the latter
def test_a_missing_method_falls_back_with_one_warning(removed: str, caplog: pytest.LogCaptureFixture) -> None:
    members = {name: member for name, member in vars(WebSocketsSansIOProtocol).items() if name not in OF_THE_CLASS}
    del members[removed]
    assert websocket_protocol(direct=True, base=type("Smaller", (), members)) == PLAIN_PROTOCOL
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"lacks {removed};" in caplog.text


def test_several_missing_members_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert websocket_protocol(direct=True, base=type("Empty", (), {})) == PLAIN_PROTOCOL
    assert len(caplog.records) == 1
    assert "close_sent, conn, connection_lost" in caplog.text


def test_the_installed_uvicorn_has_all_members_for_limited_requests(caplog: pytest.LogCaptureFixture) -> None:
    assert http_protocol() is LimitedProtocol
    assert caplog.records == []


@pytest.mark.parametrize("removed", ["on_message_begin", "handle_websocket_upgrade"])
def test_requests_are_served_without_limits_where_a_member_is_missing(
    removed: str, caplog: pytest.LogCaptureFixture
) -> None:
    members = {name: member for name, member in vars(HttpToolsProtocol).items() if name not in OF_THE_CLASS}
    del members[removed]
    assert http_protocol(base=type("Smaller", (), members)) == PLAIN_HTTP_PROTOCOL
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert removed in caplog.text
