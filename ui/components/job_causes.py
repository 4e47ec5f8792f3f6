"""Why a job's videos failed: a line for each cause, and a button that tries its videos again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from nicegui.element import Element

from backend.errors import Fault
from backend.jobs import Action, Cause, Job, Selection, counted, offered
from backend.manager import JobManager
from ui.components.moment import Moment
from ui.session import act, current_user
from ui.text import count
from ui.theme import button, icon, tag

FAULT_WORDS = {
    Fault.PERMANENT: "lies with the file: retry once it is mended",
    Fault.TRANSIENT: "may go well another time",
    Fault.MACHINE: "lies with the machine: retry once it is mended",
}
SHOWN = 20
A_WHILE = timedelta(minutes=1)


class JobCauses:
    """The panel, which is there while something has failed; `refresh` brings it up to date."""

    def __init__(self, manager: JobManager, job: Job, *, on_retry: Callable[[Selection], Awaitable[None]]) -> None:
        self._manager = manager
        self._job = job
        self._on_retry = on_retry
        self._causes: list[Cause] = []
        self._read: tuple[int, int] | None = None
        self._panel = tag("section", classes="panel causes").props("data-testid=job-causes")
        self._panel.set_visibility(False)

    def show(self, job: Job) -> None:
        """The job's newest state: whether its videos can be retried."""
        earlier, self._job = self._job, job
        if (_can_retry(job), job.retryable) != (_can_retry(earlier), earlier.retryable):
            self._draw()

    async def refresh(self, job: Job) -> None:
        """Show what is stored now; reads again when other videos have failed."""
        if self._read == (job.attempt, job.failed):
            return
        causes = await act(self._manager.causes(job.id, by=current_user())) if job.failed else []
        if causes is not None:
            self._read, self._causes = (job.attempt, job.failed), causes
            self._draw()

    def _draw(self) -> None:
        causes = self._causes
        self._panel.clear()
        self._panel.set_visibility(bool(causes))
        with self._panel:
            tag("h2", "Why videos failed")
            for cause in sorted(causes[:SHOWN], key=lambda cause: not cause.fault.is_transient):
                self._draw_cause(cause)
            if causes[SHOWN:]:
                tag("p", f"and {counted(len(causes) - SHOWN, 'rarer cause')}", classes="muted small")

    def _draw_cause(self, cause: Cause) -> None:
        with tag("div", classes="cause").props("data-testid=job-cause"):
            tag("b", count(cause.count))
            with tag("div"):
                with tag("div", classes="strong"):
                    icon("error_outline", small=True).classes("badc")
                    tag("span", f" {cause.error}")
                self._draw_circumstances(cause)
            with tag("div", classes="act"):
                if _can_retry(self._job):
                    self._retry_button(cause)

    def _draw_circumstances(self, cause: Cause) -> None:
        with tag("div", classes="sub"):
            if not self._job.is_elsewhere:  # what mends it is known where it runs
                tag("span", f"{FAULT_WORDS[cause.fault].capitalize()} · ")
            tag("span", cause.video_id, classes="mono")
            tag("span", f" and {count(cause.count - 1)} more · " if cause.count > 1 else " · ")
            Moment(cause.first_seen)
            if cause.last_seen - cause.first_seen >= A_WHILE:
                tag("span", " to ")
                Moment(cause.last_seen)

    def _retry_button(self, cause: Cause) -> Element:
        async def retry() -> None:
            await self._on_retry(Selection(group=cause.fingerprint))

        left = self._job.undone
        videos = cause.count + left
        element = button(f"Retry {count(videos)} of {count(self._job.total_videos)}", retry)
        if left:
            element.props["title"] = (
                f"{counted(left, 'video')} not done so far {'is' if left == 1 else 'are'} among them"
            )
        return element


def _can_retry(job: Job) -> bool:
    return Action.RETRY in offered(job)
