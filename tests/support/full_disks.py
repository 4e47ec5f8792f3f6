"""Disks that are full: a small file system where this machine may mount one, else a file-size limit on the server.

Linux only.
"""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.support.servers import Program

MIB = 2**20
BLOCK_BYTES = 4096


@contextmanager
def small_file_system(path: Path, mib: int = 64) -> Iterator[Path]:
    """Mount a file system of that size at this path, and remove it afterwards."""
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@cache
def may_mount() -> bool:
    """Return True if this process may mount a file system."""
    with tempfile.TemporaryDirectory() as directory:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            return False
        subprocess.run(["umount", directory], check=True)
        return True


def fill(directory: Path) -> Callable[[], None]:
    """Fill this file system, and return the function that frees it again."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(BLOCK_BYTES)):
                continue
        except OSError:  # full, which is the point
            return filler.unlink
    raise AssertionError("a file that neither grows nor fails")


def limit_files(program: Program) -> Callable[[], None]:
    """Keep all files of the running server from growing, and return the function that lifts that again."""
    _, most = resource.prlimit(program.pid, resource.RLIMIT_FSIZE)
    log = program.data_dir / "dashboard.sqlite3-wal"
    resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, most))

    def lift() -> None:
        resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (most, most))

    return lift


def make_read_only(program: Program) -> Callable[[], None]:
    """Make the database of the running server read-only, and return the function that lifts that again.

    Without the right to mark files immutable, the files only cannot grow.
    """
    files = [program.data_dir / f"dashboard.sqlite3{suffix}" for suffix in ("", "-wal")]
    if subprocess.run(["chattr", "+i", *files], capture_output=True, check=False).returncode != 0:
        return limit_files(program)

    def lift() -> None:
        subprocess.run(["chattr", "-i", *files], check=True)

    return lift


def memory_mib(pid: int) -> float:
    """Return the memory that a process uses now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB
