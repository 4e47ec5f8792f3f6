"""Processors for tests of the processes that they run in; `find` is what a `ChildRunner` is given."""

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
FOR_EVER = 3600.0


class Options(BaseModel):
    model_config = ConfigDict(extra="allow")


def surroundings(file: VideoFile, options: Options) -> Work:
    """Everything that a break-in would find."""
    yield Step(0.5, "looking")
    with Path("/proc/self/environ").open() as stream:
        at_start = stream.read()
    descriptors = {number: os.readlink(f"/proc/self/fd/{number}") for number in range(1024) if _is_open(number)}
    return {"environment": dict(os.environ), "at_start": at_start, "descriptors": descriptors, "group": os.getpgrp()}


def _is_open(descriptor: int) -> bool:
    return Path(f"/proc/self/fd/{descriptor}").is_symlink()


def endless(file: VideoFile, options: Options) -> Work:
    """Never ends by itself; writes its process number and an unfinished file first."""
    (file.output / "poster.jpg.part").write_text("half")
    yield Step(0.25, f"pid {os.getpid()}")
    time.sleep(FOR_EVER)
    return {}


def stubborn(file: VideoFile, options: Options) -> Work:
    """The same, deaf to a polite end, with a process of its own."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    other = subprocess.Popen(["/bin/sleep", str(FOR_EVER)])
    yield Step(0.25, f"pid {os.getpid()} {other.pid}")
    time.sleep(FOR_EVER)
    return {}


def crashing(file: VideoFile, options: Options) -> Work:
    yield Step(0.1, "decoding")
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def killed(file: VideoFile, options: Options) -> Work:
    yield Step(0.1, "decoding")
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def greedy(file: VideoFile, options: Options) -> Work:
    yield Step(0.1, "decoding")
    return {"length": len(bytearray(8 * 2**30))}


def failing(file: VideoFile, options: Options) -> Work:
    yield Step(0.1, "decoding")
    raise VideoFailed("This one is not to my taste.")


def broken(file: VideoFile, options: Options) -> Work:
    yield Step(0.1, "decoding")
    raise KeyError("a mistake in the processor")


def nonsense(file: VideoFile, options: Options) -> Work:
    """What a taken-over process might do: write to the server what is no report."""
    yield Step(0.1, "decoding")
    for number in range(3, 20):
        if _is_open(number):
            os.write(number, b'{"type":"result","value":[1]}\n')
    time.sleep(FOR_EVER)
    return {}


def hasty(file: VideoFile, options: Options) -> Work:
    """A thousand steps as fast as they go."""
    for number in range(1000):
        yield Step(number / 1000, "running")
    return {"steps": 1000}


def fork_server(file: VideoFile, options: Options) -> Work:
    """The number of the process that this one came from."""
    yield Step(0.5, "looking")
    return {"pid": os.getppid()}


def deep(file: VideoFile, options: Options) -> Work:
    """A result inside a result inside a result, too many times."""
    yield Step(0.5, "digging")
    result: dict[str, Any] = {}
    for _ in range(200):
        result = {"deeper": result}
    return result


def unlucky(file: VideoFile, options: Options) -> Work:
    """Says itself that it may go well another time."""
    yield Step(0.1, "asking")
    raise VideoFailed("The service is busy.", fault=Fault.TRANSIENT)


def on_a_full_disk(file: VideoFile, options: Options) -> Work:
    """Writes where there is no room."""
    yield Step(0.1, "writing")
    with Path("/dev/full").open("wb", buffering=0) as stream:
        stream.write(b"x")
    return {}


def without_end(file: VideoFile, options: Options) -> Work:
    """Writes one file that grows and grows."""
    yield Step(0.1, "writing")
    with (file.output / "film.mp4.part").open("wb") as stream:
        while True:
            stream.write(bytes(2**20))
    return {}


def out_of_descriptors(file: VideoFile, options: Options) -> Work:
    """Opens more files than a process may."""
    yield Step(0.1, "opening")
    while True:
        os.dup(2)
    return {}


def unheard(file: VideoFile, options: Options) -> Work:
    """Waits for a service that does not answer."""
    yield Step(0.1, "asking")
    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def wordy(file: VideoFile, options: Options) -> Work:
    """Fails at great length."""
    yield Step(0.1, "talking")
    raise VideoFailed("and so on " * 100_000)


def unheard_of_fault(file: VideoFile, options: Options) -> Work:
    """What a taken-over process might do: report a failure that lies where nobody knows."""
    yield Step(0.1, "decoding")
    for number in range(3, 20):
        if _is_open(number):
            os.write(number, b'{"type":"failure","sentence":"","traceback":"","fault":"yours"}\n')
    time.sleep(FOR_EVER)
    return {}


ALL: tuple[Callable[[VideoFile, Options], Work], ...] = (
    surroundings,
    endless,
    stubborn,
    crashing,
    killed,
    greedy,
    failing,
    broken,
    nonsense,
    hasty,
    fork_server,
    deep,
    unlucky,
    on_a_full_disk,
    without_end,
    out_of_descriptors,
    unheard,
    wordy,
    unheard_of_fault,
)


def find(name: str) -> Processor:
    run = next(work for work in ALL if work.__name__ == name)
    return Processor(name=name, summary=run.__doc__ or "", options=Options, run=run)
