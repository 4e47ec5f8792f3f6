"""Child processes of videos that end when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from backend.errors import VideoFailed
from backend.processors import Step, VideoFile

TIMEOUT_SECONDS = 10


class Processes:
    """Takes the place of a `ChildRunner`.

    A video runs until `end`. A cancelled one is `stopping` until `may_exit` is set, as a real child takes a moment.
    """

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stopping: list[str] = []
        self.running: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.may_exit = asyncio.Event()
        self.may_exit.set()
        # How many of them the server knows to have begun, and to have ended; the others are on their way to it.
        self.begun = self.ended = 0
        self._told_to_end = 0
        self._changed = asyncio.Event()

    async def run(
        self, processor: str, file: VideoFile, options: Mapping[str, Any], *, on_step: Callable[[Step], None]
    ) -> dict[str, Any]:
        video_id = file.path.stem
        self.started.append(video_id)
        ending: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.running[video_id] = ending
        on_step(Step(0.5, "decoding"))
        self._notify()
        try:
            return await ending
        except asyncio.CancelledError:
            self.stopping.append(video_id)
            self._notify()
            await self.may_exit.wait()
            raise
        finally:
            del self.running[video_id]
            self._notify()

    def set_alarm(self, seconds: float) -> None:
        """Do nothing: these processes end when the test says so."""

    async def until_idle(self) -> None:
        """Return when nothing runs."""
        await self._until(lambda: not self.running)

    async def until_started(self, number: int) -> None:
        """Return when this many processes have been started in all, and the server knows it."""
        await self._until(lambda: min(len(self.started), self.begun) >= number)

    async def until_known(self) -> None:
        """Return when the server knows of every process that was told to end that it has ended."""
        await self._until(lambda: self.ended >= self._told_to_end)

    def has_begun(self) -> None:
        """Note that the server knows of one more that has begun."""
        self.begun += 1
        self._notify()

    def has_ended(self) -> None:
        """Note that the server knows of one more that has ended."""
        self.ended += 1
        self._notify()

    async def until_stopping(self, number: int) -> None:
        """Return when this many processes have been cancelled in all."""
        await self._until(lambda: len(self.stopping) >= number)

    def end(self, video_id: str, error: VideoFailed | None = None) -> None:
        """Let the process of this video end, with a result or with the error."""
        self._told_to_end += 1
        if error is None:
            self.running[video_id].set_result({"frames": 25})
        else:
            self.running[video_id].set_exception(error)

    async def _until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not happened():
                await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
