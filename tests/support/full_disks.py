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
    """A file system of that size at this path, gone afterwards."""
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@cache
def may_mount() -> bool:
    """Whether this process may mount a file system."""
    with tempfile.TemporaryDirectory() as directory:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            return False
        subprocess.run(["umount", directory], check=True)
        return True


def fill(directory: Path) -> Callable[[], None]:
    """Take up all the room of this file system; the way to free it again."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(BLOCK_BYTES)):
                continue
        except OSError:  # full, which is the point
            return filler.unlink
    raise AssertionError("a file that takes nothing and says nothing")


def limit_files(program: Program) -> Callable[[], None]:
    """Let no file of the running server grow, not even its write-ahead log; the way to lift that again."""
    _, most = resource.prlimit(program.pid, resource.RLIMIT_FSIZE)
    log = program.data_dir / "dashboard.sqlite3-wal"
    resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, most))

    def lift() -> None:
        resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (most, most))

    return lift


def make_read_only(program: Program) -> Callable[[], None]:
    """Let nobody write the database of the running server, nor open it for writing; the way to lift that again.

    Without the right to mark files immutable, its files only cannot grow.
    """
    files = [program.data_dir / f"dashboard.sqlite3{suffix}" for suffix in ("", "-wal")]
    if subprocess.run(["chattr", "+i", *files], capture_output=True, check=False).returncode != 0:
        return limit_files(program)

    def lift() -> None:
        subprocess.run(["chattr", "-i", *files], check=True)

    return lift


def memory_mib(pid: int) -> float:
    """The memory that a process has in use now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB
