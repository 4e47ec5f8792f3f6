"""A processor that leaves an unfinished file and may ignore SIGTERM, and the plug-in that adds it to a server."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backend.processors import Processor, Step, VideoFile, load


class Options(BaseModel, extra="forbid"):
    """The options: with `deaf` it decodes forever, sends nothing, and ignores SIGTERM."""

    deaf: bool = False


def _run(file: VideoFile, options: Options) -> Generator[Step, None, dict[str, Any]]:
    part = file.output / "work.part"
    part.write_bytes(b"half")
    probe = load("probe")
    if options.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:  # it sends no step, because that would show that the server does not listen any more
            deque(probe.run(file, probe.options()), maxlen=0)
    result = yield from probe.run(file, probe.options())
    part.rename(file.output / "work")
    return result


UNFINISHED = Processor("unfinished", "the probe, with a file that is complete only at the end", Options, _run)


def install_plug_in(directory: Path) -> Path:
    """Create the files of an installed package with this processor, for PYTHONPATH."""
    about = directory / "unfinished_processor-1.0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: unfinished-processor\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[dashboard.processors]\nunfinished = tests.support.unfinished_output:UNFINISHED\n"
    )
    return directory
