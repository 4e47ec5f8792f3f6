"""Files that are malformed or mean harm, through the real program: each ends in its own words, and nothing leaks.

In the gate the corpus runs twice, the first time as a warm-up; `python -m tests.acceptance.test_hostile_files [rounds]`
prints what is said of each file and the figures.
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

from tests.support.hostile_files import CORPUS, MARK, SOUND, Hostile, Workshop
from tests.support.servers import api, running, token
from tests.support.watchers import ENDS, Watcher

ROUNDS_IN_THE_GATE = 2
TIMEOUT_SECONDS, MEMORY_MIB = 3, 512
SPARE_SECONDS = 3.0  # that a video may take beyond its limit, to be ended and noticed on a busy machine
MOST_GROWTH_MIB = 20.0
LOOK_EVERY_SECONDS = 0.005
LONG_AGO = 1_000_000_000  # seconds since 1970


class Trap:
    """Listens where the files point to, and counts who comes."""

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
        """How many connections and datagrams have come in so far; the kernel kept them for us."""
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
    """Notices whoever opens the pipe outside the media directory, or reads the files there."""

    workshop: Workshop
    pipe_was_opened: bool = False
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[Self]:
        for path in self._files:
            os.utime(path, (LONG_AGO, LONG_AGO + 1))  # read before it was changed: even "relatime" notes the next time
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_EVERY_SECONDS):
            self.pipe_was_opened |= self.workshop.is_pipe_open

    @property
    def _files(self) -> tuple[Path, ...]:
        return (self.workshop.text, self.workshop.clip)

    @property
    def were_read(self) -> list[str]:
        """The names of the files that somebody read."""
        return [path.name for path in self._files if path.stat().st_atime != LONG_AGO]


@dataclass(frozen=True)
class Ending:
    """What the API says of one file's video."""

    file: Hostile
    error: str | None
    seconds: float
    poster: bytes
    everything: str

    @property
    def is_as_told(self) -> bool:
        return self.file.is_described_by(self.error)


@dataclass
class Round:
    """One job with the whole corpus."""

    job: dict[str, Any]
    endings: list[Ending]
    statuses: set[str]
    resident_mib: float


@dataclass
class Account:
    """All that happened."""

    rounds: list[Round]
    connections: int
    pipe_was_opened: bool
    were_read: list[str]

    @property
    def endings(self) -> list[Ending]:
        return [ending for one in self.rounds for ending in one.endings]

    @property
    def growth_mib(self) -> float:
        """Of the server's memory over the rounds behind the first."""
        return self.rounds[-1].resident_mib - self.rounds[0].resident_mib


def play(home: Path, rounds: int) -> Account:
    """Run the corpus that often through a server."""
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
        return Account(played, trap.count(), guard.pipe_was_opened, guard.were_read)


def _round(pid: int, watcher: Watcher, client: Any) -> Round:
    answer = client.post("/api/jobs", json={"video_ids": [file.video_id for file in CORPUS]})
    assert answer.status_code == 201, answer.text
    job_id = answer.json()["job_id"]
    watcher.until_status(job_id, *ENDS, "paused")
    statuses = {update["status"] for update in watcher.updates if update["job_id"] == job_id}
    job = client.get(f"/api/jobs/{job_id}").json()
    videos = client.get(f"/api/jobs/{job_id}/videos", params={"limit": 1000}).json()["items"]
    endings = [
        _ending(file, video, client, f"/api/jobs/{job_id}/videos/{place}/poster")
        for place, (file, video) in enumerate(zip(CORPUS, videos, strict=True))
    ]
    return Round(job, endings, statuses, _resident_mib(pid))


def _ending(file: Hostile, video: dict[str, Any], client: Any, poster: str) -> Ending:
    assert video["video_id"] == file.video_id
    picture = client.get(poster)
    content = picture.content if picture.status_code == 200 else b""
    return Ending(file, video["error"], video["duration"] or 0.0, content, json.dumps(video))


def _resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Account:
    return play(tmp_path_factory.mktemp("hostile"), ROUNDS_IN_THE_GATE)


def test_each_file_fails_in_its_own_words_or_is_a_video_in_truth(account: Account) -> None:
    assert len(CORPUS) >= 45
    assert {ending.file.video_id: ending.error for ending in account.endings if not ending.is_as_told} == {}


def test_no_error_is_the_programs_own(account: Account) -> None:
    for ending in account.endings:
        sentence = ending.error or ""
        assert not any(word in sentence for word in ("broke", "Traceback", "had a problem", "answered with"))
        assert sentence.isprintable()


def test_every_file_ends_within_the_limit(account: Account) -> None:
    longest = max(account.endings, key=lambda ending: ending.seconds)
    assert longest.file.video_id == "bomb"
    assert TIMEOUT_SECONDS <= longest.seconds <= TIMEOUT_SECONDS + SPARE_SECONDS


def test_nothing_outside_the_media_directory_is_read(account: Account) -> None:
    assert not account.pipe_was_opened
    assert account.were_read == []
    assert [ending.file.video_id for ending in account.endings if MARK in ending.everything] == []
    assert {ending.file.video_id for ending in account.endings if ending.poster} == {
        file.video_id for file in CORPUS if file.words == SOUND
    }


def test_no_connection_is_opened(account: Account) -> None:
    assert account.connections == 0


def test_no_job_is_paused_by_broken_files(account: Account) -> None:
    for one in account.rounds:
        assert one.job["status"] == "completed_with_errors"
        assert "paused" not in one.statuses
        assert one.job["trouble"] is None


def test_the_servers_memory_does_not_grow_with_them(account: Account) -> None:
    print(f"the server's memory grew by {account.growth_mib:.1f} MiB over {len(CORPUS)} files")
    assert account.growth_mib < MOST_GROWTH_MIB


def test_the_guards_notice_what_they_guard_against(tmp_path: Path) -> None:
    """Whoever reads the files, opens the pipe or connects is seen: what the tests above count on."""
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
    assert guard.were_read == ["secret.txt", "secret.mkv"]


def main(rounds: int = ROUNDS_IN_THE_GATE + 1) -> None:
    """Print what is said of each file, and the figures; exits with 1 if one is not as told."""
    with tempfile.TemporaryDirectory() as directory:
        account = play(Path(directory), rounds)
    for ending in account.rounds[-1].endings:
        told = "" if ending.is_as_told else "  NOT AS TOLD"
        print(f"{ending.file.video_id:22} {ending.seconds:6.2f} s  {ending.error or 'completes'}{told}")
    print(f"{len(CORPUS)} files, {rounds} rounds; connections and datagrams: {account.connections}")
    print(f"pipe outside opened: {account.pipe_was_opened}; files outside read: {account.were_read or 'none'}")
    resident = ", ".join(f"{one.resident_mib:.1f}" for one in account.rounds)
    print(f"the server's memory after each round: {resident} MiB; grown by {account.growth_mib:.1f} MiB")
    sys.exit(not all(ending.is_as_told for ending in account.endings))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
