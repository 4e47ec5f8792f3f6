"""Runs the work on each video in its own process, which can be killed at any moment and holds no secret."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from backend.clock import Clock
from backend.errors import Fault, Unavailable, VideoFailed
from backend.processors import Processor, Step, VideoFile, load
from backend.processors.ipc import Failure, Limits, Progress, Result, Task, encode_line, parse_message
from backend.processors.launchers import Child, ForkLauncher, Launcher, SpawnLauncher, Stopping
from backend.processors.settling import FileChanged
from backend.settings import VIDEO_OUTPUT_MIB
from progress_dashboard.tasks import first_completed

log = logging.getLogger(__name__)
CAN_FORK = hasattr(os, "fork")
MAX_WORD_LENGTH = 60  # characters of the activity of a step
MAX_SENTENCE_LENGTH, MAX_TRACEBACK_LENGTH = 1000, 20_000  # characters of a failure
MAX_DEPTH = 32  # levels of a result
T = TypeVar("T")


class ChildRunner:
    """Starts, limits, supervises and ends the processes of videos.

    `find` returns the processor of a name inside the child. It is a function of a module, chosen by the administrator
    or a test, never by a request. `forking=False` starts a new Python for each video, as on systems that cannot fork.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float,
        memory_mib: int,
        output_mib: int = VIDEO_OUTPUT_MIB,
        clock: Clock,
        find: Callable[[str], Processor] = load,
        forking: bool = CAN_FORK,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        cpu_seconds = math.ceil(timeout_seconds * (os.cpu_count() or 1)) + 1
        self._limits = Limits(cpu_seconds, memory_mib, output_mib)
        self._clock = clock
        dotted = f"{find.__module__}:{find.__qualname__}"
        self._launcher: Launcher = ForkLauncher(dotted) if forking else SpawnLauncher(dotted)

    async def start(self) -> None:
        """Begin to load FFmpeg in the background. The first video waits for it, and starts it again if it failed."""
        if sys.platform != "linux":
            log.warning(
                "this system can neither limit the memory of a video's process nor end it when the server is killed",
                extra={"action": "children_unlimited", "platform": sys.platform},
            )
        try:
            await self._launcher.start()
        except Unavailable as error:  # each video tries again, and fails with the same sentence
            log.warning("%s", error.sentence, extra={"action": "children_not_started"})

    def set_alarm(self, seconds: float) -> None:
        """Let all processes end in so many seconds, even if this one is frozen by then, unless it is set again before.

        After it has rung, no process begins until it is set again.
        """
        self._launcher.set_alarm(seconds)

    async def stop(self) -> None:
        """End every process, with the fork server, and return when they have exited."""
        await self._launcher.stop()

    async def run(
        self, processor: str, file: VideoFile, options: Mapping[str, Any], *, on_step: Callable[[Step], None]
    ) -> dict[str, Any]:
        """Run the processor on this video and return its result.

        Raises `VideoFailed` with a sentence, its fault and, if there is one, a traceback. Calls `on_step` on the event
        loop, at most some 10 times per second. When cancelled, returns only after the process has exited. After any
        failure, removes unfinished files (`*.part`), and `file.output` if it is empty: no other run may share it.
        """
        task = Task(
            processor=processor,
            options=dict(options),
            path=os.fsencode(file.path.absolute()),
            root=os.fsencode(file.root.absolute()),
            output=os.fsencode(file.output.absolute()),
            limits=self._limits,
        )
        try:
            try:
                return await self._run(task, on_step)
            except NoProcess:  # not the fault of this video
                return await self._run(task, on_step)
        except BaseException:
            await _run_to_completion(asyncio.to_thread(_remove_unfinished, file.output))
            raise

    async def _run(self, task: Task, on_step: Callable[[Step], None]) -> dict[str, Any]:
        try:
            child = await self._within_time(self._launcher.launch())
        except Stopping as error:
            raise VideoFailed(error.sentence, fault=Fault.TRANSIENT) from error
        except Unavailable as error:
            raise NoProcess(error.sentence, fault=Fault.MACHINE) from error
        has_result = False
        try:
            result = await self._within_time(self._supervise(child, task, on_step))
            has_result = True
        finally:
            await _run_to_completion(child.end(has_result=has_result))
        return result

    async def _within_time(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of the work. Cancels it after the time limit, and raises `VideoFailed`."""
        completed: T | None = await first_completed(work, self._clock.sleep(self._timeout_seconds))
        if completed is not None:
            return completed
        raise VideoFailed(
            f"Took longer than {self._timeout_seconds:g} s, the limit for one video (DASHBOARD_VIDEO_TIMEOUT_SECONDS).",
            fault=Fault.TRANSIENT,
        )

    async def _supervise(self, child: Child, task: Task, on_step: Callable[[Step], None]) -> dict[str, Any]:
        """Send the task and read its messages until the end. Checks them, because an attacker may control the child."""
        child.writer.write(encode_line(task))
        try:
            while (raw := await child.reader.readline()).endswith(b"\n"):
                message = parse_message(raw)
                if isinstance(message, Result):
                    return _checked_result(message.value)
                if isinstance(message, Failure):
                    raise _failure(message)
                on_step(_step(message))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise VideoFailed("The process of this video answered with something that is not a report.") from error
        except ConnectionError:  # it exited before it had read the whole task; its exit status follows
            log.debug("a video's process closed its channel", exc_info=True)
        status = await child.exited
        if isinstance(status, Unavailable):
            raise NoProcess(status.sentence, fault=Fault.MACHINE)
        raise self._exit_failure(status)

    def _exit_failure(self, status: int) -> VideoFailed:
        if status == -signal.SIGKILL:
            sentence = "The process of this video was killed, probably because the machine ran out of memory."
            return VideoFailed(sentence, fault=Fault.TRANSIENT)
        if status == -getattr(signal, "SIGXCPU", 0):
            sentence = f"Used more than {self._limits.cpu_seconds:,} s of processor time, the limit for one video."
        elif status < 0:
            sentence = f"The decoder crashed on this video ({_signal_name(-status)}); the file is probably damaged."
        else:
            sentence = f"The process of this video ended without a result (exit status {status})."
        return VideoFailed(sentence)


class NoProcess(VideoFailed):
    """The process of this video could not be started, or was lost with the process that starts them; try again."""


def _failure(message: Failure) -> VideoFailed:
    if message.is_changing:
        return FileChanged()
    return VideoFailed(
        message.sentence[:MAX_SENTENCE_LENGTH], traceback=message.traceback[-MAX_TRACEBACK_LENGTH:], fault=message.fault
    )


def _checked_result(result: dict[str, Any]) -> dict[str, Any]:
    """Return the result. Raises `ValueError` if it is nested too deeply for the store and the API."""
    if not _is_within_depth(result, MAX_DEPTH):
        raise ValueError("the result is nested too deeply")
    return result


def _is_within_depth(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_within_depth(part, levels - 1) for part in inner)


def _step(progress: Progress) -> Step:
    return Step(min(1.0, max(0.0, progress.fraction)), progress.doing[:MAX_WORD_LENGTH])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _remove_unfinished(output: Path) -> None:
    """Remove the `*.part` files, and the directory if it is empty then."""
    try:
        for part in output.glob("*.part"):
            part.unlink(missing_ok=True)
    except OSError:  # such as a read-only disk; the video's own failure is the one to report
        log.warning("unfinished files could not be removed", exc_info=True, extra={"action": "parts_left"})
    with contextlib.suppress(OSError):  # it has files of an earlier attempt, or was never created
        output.rmdir()


async def _run_to_completion(work: Coroutine[Any, Any, None]) -> None:
    """Finish the work even when cancelled. The cancellation is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
