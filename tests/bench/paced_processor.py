"""A processor that only lets time pass, in steps whose moments it logs, and the plug-in that adds it to a server.

More of its videos than the machine has processors run at once without slowing each other down.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backend.processors import Processor, Step, VideoFile


class Options(BaseModel, extra="forbid"):
    """The options: the path of the log, how long a video takes, and in how many steps of one percent."""

    log: str
    seconds: float = 0.0
    steps: int = 0


def _log(path: str, word: str, file: VideoFile) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    job_id, position = file.output.parts[-2:]
    os.write(descriptor, f"{word} {job_id} {position} {time.monotonic()}\n".encode())
    os.close(descriptor)


def _run(file: VideoFile, options: Options) -> Generator[Step, None, dict[str, Any]]:
    _log(options.log, "start", file)
    for percent in range(1, options.steps + 1):
        time.sleep(options.seconds / options.steps)
        _log(options.log, f"step{percent}", file)
        yield Step(percent / 100, "working")
    if not options.steps:
        time.sleep(options.seconds)
    _log(options.log, "end", file)
    return {}


PACED = Processor("paced", "lets time pass", Options, _run)


def install_plug_in(directory: Path) -> Path:
    """Create the files of an installed package with this processor, for PYTHONPATH."""
    about = directory / "paced_processor-1.0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: paced-processor\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[dashboard.processors]\npaced = tests.bench.paced_processor:PACED\n")
    return directory


@dataclass(frozen=True)
class Moment:
    """A line of the log: what happened to a video of a job, and when (monotonic)."""

    word: str
    job_id: str
    position: int
    at: float


def moments(path: Path, job_id: str) -> list[Moment]:
    """Return all that happened to the videos of this job, in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    fields = (line.split() for line in lines)
    return [Moment(word, job, int(position), float(at)) for word, job, position, at in fields if job == job_id]
