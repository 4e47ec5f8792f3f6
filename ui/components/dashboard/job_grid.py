"""The live grid of jobs: one element for all of them. Python makes the facts of a card, `job_grid.vue` draws it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.clock import to_millis
from backend.domain.job import Action, Job, Source
from backend.domain.texts import counted
from progress_dashboard.protocol import WITH_FAILURES, Status
from ui.components.dashboard.dashboard_view import FILTERS, ORDERS, DashboardView, choices
from ui.components.shared import (
    BROWSER_JS,
    BROWSER_NOTICES_JS,
    BULK_BAR_JS,
    COPY_BUTTON_JS,
    JOB_ACTIONS_JS,
    NOTICES_JS,
    SELECTION_JS,
    TELL_ME_JS,
    WORDS_JS,
)
from ui.components.shared.bulk import bulk_looks
from ui.components.shared.job_actions import action_looks, busy, offers, quick, requested_action
from ui.text import count, resumed, shares, spoken_progress, time_taken
from ui.theme import STALLED_LOOK, STATUS_LOOK, WAITING_ICON, looks

COLUMNS = ((0, 1), (640, 2), (1024, 3))
ATTENTION_FIRST = (
    Status.FAILED,
    Status.COMPLETED_WITH_ERRORS,
    Status.PROCESSING,
    Status.PAUSED,
    Status.PENDING,
    Status.COMPLETED,
    Status.CANCELLED,
)
STALLED_RANK = 0
RANK: Mapping[Status, int] = {status: rank for rank, status in enumerate(ATTENTION_FIRST, STALLED_RANK + 1)}
PARTS: list[str | Path] = [
    *(BROWSER_JS, BROWSER_NOTICES_JS, COPY_BUTTON_JS, JOB_ACTIONS_JS, NOTICES_JS, TELL_ME_JS, WORDS_JS),
    *(SELECTION_JS, BULK_BAR_JS),
    *("job_card.js", "job_choice.js", "job_feed.js", "row_window.js"),
]


class JobGrid(Element, component="job_grid.vue", dependencies=PARTS):
    """The head of the dashboard, and its jobs as cards or as a table, or what is shown while there are none.

    `LiveJobs` feeds it; `first` is what it draws until then. Slots: `news` above the jobs, `actions` next to the
    search, `empty` while there is no job, `note` below. Events: `watch` (asks for what changed after a position, null
    for a snapshot), `look` (the IDs of the jobs that are drawn now), `recount` (jobs appeared or left). `on_act` gets a
    job ID and the action. `on_search` gets the search text and returns the IDs of the jobs that the browser cannot
    find, because it only has the cards.
    """

    def __init__(
        self,
        view: DashboardView,
        *,
        title: str,
        show_owner: bool,
        on_act: Callable[[str, Action], Awaitable[None]],
        on_search: Callable[[str], Awaitable[Sequence[str]]],
        first: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._props["title"] = title
        self._props["show-owner"] = show_owner
        self._props["columns"] = COLUMNS
        self._props["looks"] = looks()
        self._props["stalled-look"] = asdict(STALLED_LOOK)
        self._props["actions"] = action_looks()
        self._props["bulk-actions"] = bulk_looks()
        self._props["choices"] = choices()
        self._props["begins"] = asdict(view)
        self._props["first"] = first

        async def pressed(event: GenericEventArguments) -> None:
            if requested := requested_action(event.args):
                await on_act(*requested)

        async def searched(event: GenericEventArguments) -> None:
            if isinstance(event.args, str):
                self.run_method("found", event.args, await on_search(event.args))

        self.on("act", pressed)
        self.on("search", searched)


def card(
    job: Job,
    leaves_at: datetime | None = None,
    pace: str = "",
    stalled_since: datetime | None = None,
    wait: Mapping[str, Any] | None = None,
    unusual: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the facts of a job's card. Times are milliseconds since 1970; no text is markup."""
    return {
        "id": job.id,
        "name": job.name,
        "status": job.status.value,
        "stalled": _millis(stalled_since),
        "rank": _rank(job, is_stalled=stalled_since is not None),
        "owner": job.owner,
        "demo": job.source is Source.DEMO,
        "sub": _subtitle(job),
        "progress": job.progress,
        "done": count(job.current_video),
        "total": count(job.total_videos),
        "shares": shares(job),
        "says": spoken_progress(job),
        "fact": _fact(job),
        "failed": f"{count(job.failed)} failed" if job.failed else "",
        "pace": pace,
        "now": _now(job),
        "wait": wait,
        "unusual": unusual,
        "error": job.error if job.failed or job.status is Status.FAILED else None,
        "offers": offers(job),
        "busy": busy(job),
        "quick": quick(job),
        "kept": job.pinned,
        "created": to_millis(job.created_at),
        "started": _millis(job.started_at),
        "finished": _millis(job.finished_at) if job.is_finished else None,
        "took": _took(job),
        "updated": to_millis(job.updated_at),
        "leaves": _millis(leaves_at),
    }


def job_order(
    view: DashboardView, stalled_since: Callable[[Job], datetime | None]
) -> tuple[Callable[[Job], bool], Callable[[Job], tuple[Any, ...]]]:
    """Return which jobs the view shows, and the key that orders them as the browser does."""
    facts: Mapping[str, Callable[[Job], Any]] = {
        "rank": lambda job: _rank(job, is_stalled=stalled_since(job) is not None),
        "-created": lambda job: -to_millis(job.created_at),
        "created": lambda job: to_millis(job.created_at),
        "name": lambda job: job.name_key,
        "id": lambda job: job.id,
    }
    compared = [facts[name] for name in ORDERS[view.sort].by]
    statuses = FILTERS[view.show].statuses
    return lambda job: job.status in statuses, lambda job: tuple(fact(job) for fact in compared)


def _rank(job: Job, *, is_stalled: bool) -> int:
    return STALLED_RANK if is_stalled else RANK[Status.FAILED if job.pause_reason else job.status]


def _subtitle(job: Job) -> str:
    first = [f"attempt {job.attempt}"] if job.attempt > 1 else []
    kind = ["external job"] if job.is_external else []
    return " · ".join([*first, resumed(job) or counted(job.total_videos, "video"), *kind])


def _took(job: Job) -> str:
    """Return the time that an ended job took. The browser counts the time of a running one."""
    if not job.is_finished or job.started_at is None or job.finished_at is None:
        return ""
    return time_taken(job, job.finished_at)


def _fact(job: Job) -> str:
    if job.status is Status.PENDING and not job.current_video and job.source is Source.MEDIA and not job.is_external:
        return f"{count(job.found)} of {count(job.total_videos)} found in the media directory"
    return f"{count(job.succeeded)} ok"


def _now(job: Job) -> dict[str, Any]:
    """Return what the job does now, or another sentence about it."""
    if job.is_external and not job.is_finished:
        return _reported(job)
    if job.pause_reason and job.status is Status.PAUSED:
        return {
            "icon": "error_outline",
            "text": f"Paused by itself: {job.pause_reason}",
            "is_error": True,
            "is_trouble": True,
        }
    if job.waiting_reason:
        return {"icon": WAITING_ICON, "text": job.waiting_reason, "is_waiting": True}
    if job.status is Status.PROCESSING and not job.current_video and not job.running and not job.doing:
        return {"icon": "schedule", "text": "Waiting for a free slot"}
    if job.status is Status.PROCESSING and job.video_id:
        others = f"+ {job.running - 1} more" if job.running > 1 else ""
        more = " · ".join(word for word in (job.doing, others) if word)
        return {"icon": "movie", "text": job.video_id, "is_id": True, "more": more}
    if job.status in WITH_FAILURES and job.error:
        return {"icon": "error_outline", "text": job.error, "is_error": True}
    icon = "check" if job.status is Status.COMPLETED else STATUS_LOOK[job.status].icon
    return {"icon": icon, "text": job.message}


def _reported(job: Job) -> dict[str, Any]:
    """Return the newest report of the sender. The number of running videos is unknown here."""
    if job.video_id:
        return {"icon": "movie", "text": job.video_id, "is_id": True, "more": job.message, "is_long": True}
    return {"icon": "schedule", "text": job.message}


def _millis(moment: datetime | None) -> int | None:
    return None if moment is None else to_millis(moment)
