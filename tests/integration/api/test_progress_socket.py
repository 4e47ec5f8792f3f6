"""The progress socket of a running server, against the protocol in the README of `backend/api`."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from tests.support.clips import make_clip
from tests.support.servers import Program, add_user, api, run_command, running, token
from tests.support.watchers import Watcher

pytestmark = pytest.mark.acceptance  # starts the whole program, and waits for its time-outs

TIMEOUT_SECONDS = 20
POLICY_CLOSE = b"\x03\xf0Too many frames"  # 1008


@pytest.fixture(scope="module", params=[True, False], ids=["direct", "plain"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    home = tmp_path_factory.mktemp("socket")
    make_clip(home / "media" / "clip.mp4", seconds=0.3)
    settings: dict[str, Any] = {
        "media_dir": home / "media",
        "max_connections_per_user": 3,
        "max_client_frames_per_second": 20,
        "max_refusals_per_minute": 1000,
        "direct_sending": request.param,
    }
    with running(home / "data", **settings) as started:
        yield started


@pytest.fixture(scope="module")
def jwt(program: Program) -> str:
    return add_user(program.data_dir, "ana")


def address(program: Program, query: str) -> str:
    return f"ws://127.0.0.1:{program.port}/api/ws/progress?{query}"


def close_of(connection: ClientConnection) -> tuple[int | None, str | None]:
    """Return the code and the reason with which the server closes the connection, whatever it sends before."""
    with pytest.raises(ConnectionClosed):
        _read_on(connection)
    return connection.protocol.close_code, connection.protocol.close_reason


def _read_on(connection: ClientConnection) -> None:
    while True:
        connection.recv(TIMEOUT_SECONDS)


def finished_job(program: Program, jwt: str, name: str = "done") -> str:
    """Return the ID of a new job that has ended."""
    with api(program, jwt) as client, Watcher(program, jwt) as watcher:
        job_id: str = client.post("/api/jobs", json={"video_ids": ["clip"], "name": name}).json()["job_id"]
        watcher.until_ended(job_id)
    return job_id


@pytest.mark.parametrize("query", ["", "token=", "token=nonsense", "token=a.b.c", "token=%00", "token=" + "x" * 5000])
def test_a_bad_token_is_accepted_and_closed_with_1008(program: Program, query: str) -> None:
    with connect(address(program, query)) as connection:
        code, reason = close_of(connection)
    assert code == 1008
    assert reason


def test_the_token_may_come_as_a_header(program: Program, jwt: str) -> None:
    with connect(address(program, ""), additional_headers={"Authorization": f"Bearer {jwt}"}) as connection:
        connection.send("ping")
        received = [connection.recv(TIMEOUT_SECONDS)]
        while received[-1] != "pong":
            received.append(connection.recv(TIMEOUT_SECONDS))
    assert received[-1] == "pong"


def test_any_origin_is_accepted_with_a_token(program: Program, jwt: str) -> None:
    with connect(address(program, f"token={jwt}"), origin=Origin("https://elsewhere.example")) as connection:
        connection.send("ping")
        updates = iter(lambda: connection.recv(TIMEOUT_SECONDS), "pong")
        assert all(json.loads(update)["job_id"] for update in updates)


def test_pings_are_answered_in_kind_and_other_frames_ignored(program: Program, jwt: str) -> None:
    with connect(address(program, f"token={jwt}&after=0&format=batch")) as connection:
        for frame in ("hello", '{"type": "subscribe"}', "[1]", '{"type": 3}', b"bytes", "ping", '{ "type":"ping" }'):
            connection.send(frame)
        received = [connection.recv(TIMEOUT_SECONDS)]
        while len([frame for frame in received if "pong" in str(frame)]) < 2:
            received.append(connection.recv(TIMEOUT_SECONDS))
    assert [frame for frame in received if "pong" in str(frame)] == ["pong", '{"type": "pong"}']


def test_the_newest_state_of_every_job_comes_first(program: Program, jwt: str) -> None:
    job_id = finished_job(program, jwt)
    with Watcher(program, jwt) as watcher:
        update = watcher.until_status(job_id, "completed")
    assert (update["progress"], update["current_video"], update["name"]) == (100, 1, "done")


def test_a_position_is_resumed_without_what_was_seen(program: Program, jwt: str) -> None:
    seen = finished_job(program, jwt, "seen")
    with Watcher(program, jwt, batch=True) as watcher:
        watcher.until(lambda w: bool(w.frames), "the snapshot")
        position = watcher.frames[0]["seq"]
    missed = finished_job(program, jwt, "missed")
    with Watcher(program, jwt, batch=True, after=position) as watcher:
        watcher.until_status(missed, "completed")
        first = watcher.frames[0]
    assert (first["type"], first["snapshot"], first["prev"]) == ("updates", False, position)
    assert seen not in {update["job_id"] for update in first["updates"]}


def test_an_impossible_position_gets_the_snapshot(program: Program, jwt: str) -> None:
    finished_job(program, jwt)
    for after in (2**60, "soon"):
        with connect(address(program, f"token={jwt}&format=batch&after={after}")) as connection:
            assert json.loads(connection.recv(TIMEOUT_SECONDS))["snapshot"]


def test_a_frame_over_64_kib_ends_with_1009(program: Program, jwt: str) -> None:
    with connect(address(program, f"token={jwt}")) as connection:
        connection.send("x" * (64 * 1024 + 1))
        assert close_of(connection)[0] == 1009


def test_too_many_frames_end_with_1008(program: Program, jwt: str) -> None:
    with connect(address(program, f"token={jwt}")) as connection:
        # The server may close before the last one is sent.
        with suppress(ConnectionClosed):
            for _ in range(25):
                connection.send("x")
        assert close_of(connection)[0] == 1008


def test_too_many_connections_of_a_user_end_with_1013(program: Program, jwt: str) -> None:
    with ExitStack() as connections:
        for _ in range(3):
            connections.enter_context(connect(address(program, f"token={jwt}")))
        fourth = connections.enter_context(connect(address(program, f"token={jwt}")))
        assert close_of(fourth)[0] == 1013


def test_the_socket_of_a_disabled_user_ends_with_1008(program: Program) -> None:
    jwt = add_user(program.data_dir, "leaver")
    with connect(address(program, f"token={jwt}")) as connection:
        run_command("users", "disable", "leaver", data_dir=program.data_dir)
        assert close_of(connection)[0] == 1008


def silent_client(program: Program, jwt: str) -> socket.socket:
    """Open a connection that never answers a ping of the server, and complete its handshake."""
    connection = socket.create_connection(("127.0.0.1", program.port), timeout=TIMEOUT_SECONDS)
    protocol = ClientProtocol(parse_uri(address(program, f"token={jwt}")))
    protocol.send_request(protocol.connect())
    connection.sendall(b"".join(protocol.data_to_send()))
    while protocol.state is State.CONNECTING:
        protocol.receive_data(connection.recv(65_536))
    return connection


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "plain"])
def test_a_connection_that_is_silent_too_long_is_closed(tmp_path: Path, direct: bool) -> None:
    impatient: dict[str, Any] = {"heartbeat_interval_seconds": 0.1, "heartbeat_timeout_seconds": 0.5}
    with ExitStack() as stack:
        started = stack.enter_context(running(tmp_path / "data", direct_sending=direct, **impatient))
        connection = stack.enter_context(silent_client(started, token(started.data_dir, "admin")))
        last = connection.recv(65_536)
        while last:
            last = connection.recv(65_536)
    assert last == b""  # the end of the stream, before the time-out of the client


def test_a_connection_that_brings_bytes_is_alive_without_pongs(tmp_path: Path) -> None:
    impatient: dict[str, Any] = {"heartbeat_interval_seconds": 0.1, "heartbeat_timeout_seconds": 1}
    masked_ping = b"\x81\x84\0\0\0\0ping"
    with ExitStack() as stack:
        started = stack.enter_context(running(tmp_path / "data", **impatient))
        connection, received = stack.enter_context(silent_client(started, token(started.data_dir, "admin"))), b""
        for _ in range(30):  # one every 0.1 s, three times the timeout
            connection.sendall(masked_ping)
            received += connection.recv(65_536)
            time.sleep(0.1)
        while (pongs := received.count(b"\x81\x04pong")) < 30 and (more := connection.recv(65_536)):
            received += more
    assert pongs == 30


def test_a_flood_of_protocol_pings_ends_with_1008(tmp_path: Path) -> None:
    masked_ping = b"\x89\x80\0\0\0\0"
    with ExitStack() as stack:
        started = stack.enter_context(running(tmp_path / "data"))
        connection, received = stack.enter_context(silent_client(started, token(started.data_dir, "admin"))), b""
        connection.sendall(masked_ping * 500)
        while POLICY_CLOSE not in received and (more := connection.recv(65_536)):
            received += more
    assert POLICY_CLOSE in received


def test_a_handshake_that_is_too_long_is_answered(tmp_path: Path) -> None:
    with running(tmp_path / "data") as started, pytest.raises(InvalidStatus) as refused:
        connect(address(started, "token=" + "x" * 9_000)).__enter__()
    assert refused.value.response.status_code == 400
    assert "too long" in json.loads(refused.value.response.body or b"")["detail"]


def test_many_refusals_block_the_address(tmp_path: Path) -> None:
    with running(tmp_path / "data", max_refusals_per_minute=3) as strict:
        for _ in range(3):
            with connect(address(strict, "token=bad")) as connection:
                assert close_of(connection)[0] == 1008
        with pytest.raises(InvalidStatus) as refused:
            connect(address(strict, f"token={token(strict.data_dir, 'admin')}")).__enter__()
    assert refused.value.response.status_code == 429


def test_a_stopping_server_closes_with_1012(tmp_path: Path) -> None:
    with running(tmp_path / "data") as stopping:
        jwt = token(stopping.data_dir, "admin")
        with connect(address(stopping, f"token={jwt}")) as connection:
            stopping.stop()
            assert close_of(connection)[0] == 1012


@pytest.mark.parametrize(
    "asked", [["json"], ["json", "text"], ["graphql-transport-ws", "graphql-ws"], ["bearer", "v1.json"]], ids=" ".join
)
def test_the_first_subprotocol_that_is_asked_for_is_named_in_the_answer(
    program: Program, jwt: str, asked: list[str]
) -> None:
    subprotocols = [Subprotocol(name) for name in asked]
    finished_job(program, jwt)
    with connect(address(program, f"token={jwt}"), subprotocols=subprotocols) as connection:
        assert connection.subprotocol == asked[0]
        assert json.loads(connection.recv(TIMEOUT_SECONDS))["total_videos"] == 1


@pytest.mark.parametrize("query", ["token=nonsense", ""])
def test_a_refused_token_is_told_by_1008_with_a_subprotocol_too(program: Program, query: str) -> None:
    with connect(address(program, query), subprotocols=[Subprotocol("json")]) as connection:
        assert connection.subprotocol == "json"
        assert close_of(connection)[0] == 1008


@pytest.mark.parametrize(("headers", "named"), [([], []), ([",json"], ["json"]), (["json", "text"], ["json"])], ids=str)
def test_no_other_subprotocol_is_named(program: Program, jwt: str, headers: list[str], named: list[str]) -> None:
    lines = [f"Sec-WebSocket-Protocol: {header}" for header in headers]
    lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += [f"Sec-WebSocket-Key: {'A' * 22}==", f"Host: 127.0.0.1:{program.port}"]
    request = "\r\n".join([f"GET /api/ws/progress?token={jwt} HTTP/1.1", *lines, "", ""])
    with socket.create_connection(("127.0.0.1", program.port), timeout=TIMEOUT_SECONDS) as raw:
        raw.sendall(request.encode())
        answer = raw.recv(4096).decode("latin-1")
    assert answer.split()[1] == "101"
    assert re.findall(r"(?im)^sec-websocket-protocol: (.*)\r$", answer) == named
