"""Measurements and output of the benchmarks: CPU time and memory of a process, percentiles, lines of a table.

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
    """Return the user and system time of all threads of a process, with those that have ended."""
    return time.clock_gettime((~pid << 3) | PROCESS_CLOCK)


def memory_mib(pid: int) -> float:
    """Return the memory that a process uses now."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def held_mib() -> float:
    """Return the memory that this process uses after its allocator (glibc's) has released what is free."""
    with suppress(AttributeError):  # another allocator
        ctypes.CDLL(None).malloc_trim(0)
    return memory_mib(os.getpid())


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of the ordered values do not exceed; 0 if there are no values."""
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


def load() -> str:
    """Return how busy the machine is, for the first line of a report."""
    return f"{os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.2f}"


def row(*cells: object, widths: Sequence[int]) -> None:
    """Print one line of a table, with the first column aligned left and the others right."""
    first, *others = map(str, cells)
    right = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
    print(f"{first:{widths[0]}}", *right, flush=True)


def allow_many_files() -> None:
    """Let this process and its children open as many sockets as the system permits."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
