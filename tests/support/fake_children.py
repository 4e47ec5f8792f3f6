"""Processes of videos that end when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from backend.errors import VideoFailed
from backend.processors import Step, VideoFile

WAIT = 10


class Processes:
    """Stands for a `ChildRunner`; a video runs until `end`, and a cancelled one dies once `may_die` is set."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.dying: list[str] = []
        self.running: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.may_die = asyncio.Event()
        self.may_die.set()
        self._changed = asyncio.Condition()

    async def run(
        self, processor: str, file: VideoFile, options: Mapping[str, Any], *, on_step: Callable[[Step], None]
    ) -> dict[str, Any]:
        video_id = file.path.stem
        self.started.append(video_id)
        ending: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.running[video_id] = ending
        on_step(Step(0.5, "decoding"))
        await self._tell()
        try:
            return await ending
        except asyncio.CancelledError:
            self.dying.append(video_id)
            await self._tell()
            await self.may_die.wait()
            raise
        finally:
            del self.running[video_id]
            await self._tell()

    async def until_idle(self) -> None:
        await self._until(lambda: not self.running)

    async def until_started(self, number: int) -> None:
        await self._until(lambda: len(self.started) >= number)

    async def until_dying(self, number: int) -> None:
        await self._until(lambda: len(self.dying) >= number)

    def end(self, video_id: str, error: VideoFailed | None = None) -> None:
        if error is None:
            self.running[video_id].set_result({"frames": 25})
        else:
            self.running[video_id].set_exception(error)

    async def _until(self, happened: Callable[[], bool]) -> None:
        async with self._changed, asyncio.timeout(WAIT):
            await self._changed.wait_for(happened)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
