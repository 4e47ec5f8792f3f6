"""Processors that misbehave, for tests of the processes that they run in. A `ChildRunner` gets them with `find`."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from backend.errors import Fault, VideoFailed
from backend.processors import Processor, Step, VideoFile

Work = Generator[Step, None, dict[str, Any]]
ENDLESS_SECONDS = 3600.0


class Options(BaseModel):
    model_config = ConfigDict(extra="allow")


def surroundings(file: VideoFile, options: Options) -> Work:
    """Return what an attacker in this process would find."""
    yield Step(0.5, "looking")
    with Path("/proc/self/environ").open() as stream:
        at_start = stream.read()
    descriptors = {number: os.readlink(f"/proc/self/fd/{number}") for number in range(1024) if _is_open(number)}
    return {"environment": dict(os.environ), "at_start": at_start, "descriptors": descriptors, "group": os.getpgrp()}


def _is_open(descriptor: int) -> bool:
    return Path(f"/proc/self/fd/{descriptor}").is_symlink()


def endless(file: VideoFile, options: Options) -> Work:
    """Write an unfinished file, report the process ID, and never end."""
    (file.output / "poster.jpg.part").write_text("half")
    yield Step(0.25, f"pid {os.getpid()}")
    time.sleep(ENDLESS_SECONDS)
    return {}


def stubborn(file: VideoFile, options: Options) -> Work:
    """Ignore SIGTERM, start another process, report both process IDs, and never end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    other = subprocess.Popen(["/bin/sleep", str(ENDLESS_SECONDS)])
    yield Step(0.25, f"pid {os.getpid()} {other.pid}")
    time.sleep(ENDLESS_SECONDS)
    return {}


def crashing(file: VideoFile, options: Options) -> Work:
    """Crash as a decoder does."""
    yield Step(0.1, "decoding")
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def killed(file: VideoFile, options: Options) -> Work:
    """Be killed, as by a system without memory."""
    yield Step(0.1, "decoding")
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def greedy(file: VideoFile, options: Options) -> Work:
    """Allocate more memory than the limit."""
    yield Step(0.1, "decoding")
    return {"length": len(bytearray(8 * 2**30))}


def overtaken(file: VideoFile, options: Options) -> Work:
    """Succeed while somebody else writes to the file."""
    yield Step(0.5, "reading")
    with file.path.open("ab") as stream:
        stream.write(b"more")
    return {"size": file.path.stat().st_size}


def replaced(file: VideoFile, options: Options) -> Work:
    """Fail for a file that is replaced meanwhile, as rsync does."""
    yield Step(0.5, "reading")
    other = file.path.with_name(".abc.mp4.x7Fq2")
    other.write_bytes(file.path.read_bytes())
    os.replace(other, file.path)
    raise VideoFailed("File is damaged.")


def failing(file: VideoFile, options: Options) -> Work:
    """Fail with a sentence."""
    yield Step(0.1, "decoding")
    raise VideoFailed("The video has no subtitles.")


def buggy(file: VideoFile, options: Options) -> Work:
    """Raise an error that is a bug of the processor."""
    yield Step(0.1, "decoding")
    raise KeyError("a bug in the processor")


def nonsense(file: VideoFile, options: Options) -> Work:
    """Write an invalid message to the server, as an attacker in this process could do."""
    yield Step(0.1, "decoding")
    for number in range(3, 20):
        if _is_open(number):
            os.write(number, b'{"type":"result","value":[1]}\n')
    time.sleep(ENDLESS_SECONDS)
    return {}


def hasty(file: VideoFile, options: Options) -> Work:
    """Yield a thousand steps as fast as possible."""
    for number in range(1000):
        yield Step(number / 1000, "running")
    return {"steps": 1000}


def fork_server(file: VideoFile, options: Options) -> Work:
    """Return the ID of the parent process."""
    yield Step(0.5, "looking")
    return {"pid": os.getppid()}


def deep(file: VideoFile, options: Options) -> Work:
    """Return a result that is nested too deeply."""
    yield Step(0.5, "digging")
    result: dict[str, Any] = {}
    for _ in range(200):
        result = {"deeper": result}
    return result


def busy(file: VideoFile, options: Options) -> Work:
    """Fail with a transient fault."""
    yield Step(0.1, "asking")
    raise VideoFailed("The service is busy.", fault=Fault.TRANSIENT)


def on_a_full_disk(file: VideoFile, options: Options) -> Work:
    """Write to a full disk."""
    yield Step(0.1, "writing")
    with Path("/dev/full").open("wb", buffering=0) as stream:
        stream.write(b"x")
    return {}


def oversized(file: VideoFile, options: Options) -> Work:
    """Write one file that never stops growing."""
    yield Step(0.1, "writing")
    with (file.output / "film.mp4.part").open("wb") as stream:
        while True:
            stream.write(bytes(2**20))
    return {}


def out_of_descriptors(file: VideoFile, options: Options) -> Work:
    """Open more files than a process may."""
    yield Step(0.1, "opening")
    while True:
        os.dup(2)
    return {}


def unanswered(file: VideoFile, options: Options) -> Work:
    """Wait for a service that does not answer."""
    yield Step(0.1, "asking")
    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def wordy(file: VideoFile, options: Options) -> Work:
    """Fail with a very long sentence."""
    yield Step(0.1, "talking")
    raise VideoFailed("and so on " * 100_000)


def unknown_fault(file: VideoFile, options: Options) -> Work:
    """Report a failure with an unknown fault, as an attacker in this process could do."""
    yield Step(0.1, "decoding")
    for number in range(3, 20):
        if _is_open(number):
            os.write(number, b'{"type":"failure","sentence":"","traceback":"","fault":"yours"}\n')
    time.sleep(ENDLESS_SECONDS)
    return {}


ALL: tuple[Callable[[VideoFile, Options], Work], ...] = (
    surroundings,
    endless,
    stubborn,
    crashing,
    killed,
    greedy,
    overtaken,
    replaced,
    failing,
    buggy,
    nonsense,
    hasty,
    fork_server,
    deep,
    busy,
    on_a_full_disk,
    oversized,
    out_of_descriptors,
    unanswered,
    wordy,
    unknown_fault,
)


def find(name: str) -> Processor:
    """Return the processor with the name of one of these functions."""
    run = next(work for work in ALL if work.__name__ == name)
    return Processor(name=name, summary=run.__doc__ or "", options=Options, run=run)
