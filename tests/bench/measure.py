"""What the benchmarks share: a process's CPU time and memory from the operating system, percentiles, lines of a table.

Linux only: CPU time is the process's own clock, memory is VmRSS.
"""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from math import ceil
from pathlib import Path

PROCESS_CLOCK = 2  # the scheduler's clock, as clock_getcpuclockid(3) makes it from a pid


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process, those that ended too."""
    return time.clock_gettime((~pid << 3) | PROCESS_CLOCK)


def memory_mib(pid: int) -> float:
    """What the process holds in RAM now."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def held_mib() -> float:
    """What this process holds in RAM once its allocator (glibc's) has given back what is free."""
    with suppress(AttributeError):  # another allocator
        ctypes.CDLL(None).malloc_trim(0)
    return memory_mib(os.getpid())


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that `percent` of the ordered values do not exceed; 0 when there are none."""
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


def load() -> str:
    """How busy the machine is, for the first line of a report."""
    return f"{os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.2f}"


def row(*cells: object, widths: Sequence[int]) -> None:
    """Print one line of a table; the first column to the left, the others to the right."""
    first, *others = map(str, cells)
    right = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
    print(f"{first:{widths[0]}}", *right, flush=True)


def allow_many_files() -> None:
    """Let this process and its children open as many sockets as the system permits."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
