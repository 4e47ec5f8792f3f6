"""A processor that leaves an unfinished file and may be deaf to SIGTERM, and its plug-in for a server."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backend.processors import Processor, Step, VideoFile, load


class Options(BaseModel, extra="forbid"):
    """Deaf: it decodes for ever, says nothing, and ignores a polite end."""

    deaf: bool = False


def _run(file: VideoFile, options: Options) -> Generator[Step, None, dict[str, Any]]:
    part = file.output / "work.part"
    part.write_bytes(b"half")
    probe = load("probe")
    if options.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:  # without a word, because telling a step would show that nobody listens any more
            deque(probe.run(file, probe.options()), maxlen=0)
    result = yield from probe.run(file, probe.options())
    part.rename(file.output / "work")
    return result


UNFINISHED = Processor("unfinished", "the probe, with a file that is whole only at the end", Options, _run)


def install_plug_in(directory: Path) -> Path:
    """Lay out what an installed package with this processor looks like; for PYTHONPATH."""
    about = directory / "unfinished_processor-1.0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: unfinished-processor\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[dashboard.processors]\nunfinished = tests.support.unfinished_output:UNFINISHED\n"
    )
    return directory
