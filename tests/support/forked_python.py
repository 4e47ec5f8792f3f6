"""Python programs that begin at once: forked from one process per test run, which has loaded what they import.

Four fifths of a start of the program load libraries. What happens after that is the same in a forked process: its own
arguments, environment, directory and streams, and the same signals end it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import IO

PRELOADED = "tests.support.loaded_program"
NEW_MOUNTS, PRIVATE = 0x20000, 0x44000  # CLONE_NEWNS; MS_REC | MS_PRIVATE
MEASURING = "COVERAGE_"  # the beginning of the variables that let coverage trace a new process


class ForkedPython:
    """Has what is used of `subprocess.Popen`. `arguments` are those of `python`: a file, or `-m` and a module."""

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], own_mounts: bool = False
    ) -> None:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        self._process = _started({1: sender, 2: sender}, arguments, cwd, env, own_mounts=own_mounts)
        sender.close()
        self.stdout: IO[str] = open(os.dup(receiver.fileno()), encoding="utf-8")  # noqa: SIM115  the caller closes it
        receiver.close()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Return the exit code. Raises `subprocess.TimeoutExpired`."""
        return _exit_code(self._process, timeout)

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, number: int) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)


def run_forked(
    arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: str | None, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Return what the program printed when it has exited. Raises `subprocess.TimeoutExpired`."""
    with (
        tempfile.TemporaryFile("w+") as given,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        given.write(stdin or "")
        given.seek(0)
        streams = {number: Connection(os.dup(file.fileno())) for number, file in enumerate((given, out, err))}
        process = _started(streams, arguments, cwd, env)
        for stream in streams.values():
            stream.close()
        try:
            code = _exit_code(process, timeout)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(arguments, code, out.read(), err.read())


def _started(
    streams: Mapping[int, Connection],
    arguments: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    *,
    own_mounts: bool = False,
) -> ForkServerProcess:
    given = (streams, list(arguments), str(cwd), dict(env), own_mounts)
    process = _context().Process(target=_run, args=given, daemon=True)
    process.start()
    return process


def _exit_code(process: ForkServerProcess, timeout: float) -> int:
    process.join(timeout)
    if process.exitcode is None:
        raise subprocess.TimeoutExpired("a forked program", timeout)
    return process.exitcode


def _context() -> ForkServerContext:
    """Return the context of the one process that forks, which is started without tracing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    measured = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(MEASURING)}
    try:
        forkserver.ensure_running()
    finally:
        os.environ.update(measured)
    return context


def _run(
    streams: Mapping[int, Connection],
    arguments: list[str],
    directory: str,
    environment: Mapping[str, str],
    own_mounts: bool,
) -> None:
    if own_mounts:
        _leave_mounts()
    for number, stream in streams.items():
        os.dup2(stream.fileno(), number)
    for stream in streams.values():
        stream.close()
    if 0 in streams:
        sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115  this and the next ones are open until the program exits
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


def _leave_mounts() -> None:
    """Do what `unshare --mount` does."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_MOUNTS) or libc.mount(b"none", b"/", None, PRIVATE, None):
        raise OSError(ctypes.get_errno(), "no mounts of its own")
