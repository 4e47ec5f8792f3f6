"""A processor that logs each start and end of its work, and the plug-in that adds it to a server.

Each process of a video holds a lock of the system from its first to its last moment, so that another process that works
on the same video at the same time finds out, on whichever of the machines of a test it runs, and logs that.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backend.processors import Processor, Step, VideoFile, load
from tests.support.processes import process_info

TIMEOUT_SECONDS = 60
POLL_SECONDS = 0.005
GATE_SECONDS = 0.01


class Options(BaseModel, extra="forbid"):
    """The options: the path of the log, a gate directory, and the ID of a greedy video.

    The work on a video begins when a file with its ID is in the gate directory. The greedy video needs too much memory.
    Each video takes up to `seconds` longer, some half of it, others all of it.
    """

    log: str
    gate: str | None = None
    greedy: str | None = None
    seconds: float = 0.0


def _log(path: str, word: str, file: VideoFile) -> None:
    me = process_info(os.getpid())
    assert me is not None
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    job_id, position = file.output.parts[-2:]
    facts = (word, file.path.stem, job_id, position, me.pid, me.parent, me.since, time.monotonic())
    os.write(descriptor, f"{' '.join(map(str, facts))}\n".encode())
    os.close(descriptor)


def _lock(path: str, file: VideoFile) -> bool:
    """Lock the video for the rest of this process's life; False if another process has it."""
    job_id, position = file.output.parts[-2:]
    lock = os.open(f"{path}.{job_id}.{position}.lock", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _waiting(seconds: float) -> Iterator[Step]:
    """Take between half and all of this time, which depends on the process."""
    end = time.monotonic() + seconds * (1 + os.getpid() % 8 / 7) / 2
    while time.monotonic() < end:
        yield Step(0.0, "waiting")
        time.sleep(GATE_SECONDS)


def _run(file: VideoFile, options: Options) -> Generator[Step, None, dict[str, Any]]:
    probe = load("probe")
    if not _lock(options.log, file):
        _log(options.log, "overlap", file)
    _log(options.log, "start", file)
    yield from _waiting(options.seconds)
    while options.gate and not Path(options.gate, file.path.stem).exists():
        yield Step(0.0, "waiting")
        time.sleep(GATE_SECONDS)
    if options.greedy == file.path.stem:
        bytearray(2**40)
    result = yield from probe.run(file, probe.options())
    _log(options.log, "end", file)
    return result


LOGGED = Processor("logged", "the probe, with a log of its starts", Options, _run)


def install_plug_in(directory: Path) -> Path:
    """Create the files of an installed package with this processor, for PYTHONPATH."""
    about = directory / "logged_processor-1.0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: logged-processor\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[dashboard.processors]\nlogged = tests.support.logging_processor:LOGGED\n")
    return directory


@dataclass(frozen=True)
class LogEntry:
    """One line of the log: the work on a video starts or has ended, in the process `pid` of the parent `starter`.

    `since` is when the process began, as the system counts, and `at` the moment of the line (monotonic).
    """

    word: str
    video_id: str
    job_id: str
    position: int
    pid: int
    starter: int
    since: int
    at: float

    @property
    def video(self) -> tuple[str, int]:
        """The job and the position of the video, because lists may have the same IDs."""
        return self.job_id, self.position

    @property
    def is_alive(self) -> bool:
        """True while this process can still do anything; one that is only not reaped cannot."""
        process = process_info(self.pid)
        return process is not None and process.since == self.since and not process.is_dead


class StartLog:
    """The log of the processor, read in the test."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def starts(self) -> list[LogEntry]:
        """Return all starts so far, in order."""
        return self._entries("start")

    def at_work(self, job_id: str | None = None) -> list[LogEntry]:
        """Return the starts of the processes that are alive, of this job or of all."""
        return [start for start in self.starts() if job_id in (None, start.job_id) and start.is_alive]

    def overlaps(self) -> list[LogEntry]:
        """Return the starts at which another process worked on the same video."""
        return self._entries("overlap")

    def started(self) -> list[str]:
        """Return the video IDs in the order of their starts."""
        return [entry.video_id for entry in self.starts()]

    def until_started(self, number: int) -> list[LogEntry]:
        """Return the starts as soon as there are this many."""
        return self._until("start", number)

    def until_ended(self, number: int) -> None:
        """Return when the work on this number of videos has ended."""
        self._until("end", number)

    def _until(self, word: str, number: int) -> list[LogEntry]:
        end = time.monotonic() + TIMEOUT_SECONDS
        while len(entries := self._entries(word)) < number:
            assert time.monotonic() < end, f"only {entries} of {number}: {word}"
            time.sleep(POLL_SECONDS)  # a file has no event for its growth
        return entries

    def _entries(self, word: str) -> list[LogEntry]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [_parsed(line) for line in lines if line.startswith(f"{word} ")]


def _parsed(line: str) -> LogEntry:
    word, video_id, job_id, position, pid, starter, since, at = line.split()
    return LogEntry(word, video_id, job_id, int(position), int(pid), int(starter), int(since), float(at))
