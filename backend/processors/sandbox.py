"""The inside of the process that works on one video: it drops what it does not need, works, reports, and exits.

An attack would begin in the decoding of an untrusted file, so there is nothing to steal here: no environment, and no
descriptors but the one to the server. Memory, CPU, file size and core dumps are limited, and the process exits with its
parent.
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
from collections.abc import Callable, Generator
from typing import Any, BinaryIO

from pydantic import BaseModel

from backend.domain.os_errors import DISK_SENTENCES, EXHAUSTED, TEMPORARY, fault_of, reason_of, unwritable
from backend.errors import Fault, Invalid, VideoFailed
from backend.processors import BrokenProcessor, NoProcessor, Processor, Step, options_of
from backend.processors.ipc import Failure, Limits, Message, Progress, Result, Task, encode_line, parse_task
from backend.processors.settling import FileChanged, FileState, check_settled

STEP_SECONDS = 0.1  # a shorter interval would not be visible, and each step is a change to store
MAX_DESCRIPTORS = 65_536  # the system's own limit may be a billion, but the parent has only a few
MAX_TRACEBACK_LENGTH = 20_000  # characters
DENIED = frozenset({errno.EACCES, errno.EPERM})
PR_SET_PDEATHSIG = 1
LINUX = sys.platform == "linux"

Find = Callable[[str], Processor]


def start_session(parent: int) -> None:
    """Start a session of its own, unaffected by the server's Ctrl-C. On Linux the process is killed with its parent."""
    os.setsid()
    os.umask(0o077)
    os.environ.clear()
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent exited before the line above
        os._exit(1)


def close_other_descriptors(*needed: int) -> None:
    """Close all descriptors but the needed ones. The standard ones are redirected to the null device."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in {0, 1, 2} - set(needed):
        os.dup2(null, standard)
    lowest = 3
    for descriptor in sorted(descriptor for descriptor in needed if descriptor > 2):
        os.closerange(lowest, descriptor)
        lowest = descriptor + 1
    os.closerange(lowest, max(lowest, min(os.sysconf("SC_OPEN_MAX"), MAX_DESCRIPTORS)))


def set_limits(limits: Limits) -> None:
    """Set the kernel's limits, where the system has them."""
    if sys.platform == "win32":
        return
    import resource  # not on Windows

    for kind, wanted in (
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.output_mib * 2**20),
        (resource.RLIMIT_CORE, 0),
        *(((resource.RLIMIT_AS, limits.memory_mib * 2**20),) if LINUX else ()),
    ):
        _, ceiling = resource.getrlimit(kind)
        allowed = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
        resource.setrlimit(kind, (allowed, ceiling if kind == resource.RLIMIT_CPU else allowed))


def run_task(raw_task: bytes, outgoing: BinaryIO, find: Find) -> None:
    """Run the task, and write its steps and its result or failure.

    Does nothing without a complete task: the server has exited, or ends this process.
    """
    if not raw_task.endswith(b"\n"):
        return

    def send(message: Message) -> None:
        outgoing.write(encode_line(message))
        outgoing.flush()

    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server does not listen any more
        task = parse_task(raw_task)
        set_limits(task.limits)
        send(_outcome(task, find, send))


def _outcome(task: Task, find: Find, send: Callable[[Message], None]) -> Message:
    """Return the result or the failure; that the file changed if it did: then both are of no file that there is."""
    before = FileState.of(task.path)
    outcome = _worked_on(task, find, send)
    if isinstance(outcome, Failure) and outcome.fault.is_transient:
        return outcome
    try:
        check_settled(task.path, before)
    except FileChanged as changed:
        trace = outcome.traceback if isinstance(outcome, Failure) else ""
        return Failure(changed.sentence, trace, changed.fault, is_changing=True)
    return outcome


def _worked_on(task: Task, find: Find, send: Callable[[Message], None]) -> Result | Failure:
    try:
        _make_directory(task.output)
        processor, options = _prepared(task, find)
        return Result(_run_processor(processor.run(task.file, options), send))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # the top of this process: any error of a processor becomes this video's failure
        failure = error if isinstance(error, VideoFailed) else _as_failure(error, task)
        return Failure(failure.sentence, traceback.format_exc()[-MAX_TRACEBACK_LENGTH:], failure.fault)


def _make_directory(output: bytes) -> None:
    try:
        os.makedirs(output, mode=0o700, exist_ok=True)
    except OSError as error:
        raise unwritable(error) from error


def _prepared(task: Task, find: Find) -> tuple[Processor, BaseModel]:
    """Return the processor and its options.

    Raises `VideoFailed` with the machine's fault for a plug-in that was removed, broke, or takes other options since
    the job was submitted: it is not a fault of the video, and every other one would fail too.
    """
    try:
        processor = find(task.processor)
        return processor, options_of(processor, task.options)
    except NoProcessor as error:
        sentence = f"The processor {task.processor} is not installed any more; install it again, then resume the job."
        raise VideoFailed(sentence, fault=Fault.MACHINE) from error
    except BrokenProcessor as error:
        raise VideoFailed(f"{error.sentence.rstrip('.')}, then resume the job.", fault=Fault.MACHINE) from error
    except Invalid as error:
        advice = "install the version that the job was submitted for, or submit its list again."
        sentence = f"The installed processor {task.processor} does not take the job's options; {advice}"
        raise VideoFailed(sentence, fault=Fault.MACHINE) from error


def _run_processor(steps: Generator[Step, None, dict[str, Any]], send: Callable[[Message], None]) -> dict[str, Any]:
    """Return the processor's result. Sends each step with a new word, and others at most every `STEP_SECONDS`."""
    doing, sent_at = "", -math.inf
    while True:
        try:
            step: Step = next(steps)
        except StopIteration as end:
            result: dict[str, Any] = end.value
            return result
        now = time.monotonic()
        if step.doing != doing or now - sent_at >= STEP_SECONDS:
            send(Progress(step.fraction, step.doing))
            doing, sent_at = step.doing, now


def _as_failure(error: Exception, task: Task) -> VideoFailed:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        limit = f"{task.limits.memory_mib:,} MiB (DASHBOARD_VIDEO_MEMORY_MIB)"
        return VideoFailed(f"The video needs more memory than the limit of {limit}.")
    known = _as_os_failure(error, task) if isinstance(error, OSError) else None
    return known or VideoFailed(
        f"The processor {task.processor} broke on this video ({type(error).__name__}); the traceback has the details."
    )


def _as_os_failure(error: OSError, task: Task) -> VideoFailed | None:
    """Return the failure for an error of the operating system; None if the error does not reveal the fault."""
    if error.errno == errno.EFBIG:
        limit = f"{task.limits.output_mib:,} MiB (DASHBOARD_VIDEO_OUTPUT_MIB)"
        return VideoFailed(
            f"The processor {task.processor} wrote a file larger than the limit of {limit} for one file."
        )
    is_denied = error.errno in DENIED | TEMPORARY and _is_below(error.filename, task.output)
    if error.errno in DISK_SENTENCES or is_denied:
        return unwritable(error)
    if error.errno == errno.ENOENT and _is_below(error.filename, task.path):
        return VideoFailed("The file went away while it was being processed; put it back and retry.")
    if error.errno in EXHAUSTED | TEMPORARY:
        sentence = f"The processor {task.processor} could not go on: {reason_of(error)}; try again."
        return VideoFailed(sentence, fault=fault_of(error))
    return None


def _is_below(name: object, directory: bytes) -> bool:
    return isinstance(name, str | bytes) and os.path.abspath(os.fsencode(name)).startswith(directory)
