"""A server that may open few files and sockets, and a peer that opens many connections and sends half a request each.

`python -m tests.acceptance.test_descriptors` prints how long the server takes to answer again, and what it logged.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.clips import make_clip
from tests.support.servers import Program, add_user, api, running

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit"),
]

MAX_DESCRIPTORS = 100
HALF_OPEN = 250
HALF_A_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127"
WARNING = "no further connections are accepted until others end"
SECONDS = 60
MAX_LOGGED = 2_000  # characters


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with limited_program(tmp_path) as started:
        yield started


@contextmanager
def limited_program(directory: Path) -> Iterator[Program]:
    """Start the program with few descriptors and one clip to process."""
    media = directory / "media"
    media.mkdir()
    make_clip(media / "clip.mp4")
    with running(directory / "data", media_dir=media, max_descriptors=MAX_DESCRIPTORS) as started:
        yield started


@contextmanager
def half_open(program: Program, count: int = HALF_OPEN) -> Iterator[None]:
    """Keep so many connections open that have sent half a request."""
    with ExitStack() as stack:
        for _ in range(count):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", program.port), timeout=SECONDS))
            peer.sendall(HALF_A_REQUEST)
        yield


def answer_of_a_new_connection(program: Program) -> bytes:
    """Return what a new connection is answered; it waits until it is accepted."""
    with socket.create_connection(("127.0.0.1", program.port), timeout=SECONDS) as peer:
        peer.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: peer.recv(4096), b""))


def completes(program: Program, jwt: str) -> bool:
    """Run a job of one video, over one connection that exists already."""
    with api(program, jwt) as client:
        client.get("/healthz").raise_for_status()
        with half_open(program):
            program.until_says(WARNING)
            job = client.post("/api/jobs", files={"file": ("one.csv", b"id\nclip\n")}).raise_for_status().json()
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                state = client.get(f"/api/jobs/{job['job_id']}").raise_for_status().json()
                if state["status"] not in ("pending", "processing"):
                    return bool(state["status"] == "completed")
    return False


def test_videos_and_the_database_work_while_all_other_descriptors_are_taken(program: Program, tmp_path: Path) -> None:
    assert completes(program, add_user(tmp_path / "data", "ana"))


def test_it_is_said_once_and_the_server_answers_when_they_have_gone(program: Program) -> None:
    logged = len(program.output)
    for number in range(3):
        with half_open(program):
            if number == 0:
                program.until_says(WARNING)
        assert answer_of_a_new_connection(program).endswith(b"ok")
    assert program.output.count(WARNING) == 1
    assert len(program.output) - logged < MAX_LOGGED


def test_half_requests_end_so_that_others_are_answered(program: Program) -> None:
    with half_open(program, MAX_DESCRIPTORS):
        program.until_says(WARNING)
        assert answer_of_a_new_connection(program).endswith(b"ok")


def main() -> None:
    """Print how long the server takes to answer after 250 half-open connections have gone."""
    with tempfile.TemporaryDirectory() as directory, limited_program(Path(directory)) as program:
        logged = len(program.output)
        for _ in range(5):
            with half_open(program):
                time.sleep(2)
            gone = time.perf_counter()
            assert answer_of_a_new_connection(program).endswith(b"ok")
            print(f"answered {time.perf_counter() - gone:.2f} s after they had gone")
        print(f"logged {len(program.output) - logged} characters")


if __name__ == "__main__":
    main()
