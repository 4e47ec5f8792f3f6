"""Malformed and harmful files in the real program: each one has its own error, and nothing outside is read.

In the gate the corpus runs twice, the first time as a warm-up; `python -m tests.acceptance.test_hostile_files [rounds]`
prints the error of each file and the figures.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from tests.bench.measure import memory_mib
from tests.support.hostile_files import CORPUS, MARK, SOUND, Hostile, Workshop
from tests.support.servers import api, running, token
from tests.support.watchers import ENDS, Watcher

ROUNDS_IN_THE_GATE = 2
TIMEOUT_SECONDS, MEMORY_MIB = 3, 512
SPARE_SECONDS = 3.0  # beyond a video's limit, in which its process must be killed also on a busy machine
MAX_GROWTH_MIB = 20.0
POLL_SECONDS = 0.005
PAST_TIME = 1_000_000_000  # seconds since 1970


class Trap:
    """Listens on the address to which the files point, and counts connections and datagrams."""

    def __init__(self) -> None:
        self.connections = 0
        self.datagrams = 0
        self._open = ExitStack()
        self._tcp = self._open.enter_context(socket.socket())
        self._tcp.bind(("127.0.0.1", 0))
        self._tcp.listen()
        self._udp = self._open.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        self._udp.bind(self._tcp.getsockname())

    @property
    def address(self) -> str:
        return "{}:{}".format(*self._tcp.getsockname())

    def count(self) -> int:
        """Return the number of connections and datagrams so far, which wait in the kernel."""
        while (ready := select.select([self._tcp, self._udp], [], [], 0)[0]) != []:
            if self._tcp in ready:
                self._tcp.accept()[0].close()
                self.connections += 1
            else:
                self._udp.recv(65_535)
                self.datagrams += 1
        return self.connections + self.datagrams

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


@dataclass
class Guard:
    """Notices when a process opens the pipe outside the media directory, or reads the files there."""

    workshop: Workshop
    pipe_was_opened: bool = False
    _is_over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[Self]:
        """Watch the pipe and the files while the block runs."""
        for path in self._files:
            os.utime(path, (PAST_TIME, PAST_TIME + 1))  # a read before the change: also "relatime" records the next one
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(POLL_SECONDS):
            self.pipe_was_opened |= self.workshop.is_pipe_open

    @property
    def _files(self) -> tuple[Path, ...]:
        return (self.workshop.text, self.workshop.clip)

    @property
    def read_files(self) -> list[str]:
        """The names of the files that were read."""
        return [path.name for path in self._files if path.stat().st_atime != PAST_TIME]


@dataclass(frozen=True)
class VideoResult:
    """The result of one file's video according to the API."""

    file: Hostile
    error: str | None
    seconds: float
    poster: bytes
    # The whole answer, as JSON.
    answer: str

    @property
    def is_expected(self) -> bool:
        """True if the error is the expected one."""
        return self.file.is_described_by(self.error)


@dataclass
class Round:
    """One job with the whole corpus."""

    job: dict[str, Any]
    results: list[VideoResult]
    # All statuses that a watcher received.
    statuses: set[str]
    # Memory of the server afterwards.
    memory_mib: float


@dataclass
class Outcome:
    """The results of all rounds, and what the trap and the guard noticed."""

    rounds: list[Round]
    # Connections and datagrams.
    connections: int
    pipe_was_opened: bool
    read_files: list[str]

    @property
    def results(self) -> list[VideoResult]:
        """The results of all rounds."""
        return [result for round_ in self.rounds for result in round_.results]

    @property
    def growth_mib(self) -> float:
        """The growth of the server's memory after the first round."""
        return self.rounds[-1].memory_mib - self.rounds[0].memory_mib


def play(home: Path, rounds: int) -> Outcome:
    """Run this number of rounds through one server."""
    media = home / "media"
    media.mkdir()
    with Trap() as trap:
        workshop = Workshop.open(home / "outside", trap.address)
        for file in CORPUS:
            file.put(workshop, media)
        settings: dict[str, Any] = {
            "media_dir": media,
            "video_timeout_seconds": TIMEOUT_SECONDS,
            "video_memory_mib": MEMORY_MIB,
            "video_retries": 0,
            "max_running_videos": 2,
        }
        with Guard(workshop).watching() as guard, running(home / "data", **settings) as program:
            jwt = token(home / "data", "admin")
            with Watcher(program, jwt) as watcher, api(program, jwt) as client:
                played = [_round(program.pid, watcher, client) for _ in range(rounds)]
        return Outcome(played, trap.count(), guard.pipe_was_opened, guard.read_files)


def _round(pid: int, watcher: Watcher, client: Any) -> Round:
    answer = client.post("/api/jobs", json={"video_ids": [file.video_id for file in CORPUS]})
    assert answer.status_code == 201, answer.text
    job_id = answer.json()["job_id"]
    watcher.until_status(job_id, *ENDS, "paused")
    statuses = {update["status"] for update in watcher.updates if update["job_id"] == job_id}
    job = client.get(f"/api/jobs/{job_id}").json()
    videos = client.get(f"/api/jobs/{job_id}/videos", params={"limit": 1000}).json()["items"]
    results = [
        _result(file, video, client, f"/api/jobs/{job_id}/videos/{place}/poster")
        for place, (file, video) in enumerate(zip(CORPUS, videos, strict=True))
    ]
    return Round(job, results, statuses, memory_mib(pid))


def _result(file: Hostile, video: dict[str, Any], client: Any, poster: str) -> VideoResult:
    assert video["video_id"] == file.video_id
    picture = client.get(poster)
    content = picture.content if picture.status_code == 200 else b""
    return VideoResult(file, video["error"], video["duration"] or 0.0, content, json.dumps(video))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Outcome of the rounds in the gate."""
    return play(tmp_path_factory.mktemp("hostile"), ROUNDS_IN_THE_GATE)


def test_each_file_has_its_own_error_or_is_a_readable_video(outcome: Outcome) -> None:
    assert len(CORPUS) >= 45
    assert {result.file.video_id: result.error for result in outcome.results if not result.is_expected} == {}


def test_no_error_comes_from_a_bug_of_the_program(outcome: Outcome) -> None:
    for result in outcome.results:
        sentence = result.error or ""
        assert not any(word in sentence for word in ("broke", "Traceback", "had a problem", "answered with"))
        assert sentence.isprintable()


def test_every_file_is_finished_within_the_limit(outcome: Outcome) -> None:
    longest = max(outcome.results, key=lambda result: result.seconds)
    assert longest.file.video_id == "bomb"
    assert TIMEOUT_SECONDS <= longest.seconds <= TIMEOUT_SECONDS + SPARE_SECONDS


def test_nothing_outside_the_media_directory_is_read(outcome: Outcome) -> None:
    assert not outcome.pipe_was_opened
    assert outcome.read_files == []
    assert [result.file.video_id for result in outcome.results if MARK in result.answer] == []
    assert {result.file.video_id for result in outcome.results if result.poster} == {
        file.video_id for file in CORPUS if file.words == SOUND
    }


def test_no_connection_is_opened(outcome: Outcome) -> None:
    assert outcome.connections == 0


def test_damaged_files_pause_no_job(outcome: Outcome) -> None:
    for round_ in outcome.rounds:
        assert round_.job["status"] == "completed_with_errors"
        assert "paused" not in round_.statuses
        assert round_.job["trouble"] is None


def test_the_servers_memory_does_not_grow(outcome: Outcome) -> None:
    print(f"the server's memory grew by {outcome.growth_mib:.1f} MiB over {len(CORPUS)} files")
    assert outcome.growth_mib < MAX_GROWTH_MIB


def test_the_trap_and_the_guard_notice_each_access(tmp_path: Path) -> None:
    """A read of the files, an open pipe and a connection are noticed: the tests above depend on it."""
    with Trap() as trap:
        guard = Guard(Workshop.open(tmp_path / "outside", trap.address))
        with guard.watching():
            guard.workshop.clip.read_bytes()
            guard.workshop.text.read_bytes()
            with guard.workshop.pipe.open("rb"):  # returns when the guard has opened the other end
                pass
        host, _, port = trap.address.partition(":")
        socket.create_connection((host, int(port))).close()
        assert trap.count() == 1
    assert guard.pipe_was_opened
    assert guard.read_files == ["secret.txt", "secret.mkv"]


def main(rounds: int = ROUNDS_IN_THE_GATE + 1) -> None:
    """Print the error of each file, and the figures; exit with 1 if an error is not the expected one."""
    with tempfile.TemporaryDirectory() as directory:
        outcome = play(Path(directory), rounds)
    for result in outcome.rounds[-1].results:
        remark = "" if result.is_expected else "  UNEXPECTED"
        print(f"{result.file.video_id:22} {result.seconds:6.2f} s  {result.error or 'completes'}{remark}")
    print(f"{len(CORPUS)} files, {rounds} rounds; connections and datagrams: {outcome.connections}")
    print(f"pipe outside opened: {outcome.pipe_was_opened}; files outside read: {outcome.read_files or 'none'}")
    memory = ", ".join(f"{round_.memory_mib:.1f}" for round_ in outcome.rounds)
    print(f"the server's memory after each round: {memory} MiB; grown by {outcome.growth_mib:.1f} MiB")
    sys.exit(not all(result.is_expected for result in outcome.results))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
