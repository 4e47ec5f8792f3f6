"""The processes of a running server, observed from outside. Linux only: it reads /proc."""

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
DEAD_STATES = "ZX"  # exited, but not reaped


@dataclass(frozen=True)
class ProcessInfo:
    """A process at one moment. A process that has exited but is not reaped counts as well."""

    pid: int
    parent: int
    session: int
    # When it began, in the system's ticks since its start: another process of the same ID has another moment.
    since: int
    is_dead: bool


def process_ids() -> set[int]:
    """Return the IDs of all processes on this machine."""
    return {int(name) for name in os.listdir("/proc") if name.isdecimal()}


def process_info(pid: int) -> ProcessInfo | None:
    """Return the process with this ID; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may contain anything
    state, parent, session, since = fields[0], fields[1], fields[3], fields[19]
    return ProcessInfo(pid, int(parent), int(session), int(since), state in DEAD_STATES)


def fork_server(server: int) -> int:
    """Return the ID of the process that forks the videos' processes of this server."""
    for process in filter(None, map(process_info, process_ids())):
        if process.parent == server and FORK_SERVER in Path(f"/proc/{process.pid}/cmdline").read_bytes():
            return process.pid
    raise ProcessLookupError(f"the server {server} has no fork server")


def reaped_cpu_seconds(pid: int) -> float:
    """Return the user and system time of the children that this process has reaped."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


class VideoProcesses:
    """Finds the processes of a server's videos: the fork server's children, and all processes in their sessions.

    A sample is cheap: a process that belongs to no video is read only once.
    """

    def __init__(self, server: int) -> None:
        self._fork_server = fork_server(server)
        self._ours: set[int] = set()
        self._others: set[int] = set()

    def sample(self) -> set[int]:
        """Return their IDs at this moment."""
        present = process_ids()
        self._others &= present
        for process in filter(None, map(process_info, sorted(present - self._ours - self._others))):
            is_ours = process.parent == self._fork_server or process.session in self._ours
            (self._ours if is_ours else self._others).add(process.pid)
        self._ours &= present
        return set(self._ours)


@dataclass(frozen=True)
class Sample:
    """The number of processes found, and when the sample began and ended (perf_counter)."""

    began: float
    ended: float
    found: int


class ProcessMonitor:
    """Looks for processes every 2 ms, in a thread, from entry to exit."""

    def __init__(self, processes: VideoProcesses) -> None:
        self._processes = processes
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self.samples: list[Sample] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def finds_none(self) -> bool:
        """Return True if the newest sample found no process."""
        return bool(self.samples) and not self.samples[-1].found

    def exited_at(self) -> float:
        """Return the end of the first sample after which no sample found a process. Call it after the exit."""
        first_empty = max((number + 1 for number, sample in enumerate(self.samples) if sample.found), default=0)
        return self.samples[first_empty].ended

    def found_after(self, moment: float) -> int:
        """Count the samples that began after this moment and found a process."""
        return sum(sample.began >= moment and sample.found > 0 for sample in self.samples)

    def _keep(self) -> None:
        while not self._is_over.is_set():
            self._look()
            time.sleep(LOOK_SECONDS)  # only the parent is notified of an exit
        self._look()

    def _look(self) -> None:
        began = time.perf_counter()
        found = len(self._processes.sample())
        self.samples.append(Sample(began, time.perf_counter(), found))
