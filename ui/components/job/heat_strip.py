"""The state of each video of a job, as one strip of cells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.domain.job import Job
from backend.domain.video import OUTCOME_MARKS, VideoStatus
from ui.components.shared import BROWSER_JS

BLOCK = 128  # marks that are compared at once
MARKS_PER_CHANGE = 10  # a single change takes as many bytes as this many marks


class HeatStrip(Element, component="heat_strip.vue", dependencies=[BROWSER_JS]):
    """One cell for each video, in the order of the file. If there are too many, videos share cells.

    `on_jump` gets the position of the video whose cell was pressed. `on_point` gets that of the video under the
    pointer, and answers with its ID by `name`.
    """

    def __init__(
        self, *, on_jump: Callable[[int], Awaitable[None]], on_point: Callable[[int], Awaitable[None]]
    ) -> None:
        super().__init__()
        self._strip = self._props["strip"] = ""
        self._words = self._props["words"] = {}

        async def jump(event: GenericEventArguments) -> None:
            if isinstance(event.args, int):
                await on_jump(event.args)

        async def point(event: GenericEventArguments) -> None:
            if isinstance(event.args, int):
                await on_point(event.args)

        self.on("jump", jump)
        self.on("look", point)

    def show(self, strip: str, job: Job) -> None:
        """Show the newest marks of all videos. The browser gets all of them once, then only the changes."""
        words, changed = _words(job), _changes(self._strip, strip)
        if len(strip) != len(self._strip):
            self._props["strip"], self._props["words"] = strip, words
        elif len(changed) * MARKS_PER_CHANGE > len(strip):
            self.run_method("replace", strip, words)
        elif changed or words != self._words:
            self.run_method("change", changed, words)
        self._strip, self._words = strip, words

    def name(self, position: int, video_id: str) -> None:
        """Show the ID of the video under the pointer."""
        self.run_method("name", position, video_id)


def _changes(before: str, now: str) -> list[tuple[int, str]]:
    """Return the positions and values of changed marks. Compares in blocks, because most of them are unchanged.

    >>> _changes("..", "o."), _changes("." * 600, "." * 599 + "f")
    ([(0, 'o')], [(599, 'f')])
    """
    return [
        (at, mark)
        for start in range(0, len(now), BLOCK)
        if (block := now[start : start + BLOCK]) != (earlier := before[start : start + BLOCK])
        for at, (mark, other) in enumerate(zip(block, earlier, strict=False), start)
        if mark != other
    ]


def _words(job: Job) -> dict[str, str]:
    """Return the meaning of each mark in this job."""
    pending = "to come, or not reported" if job.is_external else "to come"
    return {
        OUTCOME_MARKS[VideoStatus.COMPLETED]: "ok",
        OUTCOME_MARKS[VideoStatus.FAILED]: "failed",
        OUTCOME_MARKS[VideoStatus.PROCESSING]: "running",
        OUTCOME_MARKS[VideoStatus.PENDING]: "not done" if job.is_finished else pending,
    }
