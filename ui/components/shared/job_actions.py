"""What can be done with a job, from its card and its page: words for every action, and the doing."""

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
"""`act`, and where they differ from its look or are asked for: `text`, `asks`."""


@dataclass(frozen=True, slots=True)
class ActionLook:
    """An action's words; those of the question where one is asked first. `is_grave`: it cannot be taken back."""

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
LIKELIEST = {Status.PROCESSING: Action.PAUSE, Status.PAUSED: Action.RESUME}


class JobActions(Element, component="job_actions.js", dependencies=[BROWSER_JS]):
    """A job's buttons on its own page; `on_act` gets what was pressed, and agreed to where that is asked."""

    def __init__(self, job: Job, *, on_act: Callable[[Action], Awaitable[None]]) -> None:
        super().__init__()
        self._props["job-id"] = job.id
        self._props["name"] = job.name
        self._props["looks"] = action_looks()
        self._props["wide"] = True
        self.show(job)

        async def pressed(event: GenericEventArguments) -> None:
            if asked := asked_for(event.args):
                await on_act(asked[1])

        self.on("act", pressed)

    def show(self, job: Job) -> None:
        """What is offered now."""
        first, *others = offers(job)
        has_likely = first["act"] != OPEN
        shown = [offer for offer in others if offer["act"] != OPEN]
        self._set("offers", [first, *shown] if has_likely else shown)
        self._set("solid", has_likely)
        self._set("busy", busy(job))

    def _set(self, prop: str, value: object) -> None:
        if self._props.get(prop) != value:
            self._props[prop] = value


def action_looks() -> dict[str, Any]:
    """The table for a component that draws actions."""
    return {str(action): asdict(look) for action, look in ACTION_LOOK.items()}


def asked_for(sent: object) -> tuple[str, Action] | None:
    """The job's id and the action that a browser names; None for what it made up."""
    if not isinstance(sent, dict):
        return None
    named = sent.get("act")
    if not isinstance(named, str) or named not in ACTION_LOOK or named in (OPEN, EXPORT):
        return None
    return str(sent.get("job")), Action(named)


async def do(manager: JobManager, job_id: str, action: Action, selection: Selection | None = None) -> bool:
    """Do it for the user of this page, and say what happened; False if it was refused."""

    async def doing() -> str:
        return _done(action, await manager.act(job_id, action, by=current_user(), selection=selection))

    return await act(doing(), said=lambda words: words) is not None


def offers(job: Job) -> list[Offer]:
    """What can be done now, the likeliest act first."""
    actions = offered_actions(job)
    likely: str = LIKELIEST.get(job.status, Action.RETRY)
    first = likely if likely in actions else EXPORT if job.is_finished else OPEN
    links = (OPEN, EXPORT) if job.is_finished else (OPEN,)
    usual = [*links[:1], *(action for action in actions if action is not Action.DELETE), *links[1:]]
    order = [first, *(act for act in usual if act != first), *(act for act in actions if act is Action.DELETE)]
    return [_offer(job, act, is_first=act == first) for act in order]


def busy(job: Job) -> str:
    """What was asked for and has not happened yet; "" when there is nothing."""
    if job.requested is None:
        return ""
    if job.requested == CANCEL:
        return "Cancelling…"
    return f"Pausing after {counted(job.running, 'video')}…" if job.running else "Pausing…"


def quick(job: Job) -> str:
    """What stands beside the time at which an ended job's card leaves: keep it, or be rid of it."""
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


def _what_retrying_all_does(job: Job) -> str:
    number = count(job.total_videos)
    return f"{number} of {number} videos are processed again; earlier results are kept."


def _what_deleting_takes(_: Job) -> str:
    return "The job, its results and posters are gone for good, from History as well."


def _what_cancel_ends(job: Job) -> str:
    left = job.undone
    rest = f"{counted(left, 'video')} {'is' if left == 1 else 'are'} not done"
    stopped = f"{counted(job.running, 'running video')} {'is' if job.running == 1 else 'are'} stopped, "
    done = counted(job.current_video, "result")
    kept = f"; the {done} {'is' if job.current_video == 1 else 'are'} kept" if job.current_video else ""
    return f"{stopped if job.running else ''}{rest}{kept}."


ASKS: Mapping[str, Callable[[Job], str]] = {
    Action.CANCEL: _what_cancel_ends,
    Action.DELETE: _what_deleting_takes,
    Action.RETRY_ALL: _what_retrying_all_does,
}
"""What exactly is touched by what cannot be taken back."""


def _done(action: Action, job: Job | None) -> str:
    """What became of it, in a sentence."""
    if job is None:
        return "Deleted"
    if action in (Action.CANCEL, Action.PAUSE):
        return job.message if job.requested else f"The job is {job.status.words}"
    if action in (Action.RETRY, Action.RETRY_ALL):
        return f"Attempt {job.attempt}: {counted(job.undone, 'video')} in line"
    if action in (Action.RUN_NEXT, Action.RUN_LAST):
        return _new_place(action, job)
    if action is Action.KEEP:
        return "Kept on the dashboard" if job.pinned else "It has left the dashboard already"
    return "Off the dashboard; it stays in History" if action is Action.DISMISS else f"The job is {job.status.words}"


def _new_place(action: Action, job: Job) -> str:
    if job.status not in (Status.PENDING, Status.PAUSED):
        return f"The job is {job.status.words} already"
    where = "before" if action is Action.RUN_NEXT else "after"
    begins = "Once it is resumed, it runs" if job.status is Status.PAUSED else "Runs"
    return f"{begins} {where} the others that wait"
