"""The progress socket of a running server, against the protocol in the README."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.support.clips import make_clip
from tests.support.servers import Program, add_user, api, run_command, running, token
from tests.support.watchers import Watcher

WAIT = 20


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    home = tmp_path_factory.mktemp("socket")
    make_clip(home / "media" / "clip.mp4", seconds=0.3)
    settings: dict[str, Any] = {
        "media_dir": home / "media",
        "max_connections_per_user": 3,
        "max_client_frames_per_second": 20,
        "max_refusals_per_minute": 1000,
    }
    with running(home / "data", **settings) as started:
        yield started


@pytest.fixture(scope="module")
def jwt(program: Program) -> str:
    return add_user(program.data_dir, "ana")


def address(program: Program, query: str) -> str:
    return f"ws://127.0.0.1:{program.port}/api/ws/progress?{query}"


def close_of(socket: ClientConnection) -> tuple[int | None, str | None]:
    """How the server ends it, whatever it says before."""
    with pytest.raises(ConnectionClosed):
        _read_on(socket)
    return socket.protocol.close_code, socket.protocol.close_reason


def _read_on(socket: ClientConnection) -> None:
    while True:
        socket.recv(WAIT)


def finished_job(program: Program, jwt: str, name: str = "done") -> str:
    with api(program, jwt) as client, Watcher(program, jwt) as watcher:
        job_id: str = client.post("/api/jobs", json={"video_ids": ["clip"], "name": name}).json()["job_id"]
        watcher.until_ended(job_id)
    return job_id


@pytest.mark.parametrize("query", ["", "token=", "token=nonsense", "token=a.b.c", "token=%00", "token=" + "x" * 5000])
def test_a_bad_token_is_accepted_and_closed_with_1008_and_a_reason(program: Program, query: str) -> None:
    with connect(address(program, query)) as socket:
        code, reason = close_of(socket)
    assert code == 1008
    assert reason


def test_the_token_may_come_as_a_header(program: Program, jwt: str) -> None:
    with connect(address(program, ""), additional_headers={"Authorization": f"Bearer {jwt}"}) as socket:
        socket.send("ping")
        while socket.recv(WAIT) != "pong":
            pass


def test_any_origin_is_welcome_with_a_token(program: Program, jwt: str) -> None:
    with connect(address(program, f"token={jwt}"), origin=Origin("https://elsewhere.example")) as socket:
        socket.send("ping")
        answers = iter(lambda: socket.recv(WAIT), "pong")
        assert all(json.loads(answer)["job_id"] for answer in answers)


def test_pings_are_answered_in_kind_and_other_words_ignored(program: Program, jwt: str) -> None:
    with connect(address(program, f"token={jwt}&after=0&format=batch")) as socket:
        for word in ("hello", '{"type": "subscribe"}', "[1]", '{"type": 3}', b"bytes", "ping", '{ "type":"ping" }'):
            socket.send(word)
        said = [socket.recv(WAIT)]
        while len([word for word in said if "pong" in str(word)]) < 2:
            said.append(socket.recv(WAIT))
    assert [word for word in said if "pong" in str(word)] == ["pong", '{"type": "pong"}']


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


def test_a_position_that_cannot_be_gets_the_snapshot(program: Program, jwt: str) -> None:
    finished_job(program, jwt)
    for after in (2**60, "soon"):
        with connect(address(program, f"token={jwt}&format=batch&after={after}")) as socket:
            assert json.loads(socket.recv(WAIT))["snapshot"]


def test_a_frame_over_64_kib_ends_with_1009(program: Program, jwt: str) -> None:
    with connect(address(program, f"token={jwt}")) as socket:
        socket.send("x" * (64 * 1024 + 1))
        assert close_of(socket)[0] == 1009


def test_too_many_frames_end_with_1008(program: Program, jwt: str) -> None:
    with connect(address(program, f"token={jwt}")) as socket:
        for _ in range(25):
            socket.send("x")
        assert close_of(socket)[0] == 1008


def test_too_many_connections_of_a_user_end_with_1013(program: Program, jwt: str) -> None:
    with ExitStack() as sockets:
        for _ in range(3):
            sockets.enter_context(connect(address(program, f"token={jwt}")))
        fourth = sockets.enter_context(connect(address(program, f"token={jwt}")))
        assert close_of(fourth)[0] == 1013


def test_a_disabled_user_is_closed_out_with_1008(program: Program) -> None:
    jwt = add_user(program.data_dir, "leaver")
    with connect(address(program, f"token={jwt}")) as socket:
        run_command("users", "disable", "leaver", data_dir=program.data_dir)
        assert close_of(socket)[0] == 1008


def test_many_refusals_block_the_address(tmp_path: Path) -> None:
    with running(tmp_path / "data", max_refusals_per_minute=3) as strict:
        for _ in range(3):
            with connect(address(strict, "token=bad")) as socket:
                assert close_of(socket)[0] == 1008
        with pytest.raises(InvalidStatus) as refused:
            connect(address(strict, f"token={token(strict.data_dir, 'admin')}")).__enter__()
    assert refused.value.response.status_code == 429


def test_a_stopping_server_says_1012(tmp_path: Path) -> None:
    with running(tmp_path / "data") as stopping:
        jwt = token(stopping.data_dir, "admin")
        with connect(address(stopping, f"token={jwt}")) as socket:
            stopping.stop()
            assert close_of(socket)[0] == 1012
