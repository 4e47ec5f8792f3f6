"""A processor that logs each start and end of its work, and the plug-in that adds it to a server."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backend.processors import Processor, Step, VideoFile, load

TIMEOUT_SECONDS = 60
POLL_SECONDS = 0.005
GATE_SECONDS = 0.01


class Options(BaseModel, extra="forbid"):
    """The options: the path of the log, a gate directory, and the ID of a greedy video.

    The work on a video begins when a file with its ID is in the gate directory. The greedy video needs too much memory.
    """

    log: str
    gate: str | None = None
    greedy: str | None = None


def _log(path: str, word: str, file: VideoFile) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    job_id, position = file.output.parts[-2:]
    os.write(descriptor, f"{word} {file.path.stem} {job_id} {position} {os.getpid()} {os.getppid()}\n".encode())
    os.close(descriptor)


def _run(file: VideoFile, options: Options) -> Generator[Step, None, dict[str, Any]]:
    probe = load("probe")
    _log(options.log, "start", file)
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
    """One line of the log: the work on a video starts or has ended, in the process `pid` of the parent `starter`."""

    word: str
    video_id: str
    job_id: str
    position: int
    pid: int
    starter: int

    @property
    def video(self) -> tuple[str, int]:
        """The job and the position of the video, because lists may have the same IDs."""
        return self.job_id, self.position


class StartLog:
    """The log of the processor, read in the test."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def starts(self) -> list[LogEntry]:
        """Return all starts so far, in order."""
        return self._entries("start")

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
    word, video_id, job_id, position, pid, starter = line.split()
    return LogEntry(word, video_id, job_id, int(position), int(pid), int(starter))
