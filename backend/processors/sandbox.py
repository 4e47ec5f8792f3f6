"""The inside of the process that works on one video: it gives up what it does not need, works, reports, and ends.

Decoding a stranger's file is where a break-in would begin, so there is nothing here to take: no environment, no
descriptors but the one to the server, limits on memory, CPU, file size and core dumps, and a
death that follows the parent's.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

from backend.domain.os_errors import DISK, EXHAUSTED, GONE_FOR_NOW, fault_of, reason_of, unwritable
from backend.errors import VideoFailed
from backend.processors import Processor, Step
from backend.processors.ipc import Failure, Limits, Message, Progress, Result, Task, line, parse_task

STEP_SECONDS = 0.1  # more often, nobody sees the difference, and each is a change to store
MAX_DESCRIPTORS = 65_536  # where the system's own bound may be a billion; the parent held only a handful
MAX_TRACEBACK_LENGTH = 20_000  # characters
REFUSED = frozenset({errno.EACCES, errno.EPERM})
PR_SET_PDEATHSIG = 1
LINUX = sys.platform == "linux"

Find = Callable[[str], Processor]


def become_session(parent: int) -> None:
    """Its own session, deaf to the server's Ctrl-C, and dead as soon as `parent` is (Linux)."""
    os.setsid()
    os.umask(0o077)
    os.environ.clear()
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def keep_only(*descriptors: int) -> None:
    """Close every other descriptor; the standard ones lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in {0, 1, 2} - set(descriptors):
        os.dup2(nowhere, standard)
    lowest = 3
    for kept in sorted(descriptor for descriptor in descriptors if descriptor > 2):
        os.closerange(lowest, kept)
        lowest = kept + 1
    os.closerange(lowest, max(lowest, min(os.sysconf("SC_OPEN_MAX"), MAX_DESCRIPTORS)))


def limit(limits: Limits) -> None:
    """The kernel's limits, where it has them."""
    if sys.platform == "win32":
        return
    import resource  # not on Windows

    for kind, most in (
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.output_mib * 2**20),
        (resource.RLIMIT_CORE, 0),
        *(((resource.RLIMIT_AS, limits.memory_mib * 2**20),) if LINUX else ()),
    ):
        _, ceiling = resource.getrlimit(kind)
        allowed = most if ceiling == resource.RLIM_INFINITY else min(most, ceiling)
        resource.setrlimit(kind, (allowed, ceiling if kind == resource.RLIMIT_CPU else allowed))


def work(raw_task: bytes, outgoing: BinaryIO, find: Find) -> None:
    """Do the task and write what happens; returns when the result or the failure is written.

    Without a whole task (the server went away or changed its mind) nothing is done.
    """
    if not raw_task.endswith(b"\n"):
        return

    def tell(message: Message) -> None:
        outgoing.write(line(message))
        outgoing.flush()

    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody listens any more
        task = parse_task(raw_task)
        limit(task.limits)
        tell(_outcome(task, find, tell))


def _outcome(task: Task, find: Find, tell: Callable[[Message], None]) -> Message:
    try:
        _make_directory(task.output)
        return Result(_followed(task, find(task.processor), tell))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # the top of this process: whatever a processor raises becomes this video's failure
        failure = error if isinstance(error, VideoFailed) else _in_words(error, task)
        return Failure(failure.sentence, traceback.format_exc()[-MAX_TRACEBACK_LENGTH:], failure.fault)


def _make_directory(output: bytes) -> None:
    try:
        os.makedirs(output, mode=0o700, exist_ok=True)
    except OSError as error:
        raise unwritable(error) from error


def _followed(task: Task, processor: Processor, tell: Callable[[Message], None]) -> dict[str, Any]:
    """Run the processor to its result; of its steps, tell each new word and a fraction every `STEP_SECONDS`."""
    steps = processor.run(task.file, processor.options.model_validate(task.options))
    doing, told = "", -math.inf
    while True:
        try:
            step: Step = next(steps)
        except StopIteration as end:
            result: dict[str, Any] = end.value
            return result
        now = time.monotonic()
        if step.doing != doing or now - told >= STEP_SECONDS:
            tell(Progress(step.fraction, step.doing))
            doing, told = step.doing, now


def _in_words(error: Exception, task: Task) -> VideoFailed:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        most = f"{task.limits.memory_mib:,} MiB (DASHBOARD_VIDEO_MEMORY_MIB)"
        return VideoFailed(f"The video needs more memory than the limit of {most}.")
    known = _of_the_system(error, task) if isinstance(error, OSError) else None
    return known or VideoFailed(
        f"The processor {task.processor} broke on this video ({type(error).__name__}); the traceback has the details."
    )


def _of_the_system(error: OSError, task: Task) -> VideoFailed | None:
    """Words for an error of the operating system; None where it says nothing about where the fault lies."""
    if error.errno == errno.EFBIG:
        most = f"{task.limits.output_mib:,} MiB (DASHBOARD_VIDEO_OUTPUT_MIB)"
        return VideoFailed(f"The processor {task.processor} wrote a file larger than the limit of {most} for one file.")
    if error.errno in DISK or (error.errno in REFUSED | GONE_FOR_NOW and _is_below(error.filename, task.output)):
        return unwritable(error)
    if error.errno == errno.ENOENT and _is_below(error.filename, task.path):
        return VideoFailed("The file went away while it was being processed; put it back and retry.")
    if error.errno in EXHAUSTED | GONE_FOR_NOW:
        sentence = f"The processor {task.processor} could not go on: {reason_of(error)}; try again."
        return VideoFailed(sentence, fault=fault_of(error))
    return None


def _is_below(name: object, directory: bytes) -> bool:
    return isinstance(name, str | bytes) and os.path.abspath(os.fsencode(name)).startswith(directory)
