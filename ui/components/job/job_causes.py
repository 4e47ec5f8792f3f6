"""Why a job's videos failed: a row for each cause, and one button that retries several causes together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import islice

from backend.domain.job import Action, Job, Selection, offered_actions
from backend.domain.texts import counted
from backend.domain.video import MAX_CAUSES, Cause
from backend.jobs.queries import JobQueries
from progress_dashboard.protocol import Status
from ui.components.job.cause_row import CauseRow
from ui.reasons import retry_words, short_reason
from ui.session import current_user
from ui.theme import tag

MAX_FIRST_ROWS = 20  # a cause that becomes one of the most frequent later is added


class JobCauses:
    """The content of the tab Errors. `refresh` brings it up to date; each row keeps its place and stays open."""

    def __init__(
        self,
        queries: JobQueries,
        job: Job,
        *,
        on_show_video: Callable[[int], Awaitable[None]],
        on_retry: Callable[[Selection], Awaitable[object]],
    ) -> None:
        self._queries = queries
        self._job = job
        self._on_show_video = on_show_video
        self._on_retry = on_retry
        self._causes: dict[str, Cause] = {}
        self._rows: dict[str, CauseRow] = {}
        self._ticked: dict[str, bool] = {}
        self._more = 0
        self._are_all_read = True
        self._read: tuple[int, int] | None = None
        with tag("div", classes="causes").props("data-testid=job-causes"):
            self._draw_choice()
            self._list = tag("div").props('role=list aria-label="Causes"')
            self._others = tag("p", classes="muted small")
            self._nothing = tag("p", classes="muted nothing")
        self._draw()

    def show(self, job: Job) -> None:
        """Take the job's newest state, which decides whether its videos can be retried."""
        earlier, self._job = self._job, job
        if _state(job) != _state(earlier):
            self._draw()

    async def refresh(self, job: Job) -> None:
        """Show what is stored now. Reads only if other videos have failed since the last time."""
        if self._read == (job.attempt, job.failed):
            return
        self._take(await self._queries.causes(job.id, by=current_user()) if job.failed else [])
        self._read = job.attempt, job.failed
        self._draw()

    def _take(self, causes: list[Cause]) -> None:
        """Take the causes. Shown ones keep their places; new ones among the most frequent come after them."""
        found = {cause.fingerprint: cause for cause in causes}
        shown = [name for name in self._causes if name in found]
        shown += [name for name in islice(found, MAX_FIRST_ROWS) if name not in self._causes]
        self._causes = {name: found[name] for name in shown}
        self._more, self._are_all_read = len(found) - len(shown), len(found) < MAX_CAUSES
        for name in self._rows.keys() - self._causes.keys():
            self._rows.pop(name).delete()
        with self._list:
            self._rows |= {name: self._row(name) for name in shown if name not in self._rows}

    def _row(self, name: str) -> CauseRow:
        async def show_video() -> None:
            await self._on_show_video(self._causes[name].position)

        async def retry() -> None:
            await self._on_retry(Selection(groups=(name,)))

        def tick(is_ticked: bool) -> None:
            self._ticked[name] = is_ticked
            self._draw()

        return CauseRow(on_show_video=show_video, on_retry=retry, on_tick=tick)

    def _draw_choice(self) -> None:
        with tag("div", classes="several") as self._choice:
            tag("span", "The selected causes are retried together.", classes="muted small")
            self._retry_button = tag("button").props("type=button data-testid=retry-causes").on("click", self._retry)
            with self._retry_button:
                self._retry_text = tag("span")

    async def _retry(self) -> None:
        names = tuple(name for name, cause in self._causes.items() if self._is_ticked(cause))
        if names:
            await self._on_retry(Selection(groups=names))

    def _is_ticked(self, cause: Cause) -> bool:
        return self._ticked.get(cause.fingerprint, cause.fault.is_transient)

    def _draw(self) -> None:
        can_retry = Action.RETRY in offered_actions(self._job)
        is_choice = can_retry and len(self._causes) > 1
        for name, cause in self._causes.items():
            ticked = self._is_ticked(cause) if is_choice else None
            self._rows[name].show(cause, self._job, can_retry=can_retry, is_ticked=ticked)
        self._choice.set_visibility(is_choice)
        if is_choice:
            self._update_choice()
        at_least = "" if self._are_all_read else "at least "
        self._others.text = f"and {at_least}{counted(self._more, 'more cause')}"
        self._others.set_visibility(self._more > 0)
        self._nothing.text = _why_nothing(self._job)
        self._nothing.set_visibility(not self._causes)

    def _update_choice(self) -> None:
        chosen = [(cause.count, short_reason(cause.error)) for cause in self._causes.values() if self._is_ticked(cause)]
        self._retry_text.text = retry_words(chosen, self._job)
        self._retry_button.props("" if chosen else "disabled", remove="disabled" if chosen else "")


def _state(job: Job) -> tuple[object, ...]:
    """Return the facts of the job whose change redraws the rows."""
    can_retry = Action.RETRY in offered_actions(job)
    return job.status, job.failed > 0, can_retry, can_retry and job.undone


def _why_nothing(job: Job) -> str:
    if job.failed:
        return "The errors are not known yet."
    if job.status is Status.FAILED:
        return "The job itself failed, not its videos: see above."
    if job.status is Status.COMPLETED_WITH_ERRORS:
        return "Its sender reported errors, but no failed video."
    return "No video has failed." if job.is_finished else "No video has failed so far."
