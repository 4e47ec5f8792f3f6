"""A job's videos as rows that open: one element whose rows are replaced in place while the job runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.clock import iso
from backend.domain.video import Outcome, Video, VideoStatus
from progress_dashboard.protocol import Status
from ui.components.shared import BROWSER_JS
from ui.text import count, took
from ui.theme import looks
from ui.video_facts import facts, summary


class VideoTable(Element, component="video_table.vue", dependencies=[BROWSER_JS, "stack_trace.js"]):
    """`on_opened` gets the positions of the rows that are open now, and answers with `show_details`.

    `on_retry` gets the position of a video to retry.
    """

    def __init__(
        self,
        *,
        is_external: bool,
        on_opened: Callable[[list[int]], Awaitable[None]],
        on_retry: Callable[[int], Awaitable[None]],
    ) -> None:
        super().__init__()
        words = looks(Status(status.value) for status in VideoStatus)
        if is_external:
            words[VideoStatus.PENDING]["word"] = "not reported"  # its sender may have counted it without naming it
        self._props["looks"] = words
        self._props["rows"] = []
        self._props["details"] = {}

        async def opened(event: GenericEventArguments) -> None:
            await on_opened([position for position in event.args if isinstance(position, int)])

        async def pressed(event: GenericEventArguments) -> None:
            if isinstance(event.args, int):
                await on_retry(event.args)

        self.on("opened", opened)
        self.on("retry", pressed)

    def show(self, videos: Sequence[Video]) -> None:
        """Show these rows. Open rows stay open, and the page does not scroll."""
        rows = [_row(video) for video in videos]
        if rows != self._props["rows"]:
            self._props["rows"] = rows

    def reveal(self, position: int) -> None:
        """Open this video's row and scroll to it. Does nothing if it is not among the rows."""
        self.run_method("reveal", position)

    def show_details(
        self,
        videos: Sequence[Video],
        columns: Sequence[str],
        outcomes: Mapping[int, Sequence[Outcome]],
        *,
        retry: str,
    ) -> None:
        """Show the details of the open rows.

        `outcomes` are all their results by position. `retry` is the text of the retry button; "" means no button.
        """
        details = {
            str(video.position): {
                **_details(video, columns),
                "outcomes": [_outcome(outcome) for outcome in outcomes.get(video.position, ())],
                "retry": retry,
            }
            for video in videos
        }
        if details != self._props["details"]:
            self._props["details"] = details


def _row(video: Video) -> Mapping[str, Any]:
    return {
        "position": video.position,
        "id": video.video_id,
        "status": video.status.value,
        "line": count(video.line) if video.line is not None else "",
        "attempts": count(video.attempts) if video.attempts else "",
        "took": _took(video.duration_seconds),
        "about": summary(video.result or {}),
        "error": video.error if video.status is VideoStatus.FAILED else None,
    }


def _outcome(outcome: Outcome) -> Mapping[str, Any]:
    status = VideoStatus.FAILED if outcome.error is not None else VideoStatus.COMPLETED
    tries = f"after {count(outcome.tries)} tries" if outcome.tries > 1 else ""
    machine = f"on {outcome.machine}" if outcome.machine else ""
    return {
        "attempt": outcome.attempt,
        "status": status.value,
        "error": outcome.error,
        "trace": outcome.traceback,
        "started": iso(outcome.started_at),
        "took": " ".join(filter(None, (_took(outcome.duration_seconds), tries, machine))),
    }


def _took(seconds: float | None) -> str:
    return "" if seconds is None else took(seconds)


def _details(video: Video, columns: Sequence[str]) -> Mapping[str, Any]:
    own = [
        (column, cell) for column, cell in zip(columns, video.cells, strict=False) if cell and cell != video.video_id
    ]
    ran_on = [("Ran on", video.machine)] if video.machine else []
    return {
        "poster": _poster_address(video) if video.result and video.result.get("poster") else None,
        "facts": [*facts(video.result or {}), *ran_on, *own],
        "error": video.error,
        "trace": video.traceback,
    }


def _poster_address(video: Video) -> str:
    """Return the address of the newest poster. It changes with each result: browsers keep the picture of an address."""
    return f"/api/jobs/{video.job_id}/videos/{video.position}/poster?result={video.attempts}"
