"""Debian's ffmpeg and ffprobe: a second opinion on videos, from another build of another version."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

MISSING = "needs {}: install Debian's package ffmpeg (apt-get install ffmpeg)"
SHOW = ("-v", "error", "-threads", "1", "-count_frames", "-show_streams", "-show_format", "-of", "json")
TIMEOUT_SECONDS = 60

Facts = dict[str, str | int | float | None]


def run_tool(tool: str, *arguments: str, directory: Path) -> str:
    """Run ffmpeg or ffprobe in a directory and return its output. Skips the test where it is not installed."""
    if shutil.which(tool) is None:
        pytest.skip(MISSING.format(tool))
    done = subprocess.run(
        [tool, *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
    )
    assert done.returncode == 0, f"{tool} {shlex.join(arguments)}\n{done.stderr}"
    return done.stdout


def ffprobe(path: Path) -> str:
    """Return all that ffprobe says of a file, its frames counted by decoding them, as JSON."""
    return run_tool("ffprobe", *SHOW, path.name, directory=path.parent)


def facts_of(answer: str, film: int, sound: int) -> Facts:
    """Return the facts in an answer of ffprobe, of the film and the sound at these places among their kinds."""
    told = json.loads(answer)
    pictures = [track for track in _tracks(told, "video") if not track["disposition"]["attached_pic"]][film]
    sounds = _tracks(told, "audio")
    seconds = told["format"].get("duration")
    facts: Facts = {
        "container": told["format"]["format_name"],
        "pixels": f"{pictures['width']} × {pictures['height']}",
        "codec": pictures["codec_name"],
        "frames/s": _rate(pictures["avg_frame_rate"]),
        "frames": int(pictures.get("nb_read_frames", 0)),
        "seconds": round(float(seconds), 3) if seconds is not None else None,
    }
    return facts | (_sound(sounds[sound]) if sounds else {"sound": None})


def _tracks(told: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [track for track in told["streams"] if track["codec_type"] == kind]


def _rate(ratio: str) -> float | None:
    """Return the rate as a number: `0/0` is ffprobe's way to say that it does not know."""
    return None if ratio.endswith("/0") else round(float(Fraction(ratio)), 3)


def _sound(track: dict[str, Any]) -> Facts:
    return {"sound": track["codec_name"], "channels": track["channels"], "Hz": int(track["sample_rate"])}
