"""The actions on a job, from its card and its page: their words, which are offered, and performing them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from backend.domain.job import Action, Job, Selection, offered_actions
from backend.domain.texts import counted
from backend.jobs.manager import JobManager
from progress_dashboard.protocol import CANCEL, Status
from ui.components.shared import BROWSER_JS
from ui.session import act, current_user
from ui.text import count

OPEN, EXPORT = "open", "export"
Offer = Mapping[str, str]
"""The name of an action (`act`), its `text` if it differs from its look, and what to ask before it (`asks`)."""


@dataclass(frozen=True, slots=True)
class ActionLook:
    """The words of an action, and of the question that is asked before it. `is_grave`: it cannot be undone."""

    icon: str
    text: str
    in_button: bool = False
    is_grave: bool = False
    question: str = ""
    yes: str = ""
    no: str = ""


ACTION_LOOK: Mapping[str, ActionLook] = {
    OPEN: ActionLook("open_in_new", "Open"),
    EXPORT: ActionLook("download", "Export CSV", in_button=True),
    Action.PAUSE: ActionLook("pause", "Pause"),
    Action.RESUME: ActionLook("play_arrow", "Resume"),
    Action.RETRY: ActionLook("replay", "Retry"),
    Action.RETRY_ALL: ActionLook(
        "restart_alt", "Retry all…", question="Process all videos again?", yes="Retry all", no="Leave it"
    ),
    Action.KEEP: ActionLook("push_pin", "Keep"),
    Action.DISMISS: ActionLook("visibility_off", "Dismiss"),
    Action.RUN_NEXT: ActionLook("vertical_align_top", "Run next"),
    Action.RUN_LAST: ActionLook("vertical_align_bottom", "Run last"),
    Action.CANCEL: ActionLook(
        "block", "Cancel…", is_grave=True, question="Cancel this job?", yes="Cancel the job", no="Let it run"
    ),
    Action.DELETE: ActionLook(
        "delete", "Delete…", is_grave=True, question="Delete this job?", yes="Delete for good", no="Leave it"
    ),
}
PRIMARY = {Status.PROCESSING: Action.PAUSE, Status.PAUSED: Action.RESUME}


class JobActions(Element, component="job_actions.js", dependencies=[BROWSER_JS]):
    """The buttons on a job's page. `on_act` gets the pressed action, after the user has confirmed it if it asks."""

    def __init__(self, job: Job, *, on_act: Callable[[Action], Awaitable[None]]) -> None:
        super().__init__()
        self._props["job-id"] = job.id
        self._props["name"] = job.name
        self._props["looks"] = action_looks()
        self._props["wide"] = True
        self.show(job)

        async def pressed(event: GenericEventArguments) -> None:
            if requested := requested_action(event.args):
                await on_act(requested[1])

        self.on("act", pressed)

    def show(self, job: Job) -> None:
        """Show what is offered now."""
        first, *others = offers(job)
        has_primary = first["act"] != OPEN
        shown = [offer for offer in others if offer["act"] != OPEN]
        self._set("offers", [first, *shown] if has_primary else shown)
        self._set("solid", has_primary)
        self._set("busy", busy(job))

    def _set(self, prop: str, value: object) -> None:
        if self._props.get(prop) != value:
            self._props[prop] = value


def action_looks() -> dict[str, Any]:
    """Return the table of looks for a component that draws actions."""
    return {str(action): asdict(look) for action, look in ACTION_LOOK.items()}


def requested_action(sent: object) -> tuple[str, Action] | None:
    """Return the job ID and the action in a message of the browser; None if there is no such action."""
    if not isinstance(sent, dict):
        return None
    name = sent.get("act")
    if not isinstance(name, str) or name not in ACTION_LOOK or name in (OPEN, EXPORT):
        return None
    return str(sent.get("job")), Action(name)


async def do(manager: JobManager, job_id: str, action: Action, selection: Selection | None = None) -> bool:
    """Perform the action for the user of this page and show the result. Returns False if it was refused."""

    async def perform() -> str:
        return _result_words(action, await manager.act(job_id, action, by=current_user(), selection=selection))

    return await act(perform(), said=lambda words: words) is not None


def offers(job: Job) -> list[Offer]:
    """Return what can be done now, the primary action first."""
    actions = offered_actions(job)
    primary: str = PRIMARY.get(job.status, Action.RETRY)
    first = primary if primary in actions else EXPORT if job.is_finished else OPEN
    links = (OPEN, EXPORT) if job.is_finished else (OPEN,)
    usual = [*links[:1], *(action for action in actions if action is not Action.DELETE), *links[1:]]
    order = [first, *(act for act in usual if act != first), *(act for act in actions if act is Action.DELETE)]
    return [_offer(job, act, is_first=act == first) for act in order]


def busy(job: Job) -> str:
    """Return what was requested and has not happened yet; "" if there is nothing."""
    if job.requested is None:
        return ""
    if job.requested == CANCEL:
        return "Cancelling…"
    return f"Pausing after {counted(job.running, 'video')}…" if job.running else "Pausing…"


def quick(job: Job) -> str:
    """Return the action next to the time at which an ended job's card leaves: keep or dismiss; "" if there is none."""
    actions = offered_actions(job)
    if Action.KEEP in actions and not job.failed and job.status is not Status.FAILED:
        return Action.KEEP
    return Action.DISMISS if Action.DISMISS in actions else ""


def _offer(job: Job, act: str, *, is_first: bool) -> Offer:
    offer = {"act": str(act)}
    if act == Action.RETRY:
        offer["text"] = _retry_text(job, is_first=is_first)
    elif act == Action.RETRY_ALL:
        offer["text"] = f"Retry all {count(job.total_videos)}…"
    if asks := ASKS.get(act):
        offer["asks"] = asks(job)
    return offer


def _retry_text(job: Job, *, is_first: bool) -> str:
    what = f"Retry {count(job.retryable)}{' failed' if job.retryable == job.failed else ''}"
    return what if is_first else f"{what} of {count(job.total_videos)}"


def _retry_all_effect(job: Job) -> str:
    number = count(job.total_videos)
    return f"{number} of {number} videos are processed again; earlier results are kept."


def _delete_effect(_: Job) -> str:
    return "The job, its results and posters are gone for good, from History as well."


def _cancel_effect(job: Job) -> str:
    left = job.undone
    rest = f"{counted(left, 'video')} {'is' if left == 1 else 'are'} not done"
    stopped = f"{counted(job.running, 'running video')} {'is' if job.running == 1 else 'are'} stopped, "
    done = counted(job.current_video, "result")
    results = f"; the {done} {'is' if job.current_video == 1 else 'are'} kept" if job.current_video else ""
    return f"{stopped if job.running else ''}{rest}{results}."


ASKS: Mapping[str, Callable[[Job], str]] = {
    Action.CANCEL: _cancel_effect,
    Action.DELETE: _delete_effect,
    Action.RETRY_ALL: _retry_all_effect,
}
"""What exactly these actions touch. The user is asked before them."""


def _result_words(action: Action, job: Job | None) -> str:
    """Return the result of an action in a sentence."""
    if job is None:
        return "Deleted"
    if action in (Action.CANCEL, Action.PAUSE):
        return job.message if job.requested else f"The job is {job.status.words}"
    if action in (Action.RETRY, Action.RETRY_ALL):
        return f"Attempt {job.attempt}: {counted(job.undone, 'video')} queued"
    if action in (Action.RUN_NEXT, Action.RUN_LAST):
        return _new_place(action, job)
    if action is Action.KEEP:
        return "Kept on the dashboard" if job.pinned else "The job has already left the dashboard"
    return "Dismissed; the job stays in History" if action is Action.DISMISS else f"The job is {job.status.words}"


def _new_place(action: Action, job: Job) -> str:
    if job.status not in (Status.PENDING, Status.PAUSED):
        return f"The job is already {job.status.words}"
    where = "before" if action is Action.RUN_NEXT else "after"
    begins = "Once resumed, it runs" if job.status is Status.PAUSED else "Runs"
    return f"{begins} {where} the other waiting jobs"
