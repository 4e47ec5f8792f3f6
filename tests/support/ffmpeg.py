"""Debian's ffmpeg: it makes clips that PyAV cannot make, and counts pictures independently of the program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HOW_TO_GET = "ffmpeg is not installed (apt-get install ffmpeg)"
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason=HOW_TO_GET)
SECONDS = 120
SIZE, RATE = "160x120", 25


def ffmpeg(*arguments: object) -> None:
    """Run ffmpeg with these arguments. Files that exist are overwritten."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *(str(argument) for argument in arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)


def source(seconds: float, *, size: str = SIZE, rate: float = RATE) -> list[str]:
    """Return the arguments for a moving pattern and a tone as the two inputs."""
    pattern = f"testsrc2=size={size}:rate={rate}:duration={seconds}"
    return ["-f", "lavfi", "-i", pattern, "-f", "lavfi", "-i", f"sine=440:duration={seconds}"]


def film(path: Path, seconds: float = 5, *, key_every: int = 25) -> Path:
    """Write an H.264 film with sound, in the format of the path's extension."""
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", key_every, "-c:a", "aac"]
    ffmpeg(*source(seconds), *codecs, path)
    return path


def copied(original: Path, path: Path, *options: object) -> Path:
    """Copy the tracks of a film into another file, with these options."""
    ffmpeg("-i", original, "-c", "copy", *options, path)
    return path


def has_sound(path: Path) -> bool:
    """Return True if ffmpeg finds a track of sound in the file."""
    command = ["ffmpeg", "-v", "info", "-nostdin", "-i", str(path)]
    run = subprocess.run(command, check=False, capture_output=True, timeout=SECONDS)
    return b"Audio: " in run.stderr


def pictures(path: Path) -> int:
    """Return how many pictures of the first track ffmpeg decodes; 0 if it cannot open the file."""
    command = ["ffmpeg", "-v", "quiet", "-nostdin", "-threads", "1", "-i", str(path), "-map", "0:v:0"]
    output = ["-vsync", "passthrough", "-progress", "-", "-f", "null", "-"]
    run = subprocess.run([*command, *output], check=False, capture_output=True, text=True, timeout=SECONDS)
    counts = [line.removeprefix("frame=") for line in run.stdout.splitlines() if line.startswith("frame=")]
    return int(counts[-1]) if counts else 0
