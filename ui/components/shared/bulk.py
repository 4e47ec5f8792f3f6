"""Actions on many jobs, from the bar of the ticked ones: their words, and performing them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.domain.job import Action, Job, offered_actions
from backend.domain.many import MAX_JOBS_AT_ONCE, ManyDone
from backend.domain.texts import counted
from backend.jobs.many import ManyJobs
from backend.jobs.queries import JobQueries
from backend.lists.exports import HISTORY_COLUMNS, csv_of_jobs, csv_start
from ui.components.shared import BROWSER_JS, BULK_BAR_JS, SELECTION_JS, WORDS_JS
from ui.components.shared.job_actions import ACTION_LOOK, EXPORT
from ui.session import act, current_user

PARTS: list[str | Path] = [BROWSER_JS, WORDS_JS, SELECTION_JS, BULK_BAR_JS]
MAX_ID_LENGTH = 64


@dataclass(frozen=True, slots=True)
class BulkLook:
    """The words of an action on many jobs; `{jobs}` is their number. Without a question it is done at once."""

    act: str
    icon: str
    text: str
    doing: str = ""
    done: str = ""
    question: str = ""
    effect: str = ""
    yes: str = ""
    no: str = "Leave them"
    is_grave: bool = False


def _look(action: str, text: str, **words: Any) -> BulkLook:
    return BulkLook(action, ACTION_LOOK[action].icon, text, yes=text, **words)


LOOKS: Mapping[str, BulkLook] = {
    look.act: look
    for look in (
        _look(
            Action.RETRY,
            "Retry failed",
            doing="Retrying",
            done="Retried",
            question="Retry the failed videos of {jobs}?",
            effect="Videos without a result are processed, too; good results stay.",
        ),
        _look(
            Action.PAUSE,
            "Pause",
            doing="Pausing",
            done="Paused",
            question="Pause {jobs}?",
            effect="Running videos are finished first; no further ones start.",
        ),
        _look(
            Action.RESUME,
            "Resume",
            doing="Resuming",
            done="Resumed",
            question="Resume {jobs}?",
            effect="They wait for their turn, and go on where they were.",
        ),
        _look(
            Action.CANCEL,
            "Cancel",
            doing="Cancelling",
            done="Cancelled",
            question="Cancel {jobs}?",
            effect="Running videos are stopped; what is done keeps its results.",
            no="Let them run",
            is_grave=True,
        ),
        _look(
            Action.KEEP,
            "Keep",
            doing="Keeping",
            done="Kept",
            question="Keep {jobs} on the dashboard?",
            effect="They stay there until they are dismissed.",
        ),
        _look(
            Action.DISMISS,
            "Dismiss",
            doing="Dismissing",
            done="Dismissed",
            question="Dismiss {jobs} from the dashboard?",
            effect="They stay in History.",
        ),
        _look(
            Action.DELETE,
            "Delete",
            doing="Deleting",
            done="Deleted",
            question="Delete {jobs} for good?",
            effect="The jobs, their results and posters are gone for good, from History as well.",
            is_grave=True,
        ),
        _look(EXPORT, "Export"),
    )
}


def bulk_looks() -> list[dict[str, Any]]:
    """Return the looks of the actions, in the order of the bar, for the component that draws it."""
    return [asdict(look) for look in LOOKS.values()]


def offered(job: Job) -> list[str]:
    """Return the names of the actions that can be done with the job now, as far as many jobs can be acted on."""
    return [action.value for action in offered_actions(job) if action in LOOKS]


def serve_bulk(
    element: Element,
    many: ManyJobs,
    queries: JobQueries,
    *,
    choose: Callable[[object], Awaitable[Sequence[Job]]],
    after: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Perform what the bar of `element` asks. `choose` returns all jobs that match, from what the browser says of them.

    Events of the element: `bulk` ({act, jobs}), `all`. Its methods: `bulkFinished`, `pickFound`. `after` follows an
    action.
    """

    async def pressed(event: GenericEventArguments) -> None:
        name, job_ids = _requested(event.args)
        if name == EXPORT:
            await act(export(queries, job_ids))
        elif name is not None:
            element.run_method("bulkFinished", await perform(many, Action(name), job_ids))
            if after is not None:
                await after()

    async def chosen(event: GenericEventArguments) -> None:
        jobs = await act(choose(event.args))
        element.run_method("pickFound", [[job.id, job.name, offered(job)] for job in jobs or ()])

    element.on("bulk", pressed)
    element.on("all", chosen)


async def perform(many: ManyJobs, action: Action, job_ids: Sequence[str]) -> dict[str, Any]:
    """Act on the jobs for the user of this page, say the result, and return it for the bar."""
    done = await act(many.act(action, by=current_user(), job_ids=job_ids))
    if done is None:  # the reason was shown
        return {"said": None, "done": [], "refused": []}
    return shown(done, said=f"{LOOKS[action].done} {counted(len(done.done), 'job')}")


def shown(done: ManyDone, *, said: str) -> dict[str, Any]:
    """Say the result of an action on many jobs unless some were refused, and return it for the bar."""
    if not done.refused:
        ui.notify(said)
    refused = [[one.job_id, one.detail] for one in done.refused]
    return {"said": said if done.done else None, "done": list(done.done), "refused": refused}


async def export(queries: JobQueries, job_ids: Sequence[str]) -> None:
    """Download the jobs as a CSV, as the export of History has them."""
    lines = await queries.export_many(job_ids, by=current_user())
    ui.download.content(csv_start(HISTORY_COLUMNS) + csv_of_jobs(lines), "jobs.csv", "text/csv; charset=utf-8")


def _requested(sent: object) -> tuple[str | None, list[str]]:
    """Return the action and the job IDs in a message of the browser; no action if there is none of that name."""
    if not isinstance(sent, dict) or sent.get("act") not in LOOKS or not isinstance(sent.get("jobs"), list):
        return None, []
    ids = [job_id for job_id in sent["jobs"] if isinstance(job_id, str) and len(job_id) <= MAX_ID_LENGTH]
    return sent["act"], ids[: MAX_JOBS_AT_ONCE + 1]
