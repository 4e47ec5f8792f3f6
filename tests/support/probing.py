"""Runs the processor `probe` in this process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from backend.errors import VideoFailed
from backend.processors import VideoFile, load


def steps_and_result(path: Path, **options: Any) -> tuple[list[float], dict[str, Any]]:
    """Run `probe` on this file, and return the fractions of its steps and its result. The poster lies beside it."""
    processor = load("probe")
    steps = processor.run(VideoFile(path, path.parent, path.parent), processor.options(**options))
    fractions = []
    while True:
        try:
            fractions.append(next(steps).fraction)
        except StopIteration as end:
            return fractions, end.value


def probe(path: Path, **options: Any) -> dict[str, Any]:
    """Run `probe` on this file, and return its result."""
    return steps_and_result(path, **options)[1]


def said_of(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the sentence that `probe` fails with on this file ("" if it completes), and its result."""
    processor = load("probe")
    with tempfile.TemporaryDirectory() as output:
        steps = processor.run(VideoFile(path, path.parent, Path(output)), processor.options())
        try:
            while True:
                next(steps)
        except StopIteration as end:
            return "", end.value
        except VideoFailed as failure:
            return failure.sentence, {}
