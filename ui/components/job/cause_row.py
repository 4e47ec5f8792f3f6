"""One cause of failed videos of a job, in a row that stays in place while its numbers change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.clock import iso
from backend.domain.job import Job
from backend.domain.texts import counted
from backend.domain.video import Cause
from backend.errors import Fault
from ui.components.shared import BROWSER_JS, STACK_TRACE_JS
from ui.reasons import and_undone, short_reason
from ui.text import count

ADVICE = {
    Fault.PERMANENT: "Caused by the file: fix it, then retry.",
    Fault.TRANSIENT: "May succeed on a retry.",
    Fault.MACHINE: "Caused by the machine: fix it, then retry.",
}


class CauseRow(Element, component="cause_row.vue", dependencies=[BROWSER_JS, STACK_TRACE_JS]):
    """`on_show_video` asks for the example video, `on_retry` for a retry; `on_tick` gets True if it is selected."""

    def __init__(
        self,
        *,
        on_show_video: Callable[[], Awaitable[None]],
        on_retry: Callable[[], Awaitable[None]],
        on_tick: Callable[[bool], None],
    ) -> None:
        super().__init__()

        def tick(event: GenericEventArguments) -> None:
            on_tick(event.args is True)

        self.on("look", on_show_video)
        self.on("retry", on_retry)
        self.on("tick", tick)

    def show(self, cause: Cause, job: Job, *, can_retry: bool, is_ticked: bool | None) -> None:
        """Show the cause as it is now. `is_ticked` is None if there is nothing to select."""
        shown = {
            "cause": _facts(cause, job),
            "affected": _affected(cause, job),
            "retry": f"Retry {count(cause.count)}{and_undone(job)}" if can_retry else "",
            "ticked": is_ticked,
        }
        for name, value in shown.items():
            if name not in self._props or self._props[name] != value:
                self._props[name] = value


def _affected(cause: Cause, job: Job) -> str:
    """Return what the copied text says of the cause, for a reader who does not see the page."""
    return f"{count(cause.count)} of {counted(job.total_videos, 'video')} of {job.name}, for example {cause.video_id}"


def _facts(cause: Cause, job: Job) -> dict[str, object]:
    return {
        "count": count(cause.count),
        "error": cause.error,
        "short": short_reason(cause.error),
        "lies": "" if job.is_external else ADVICE[cause.fault],  # only the sender knows its files and machine
        "video": cause.video_id,
        "more": f" and {count(cause.count - 1)} more" if cause.count > 1 else "",
        "first": iso(cause.first_seen),
        "last": iso(cause.last_seen),
        "trace": cause.traceback,
    }
