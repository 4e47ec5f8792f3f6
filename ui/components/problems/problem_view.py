"""The content of Problems: the choice of a period, the causes, and what is said while there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backend.clock import Clock
from backend.domain.job import Job
from backend.domain.many import JobChoice
from backend.domain.moments import parse_moment
from backend.domain.problem import MAX_PROBLEMS, FailedJob, ProblemPeriod
from backend.domain.texts import counted
from backend.jobs.many import ManyJobs
from backend.jobs.problems import ProblemManager, Saying
from backend.jobs.queries import JobQueries
from ui.components.problems.problem_list import ProblemList, in_order, is_fingerprint
from ui.components.shared.bulk import serve_bulk, shown
from ui.session import act, current_user
from ui.theme import icon, link, tag

WORDS = {ProblemPeriod.NIGHT: "Last night", ProblemPeriod.WEEK: "7 days", ProblemPeriod.ALL: "All"}
NOTHING = {
    ProblemPeriod.NIGHT: "No video that failed last night still fails.",
    ProblemPeriod.WEEK: "No video that failed in the last 7 days still fails.",
    ProblemPeriod.ALL: "No video fails by its newest result.",
}


class ProblemView:
    """The causes of a period. `refresh` brings them up to date; each keeps its place and stays open."""

    def __init__(
        self, problems: ProblemManager, many: ManyJobs, queries: JobQueries, clock: Clock, period: ProblemPeriod
    ) -> None:
        self._problems, self._queries, self._many, self._clock = problems, queries, many, clock
        self._period = period
        self._shown: list[str] = []
        self._open: set[str] = set()
        self._draw_periods()
        self._list = ProblemList(
            show_owner=current_user().is_admin, on_retry=self._retry, on_say=self._say, on_open=self._toggle
        )
        serve_bulk(self._list, many, queries, choose=self._choose_all, after=self.refresh)
        self._more = tag("p", classes="note")
        self._empty = tag("section", classes="empty").props("data-testid=no-problems")
        self._list.set_visibility(False)
        self._more.set_visibility(False)
        self._empty.set_visibility(False)

    async def refresh(self) -> None:
        """Show what fails now, or why that cannot be shown. Raises `StoreRefused`."""
        user = current_user()
        problems = await self._problems.shown(self._period, by=user)
        items = in_order(problems, self._shown)
        names = [problem.fingerprint for problem in items]
        self._open &= set(names)
        where = {name: await self._jobs(name) for name in names if name in self._open}
        self._list.show(items, where, me=user.name, now=self._clock.now())
        if len(names) != len(self._shown):
            self._list.tell(f"{counted(len(names), 'cause')}." if names else "No problems.")
        self._shown = names
        self._list.set_visibility(bool(items))
        self._more.text = f"These are the {MAX_PROBLEMS} causes of most videos; there are more."
        self._more.set_visibility(problems.has_more)
        self._show_empty(is_empty=not items)

    def _draw_periods(self) -> None:
        with tag("div", classes="tools periods").props('role=group aria-label="Period"'):
            for period, words in WORDS.items():
                chip = link(words, f"/problems?period={period}", classes="btn chip")
                if period is self._period:
                    chip.props("aria-current=true")

    def _show_empty(self, *, is_empty: bool) -> None:
        self._empty.set_visibility(is_empty)
        self._empty.clear()
        if not is_empty:
            return
        with self._empty:
            icon("check_circle")
            tag("h2", "No problems: a good morning" if self._is_morning else "No problems")
            tag("p", NOTHING[self._period])
            if self._period is not ProblemPeriod.ALL:
                with tag("div", classes="act"):
                    link("Look at all times", f"/problems?period={ProblemPeriod.ALL}", classes="btn")

    @property
    def _is_morning(self) -> bool:
        return self._problems.is_morning

    async def _jobs(self, fingerprint: str) -> Sequence[FailedJob]:
        return await self._problems.jobs(fingerprint, self._period, by=current_user())

    async def _toggle(self, fingerprint: str, is_open: bool) -> None:
        if is_open:
            self._open.add(fingerprint)
            await act(self.refresh())
        else:
            self._open.discard(fingerprint)

    async def _retry(self, fingerprint: str) -> None:
        done = await act(self._problems.retry(fingerprint, self._period, by=current_user()))
        if done is None:
            return
        result = shown(done, said=f"Retried in {counted(len(done.done), 'job')}")
        names = {
            job.id: job.name
            for job in await self._queries.find_many([one.job_id for one in done.refused], by=current_user())
        }
        refused = [[job_id, detail, names.get(job_id, job_id)] for job_id, detail in result["refused"]]
        self._list.run_method("bulkFinished", {**result, "done": [], "refused": refused})

    async def _say(self, fingerprint: str, sent: Mapping[str, object]) -> None:
        async def say() -> None:
            await self._problems.say(fingerprint, saying_of(sent), by=current_user())

        await act(say())

    async def _choose_all(self, sent: object) -> Sequence[Job]:
        cause = str(sent) if is_fingerprint(sent) else None
        return await self._many.choose(JobChoice(cause=cause, period=self._period), by=current_user())


def saying_of(sent: Mapping[str, object]) -> Saying:
    """Return what a user says of a cause, from a message of the browser. Raises `Invalid`."""
    values: dict[str, Any] = {}
    if isinstance(note := sent.get("note"), str):
        values["note"] = note
    if isinstance(until := sent.get("known_until"), str):
        values["known_until"] = parse_moment(until, "Known until") if until else ""
    if isinstance(claimed := sent.get("claimed"), bool):
        values["claimed"] = claimed
    return Saying(**values)
