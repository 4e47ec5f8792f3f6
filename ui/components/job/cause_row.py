"""One cause why videos of a job failed, in a row that stays the same while its numbers change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.clock import iso
from backend.domain.job import Job
from backend.domain.texts import counted
from backend.domain.video import Cause
from backend.errors import Fault
from ui.components.shared import BROWSER_JS
from ui.reasons import and_undone, short_reason
from ui.text import count

LIES = {
    Fault.PERMANENT: "Lies with the file: retry once it is mended.",
    Fault.TRANSIENT: "May go well another time.",
    Fault.MACHINE: "Lies with the machine: retry once it is mended.",
}


class CauseRow(Element, component="cause_row.vue", dependencies=[BROWSER_JS, "stack_trace.js"]):
    """Asks by `on_look` for its example, by `on_retry` for another try; `on_tick` gets whether it is chosen."""

    def __init__(
        self,
        *,
        on_look: Callable[[], Awaitable[None]],
        on_retry: Callable[[], Awaitable[None]],
        on_tick: Callable[[bool], None],
    ) -> None:
        super().__init__()

        def tick(event: GenericEventArguments) -> None:
            on_tick(event.args is True)

        self.on("look", on_look)
        self.on("retry", on_retry)
        self.on("tick", tick)

    def show(self, cause: Cause, job: Job, *, can_retry: bool, is_ticked: bool | None) -> None:
        """The cause as it is now; `is_ticked` is None where there is nothing to choose."""
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
    """For who reads it elsewhere."""
    return f"{count(cause.count)} of {counted(job.total_videos, 'video')} of {job.name}, for example {cause.video_id}"


def _facts(cause: Cause, job: Job) -> dict[str, object]:
    return {
        "count": count(cause.count),
        "error": cause.error,
        "short": short_reason(cause.error),
        "lies": "" if job.is_external else LIES[cause.fault],  # what mends it is known where it runs
        "video": cause.video_id,
        "more": f" and {count(cause.count - 1)} more" if cause.count > 1 else "",
        "first": iso(cause.first_seen),
        "last": iso(cause.last_seen),
        "trace": cause.traceback,
    }
