"""The processes of a running server, seen from outside. Linux only: /proc is read."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

FORK_SERVER = b"backend.processors.forkserver"
LOOK_SECONDS = 0.002


@dataclass(frozen=True)
class Seen:
    """A process at one moment; one that is dead but not buried counts as well."""

    pid: int
    parent: int
    session: int


def numbers() -> set[int]:
    """Of all processes of this machine."""
    return {int(name) for name in os.listdir("/proc") if name.isdecimal()}


def look_at(pid: int) -> Seen | None:
    """The process of this number; None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    _, parent, _, session, *_ = text.rpartition(")")[2].split()  # the name before it may hold anything
    return Seen(pid, int(parent), int(session))


def fork_server(server: int) -> int:
    """The process that forks those of the videos, of the server with this number."""
    for seen in filter(None, map(look_at, numbers())):
        if seen.parent == server and FORK_SERVER in Path(f"/proc/{seen.pid}/cmdline").read_bytes():
            return seen.pid
    raise ProcessLookupError(f"the server {server} has no fork server")


def buried_cpu_seconds(pid: int) -> float:
    """User and system time of the children of this process that it has buried."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


class VideoProcesses:
    """The processes of a server's videos: the fork server's children, and whatever runs in their sessions.

    It looks often and cheaply: a process that was once found to be none of them is not looked at again.
    """

    def __init__(self, server: int) -> None:
        self._fork_server = fork_server(server)
        self._ours: set[int] = set()
        self._others: set[int] = set()

    def look(self) -> set[int]:
        """Their numbers at this moment."""
        there = numbers()
        self._others &= there
        for seen in filter(None, map(look_at, sorted(there - self._ours - self._others))):
            is_ours = seen.parent == self._fork_server or seen.session in self._ours
            (self._ours if is_ours else self._others).add(seen.pid)
        self._ours &= there
        return set(self._ours)


@dataclass(frozen=True)
class Look:
    """How many processes there were, and when (perf_counter) the look began and ended."""

    began: float
    ended: float
    found: int


class Vigil:
    """Looks every 2 ms, in a thread, from entry to exit."""

    def __init__(self, processes: VideoProcesses) -> None:
        self._processes = processes
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self.looks: list[Look] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def finds_none(self) -> bool:
        """Whether the newest look found no process."""
        return bool(self.looks) and not self.looks[-1].found

    def gone_at(self) -> float:
        """When the first look ended of those that found none to the last, after the vigil."""
        first_empty = max((number + 1 for number, look in enumerate(self.looks) if look.found), default=0)
        return self.looks[first_empty].ended

    def found_after(self, moment: float) -> int:
        """Looks that began after this moment and found a process."""
        return sum(look.began >= moment and look.found > 0 for look in self.looks)

    def _keep(self) -> None:
        while not self._is_over.is_set():
            self._look()
            time.sleep(LOOK_SECONDS)  # a process that dies tells nobody but its parent
        self._look()

    def _look(self) -> None:
        began = time.perf_counter()
        found = len(self._processes.look())
        self.looks.append(Look(began, time.perf_counter(), found))
