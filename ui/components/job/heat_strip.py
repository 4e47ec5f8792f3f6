"""How each video of a job stands, as one strip of cells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.domain.job import Job
from backend.domain.video import OUTCOME_MARKS, VideoStatus
from ui.components.shared import BROWSER_JS

BLOCK = 128  # marks that are compared at once
WHOLE_FROM = 10  # a change takes as much room as so many marks


class HeatStrip(Element, component="heat_strip.vue", dependencies=[BROWSER_JS]):
    """One cell a video, in the order of the file; several videos share a cell where they are too many for that.

    `on_jump` gets the position of the video whose cell was pressed; `on_look` that of one that is pointed at, and
    tells its ID by `name`.
    """

    def __init__(self, *, on_jump: Callable[[int], Awaitable[None]], on_look: Callable[[int], Awaitable[None]]) -> None:
        super().__init__()
        self._strip = self._props["strip"] = ""
        self._words = self._props["words"] = {}

        async def jump(event: GenericEventArguments) -> None:
            if isinstance(event.args, int):
                await on_jump(event.args)

        async def look(event: GenericEventArguments) -> None:
            if isinstance(event.args, int):
                await on_look(event.args)

        self.on("jump", jump)
        self.on("look", look)

    def show(self, strip: str, job: Job) -> None:
        """The newest marks of all videos: the browser gets all of them once, and from then on what has changed."""
        words, changed = _words(job), _changes(self._strip, strip)
        if len(strip) != len(self._strip):
            self._props["strip"], self._props["words"] = strip, words
        elif len(changed) * WHOLE_FROM > len(strip):
            self.run_method("replace", strip, words)
        elif changed or words != self._words:
            self.run_method("change", changed, words)
        self._strip, self._words = strip, words

    def name(self, position: int, video_id: str) -> None:
        """Which video it is that is pointed at."""
        self.run_method("name", position, video_id)


def _changes(before: str, now: str) -> list[tuple[int, str]]:
    """Where the marks are other ones; block by block, because nearly all of very many are as they were.

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
    """What each mark means in this job."""
    coming = "to come, or not told" if job.is_external else "to come"
    return {
        OUTCOME_MARKS[VideoStatus.COMPLETED]: "ok",
        OUTCOME_MARKS[VideoStatus.FAILED]: "failed",
        OUTCOME_MARKS[VideoStatus.PROCESSING]: "running",
        OUTCOME_MARKS[VideoStatus.PENDING]: "not done" if job.is_finished else coming,
    }
