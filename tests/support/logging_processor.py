"""A processor that writes down each start and end, and the plug-in directory that makes a server know it."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backend.processors import Processor, Step, VideoFile, load

WAIT_SECONDS = 60
POLL_SECONDS = 0.005
GATE_SECONDS = 0.01


class Options(BaseModel, extra="forbid"):
    """Where to write it down; a directory in which a file of its ID lets a video's work begin; which one is greedy.

    The greedy one asks for more memory than there is.
    """

    log: str
    gate: str | None = None
    greedy: str | None = None


def _note(log: str, word: str, file: VideoFile) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    job_id, position = file.output.parts[-2:]
    os.write(descriptor, f"{word} {file.path.stem} {job_id} {position} {os.getpid()} {os.getppid()}\n".encode())
    os.close(descriptor)


def _run(file: VideoFile, options: Options) -> Generator[Step, None, dict[str, Any]]:
    probe = load("probe")
    _note(options.log, "start", file)
    while options.gate and not Path(options.gate, file.path.stem).exists():
        yield Step(0.0, "waiting")
        time.sleep(GATE_SECONDS)
    if options.greedy == file.path.stem:
        bytearray(2**40)
    result = yield from probe.run(file, probe.options())
    _note(options.log, "end", file)
    return result


LOGGED = Processor("logged", "the probe, with a log of its starts", Options, _run)


def install_plug_in(directory: Path) -> Path:
    """Lay out what an installed package with this processor looks like; for PYTHONPATH."""
    about = directory / "logged_processor-1.0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: logged-processor\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[dashboard.processors]\nlogged = tests.support.logging_processor:LOGGED\n")
    return directory


@dataclass(frozen=True)
class Footer:
    """One line: a video of a job begins or has ended, in the process `pid`, which came from `starter`."""

    word: str
    video_id: str
    job_id: str
    position: int
    pid: int
    starter: int

    @property
    def video(self) -> tuple[str, int]:
        """The video by its job and position; lists may share IDs."""
        return self.job_id, self.position


class StartLog:
    """What the processor wrote, read from outside."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def starts(self) -> list[Footer]:
        """Every start so far, in order."""
        return self._of("start")

    def started(self) -> list[str]:
        """Video IDs in the order of their starts."""
        return [note.video_id for note in self.starts()]

    def until_started(self, number: int) -> list[Footer]:
        """That many starts, as soon as they are written."""
        return self._until("start", number)

    def until_ended(self, number: int) -> None:
        """Return when that many videos were worked through."""
        self._until("end", number)

    def _until(self, word: str, number: int) -> list[Footer]:
        end = time.monotonic() + WAIT_SECONDS
        while len(notes := self._of(word)) < number:
            assert time.monotonic() < end, f"only {notes} of {number}: {word}"
            time.sleep(POLL_SECONDS)  # a file tells nobody that it grew
        return notes

    def _of(self, word: str) -> list[Footer]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [_parsed(line) for line in lines if line.startswith(f"{word} ")]


def _parsed(line: str) -> Footer:
    word, video_id, job_id, position, pid, starter = line.split()
    return Footer(word, video_id, job_id, int(position), int(pid), int(starter))
