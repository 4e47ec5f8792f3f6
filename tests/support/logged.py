"""A processor that writes down each start and end, and the plug-in directory that makes a server know it."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backend.processors import Processor, Step, VideoFile, load

WAIT_SECONDS = 60
POLL_SECONDS = 0.005


class Options(BaseModel, extra="forbid"):
    """Where to write it down."""

    log: str


def _note(log: str, word: str, file: VideoFile) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{word} {file.path.stem}\n".encode())
    os.close(descriptor)


def _run(file: VideoFile, options: Options) -> Generator[Step, None, dict[str, Any]]:
    probe = load("probe")
    _note(options.log, "start", file)
    result = yield from probe.run(file, probe.options())
    _note(options.log, "end", file)
    return result


LOGGED = Processor("logged", "the probe, with a log of its starts", Options, _run)


def install_plug_in(directory: Path) -> Path:
    """Lay out what an installed package with this processor looks like; for PYTHONPATH."""
    about = directory / "logged_processor-1.0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: logged-processor\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[dashboard.processors]\nlogged = tests.support.logged:LOGGED\n")
    return directory


class StartLog:
    """What the processor wrote, read from outside."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def started(self) -> list[str]:
        """Video IDs in the order of their starts."""
        return self._of("start")

    def until_ended(self, number: int) -> None:
        """Return when that many videos were worked through."""
        end = time.monotonic() + WAIT_SECONDS
        while len(self._of("end")) < number:
            assert time.monotonic() < end, f"only {self._of('end')} of {number} ended"
            time.sleep(POLL_SECONDS)  # a file tells nobody that it grew

    def _of(self, word: str) -> list[str]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [line.split()[1] for line in lines if line.startswith(f"{word} ")]
