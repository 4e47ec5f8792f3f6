"""Runs the work on one video in a process of its own, which can be killed at any moment and holds no secret."""

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
from backend.processors.ipc import Failure, Limits, Progress, Result, Task, line, parse_message
from backend.processors.launchers import Child, ForkLauncher, Launcher, SpawnLauncher, Stopping
from backend.settings import VIDEO_OUTPUT_MIB

log = logging.getLogger(__name__)
CAN_FORK = hasattr(os, "fork")
MAX_WORD_LENGTH = 60  # characters of what a step says it does
MAX_SENTENCE_LENGTH, MAX_TRACEBACK_LENGTH = 1000, 20_000  # characters of a failure
MAX_DEPTH = 32  # levels of a result
T = TypeVar("T")


class ChildRunner:
    """Starts, limits, watches and ends the processes of videos.

    `find` turns a processor's name into the processor inside the child: a function of a module, chosen by the
    administrator or a test, never by a request. `forking=False` starts a fresh Python for each video, as where the
    system cannot fork.
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
        """Begin loading FFmpeg in the background; the first video waits for it, and tries again if it cannot."""
        if sys.platform != "linux":
            log.warning(
                "this system cannot limit the memory of a video's process, nor end it when the server is killed",
                extra={"action": "children_unlimited", "platform": sys.platform},
            )
        try:
            await self._launcher.start()
        except Unavailable as error:  # the videos say so too, and each tries again
            log.warning("%s", error.sentence, extra={"action": "children_not_started"})

    async def stop(self) -> None:
        """End every process, the fork server too, and return when they are dead."""
        await self._launcher.stop()

    async def run(
        self, processor: str, file: VideoFile, options: Mapping[str, Any], *, on_step: Callable[[Step], None]
    ) -> dict[str, Any]:
        """The processor's result for this video; raises `VideoFailed` with a sentence, its fault, perhaps a traceback.

        `on_step` is called on the event loop, at most some 10 times a second. Cancelled, it returns only when the
        process is dead. Whatever fails, unfinished files (`*.part`) are removed.
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
            except NoProcess:  # no fault of this video's
                return await self._run(task, on_step)
        except BaseException:
            await _to_the_end(asyncio.to_thread(_remove_unfinished, file.output))
            raise

    async def _run(self, task: Task, on_step: Callable[[Step], None]) -> dict[str, Any]:
        try:
            child = await self._within_time(self._launcher.launch())
        except Stopping as error:
            raise VideoFailed(error.sentence, fault=Fault.TRANSIENT) from error
        except Unavailable as error:
            raise NoProcess(error.sentence, fault=Fault.MACHINE) from error
        willing = False
        try:
            result = await self._within_time(self._talk(child, task, on_step))
            willing = True
        finally:
            await _to_the_end(child.end(willing=willing))
        return result

    async def _within_time(self, doing: Coroutine[Any, Any, T]) -> T:
        work = asyncio.create_task(doing)
        alarm = asyncio.create_task(self._clock.sleep(self._timeout_seconds))
        try:
            await asyncio.wait({work, alarm}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
        finally:
            work.cancel()
            alarm.cancel()
        raise VideoFailed(
            f"Took longer than {self._timeout_seconds:g} s, the limit for one video (DASHBOARD_VIDEO_TIMEOUT_SECONDS).",
            fault=Fault.TRANSIENT,
        )

    async def _talk(self, child: Child, task: Task, on_step: Callable[[Step], None]) -> dict[str, Any]:
        """Give the task and listen to its end; the child may be in a stranger's hands, so its words are checked."""
        child.writer.write(line(task))
        try:
            while (raw := await child.reader.readline()).endswith(b"\n"):
                message = parse_message(raw)
                if isinstance(message, Result):
                    return _storable(message.value)
                if isinstance(message, Failure):
                    raise _failure(message)
                on_step(_step(message))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise VideoFailed("The process of this video answered with something that is not a report.") from error
        except ConnectionError:  # it died with our task half read; how it died follows
            log.debug("a video's process closed its channel", exc_info=True)
        death = await child.death
        if isinstance(death, Unavailable):
            raise NoProcess(death.sentence, fault=Fault.MACHINE)
        raise self._why_dead(death)

    def _why_dead(self, status: int) -> VideoFailed:
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
    """This video has no process, or lost it together with the one that starts them; try again."""


def _failure(said: Failure) -> VideoFailed:
    return VideoFailed(
        said.sentence[:MAX_SENTENCE_LENGTH], traceback=said.traceback[-MAX_TRACEBACK_LENGTH:], fault=said.fault
    )


def _storable(result: dict[str, Any]) -> dict[str, Any]:
    """The result, if it is no deeper than what the store and the API can take; raises `ValueError`."""
    if not _fits(result, MAX_DEPTH):
        raise ValueError("the result is nested too deeply")
    return result


def _fits(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_fits(part, levels - 1) for part in inner)


def _step(progress: Progress) -> Step:
    return Step(min(1.0, max(0.0, progress.fraction)), progress.doing[:MAX_WORD_LENGTH])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _remove_unfinished(output: Path) -> None:
    """Remove the `*.part` files, and the directory if nothing else is in it."""
    try:
        for part in output.glob("*.part"):
            part.unlink(missing_ok=True)
    except OSError:  # a disk that can only be read; the video's own failure counts
        log.warning("unfinished files are left behind", exc_info=True, extra={"action": "parts_left"})
    with contextlib.suppress(OSError):  # not empty: an earlier attempt's files; or never made
        output.rmdir()


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Finish this work even while being cancelled; the cancellation follows it."""
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
