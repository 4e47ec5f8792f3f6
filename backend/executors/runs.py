"""Where the work on one video happens: in a process of this machine, or on any machine (`backend.engine`).

A run is one try at one video, named by its job, position, attempt and try: who asks for it again gets the same one.
"""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from backend.clock import Clock
from backend.domain.job import Job
from backend.domain.video import Video
from backend.errors import Fault, VideoFailed
from backend.jobs.outputs import Outputs
from backend.media.directory import MediaSource
from backend.media.sources import MediaSources
from backend.processors import Step, VideoFile
from backend.processors.child import ChildRunner
from backend.processors.settling import FileChanged

log = logging.getLogger(__name__)
OnStart = Callable[[str], None]
"""Called with the machine's name when a process of it begins to work on the video; again if it is lost on the way."""
OnReturn = Callable[[], None]
"""Called when no machine works on the video any more, although it has not ended: another one may begin with it."""
OnStep = Callable[[Step], None]
UntilDraining = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended, after `seconds` of work on the machine: with a result, or with an error and its fault.

    `run_id` is the row of a run on another machine, which goes with the tick that stores the outcome.
    """

    machine: str
    seconds: float
    result: Mapping[str, Any] | None = None
    error: str | None = None
    traceback: str | None = None
    fault: Fault | None = None
    is_changing: bool = False
    run_id: int | None = None


def decoded(how: Mapping[str, Any], *, machine: str, run_id: int) -> RunOutcome:
    """Return the outcome that a worker reported."""
    try:
        said = msgspec.convert(how, Said)
    except msgspec.ValidationError as error:
        extra = {"action": "outcome_not_valid", "worker": machine, "run": run_id}
        log.error("a worker reported something that is no outcome: %s", error, extra=extra)
        said = Said(error=f"The worker {machine} reported something that is no outcome.", fault=Fault.PERMANENT)
    return RunOutcome(**msgspec.structs.asdict(said), machine=machine, run_id=run_id)


class Said(msgspec.Struct, frozen=True):
    """What a worker reports of the end of a run."""

    seconds: float = 0.0
    result: dict[str, Any] | None = None
    error: str | None = None
    traceback: str | None = None
    fault: Fault | None = None
    is_changing: bool = False


class Runs(Protocol):
    """Works on videos, each at most once at a time."""

    async def in_flight(self, job: Job) -> Mapping[int, int]:
        """Return the runs of the job's attempt that go on since an earlier run of the server: position to try."""

    async def run(
        self,
        job: Job,
        video: Video,
        *,
        try_number: int,
        on_start: OnStart,
        on_return: OnReturn,
        on_step: OnStep,
        until_draining: UntilDraining,
    ) -> RunOutcome | None:
        """Run this try and return how it ended; an error is an outcome, too.

        None: `until_draining` returned while no machine worked on it, and now none will. Cancelled, it returns only
        when no process works on the video any more, or this server leaves its runs to the next one (`goes_on`).
        """

    async def withdraw(self, job: Job) -> None:
        """Stop what is left of the job, and return when no process works on it."""

    def goes_on(self, job: Job) -> bool:
        """Return True if the job's processes go on without this server, which is stopping."""


class LocalRuns:
    """Runs in processes of this machine, below its limits."""

    def __init__(
        self,
        children: ChildRunner,
        sources: MediaSources,
        outputs: Outputs,
        clock: Clock,
        *,
        machine: str | None = None,
    ) -> None:
        self._children = children
        self._sources = sources
        self._outputs = outputs
        self._clock = clock
        self._machine = machine or machine_name()

    async def in_flight(self, job: Job) -> Mapping[int, int]:
        return {}

    async def run(
        self,
        job: Job,
        video: Video,
        *,
        try_number: int = 1,
        on_start: OnStart,
        on_return: OnReturn | None = None,
        on_step: OnStep,
        until_draining: UntilDraining | None = None,
    ) -> RunOutcome:
        on_start(self._machine)
        began = self._clock.monotonic()

        def ended(**how: Any) -> RunOutcome:
            seconds = round(self._clock.monotonic() - began, 3)
            return RunOutcome(machine=self._machine, seconds=seconds, **how)

        try:
            return ended(result=await self._run(job, video, on_step))
        except VideoFailed as error:
            trace = error.traceback or "".join(traceback.format_exception(error))
            is_changing = isinstance(error, FileChanged)
            return ended(error=error.sentence, traceback=trace, fault=error.fault, is_changing=is_changing)
        except Exception as error:
            extra = {"action": "video_error", "job_id": job.id, "video_id": video.video_id}
            log.exception("the work on a video raised an error", extra=extra)
            sentence = f"The server had a problem with this video ({type(error).__name__}); its log has the details."
            return ended(error=sentence, traceback=traceback.format_exc(), fault=Fault.PERMANENT)

    async def withdraw(self, job: Job) -> None:
        """Do nothing: the processes of this machine end with `run`."""

    def goes_on(self, job: Job) -> bool:
        return False

    async def _run(self, job: Job, video: Video, on_step: OnStep) -> dict[str, Any]:
        files = self._sources.of(job.source)
        try:
            return await self._run_in_child(files, job, video, on_step)
        except VideoFailed as error:
            if error.fault is Fault.PERMANENT:
                await files.check()  # a file that is gone with the whole directory is no fault of the video's
            raise

    async def _run_in_child(self, files: MediaSource, job: Job, video: Video, on_step: OnStep) -> dict[str, Any]:
        path = await files.locate(video.video_id)
        file = VideoFile(path=path, root=files.root, output=self._outputs.directory(job.id, video.position))
        return await self._children.run(job.processor, file, job.options, on_step=on_step)


def machine_name() -> str:
    """Return the name under which this machine is known, that of its host."""
    return socket.gethostname()
