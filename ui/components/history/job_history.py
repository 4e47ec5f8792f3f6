"""The list of all jobs that ever ran, with search, status and order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from urllib.parse import urlencode

from nicegui import ui
from nicegui.element import Element

from backend.clock import Clock
from backend.delivery.batches import View
from backend.domain.job import Job
from backend.domain.job_filter import JobFilter, job_filter
from backend.domain.many import JobChoice
from backend.domain.texts import counted
from backend.errors import DashboardError
from backend.jobs.many import ManyJobs
from backend.jobs.queries import MAX_PAGE, JobQueries
from backend.processors import names
from progress_dashboard.protocol import EXTERNAL, Status
from ui.components.history.job_table import JobTable
from ui.components.shared.bulk import serve_bulk
from ui.components.shared.choice import choice
from ui.components.shared.date_range import DateRange
from ui.components.shared.search_field import SearchField
from ui.session import act, current_user
from ui.text import FOUND_BY, count
from ui.theme import STATUS_LOOK, button, icon, link, tag

ROWS = 50
NEWEST = "newest"
ORDERS = {NEWEST: "Newest first", "oldest": "Oldest first", "name": "By name", "updated": "Last changed first"}
ANY = ""
NAMES = {"begin": "from", "end": "to"}  # in the address, where they differ from the fields of `Search`
MINUTE, HOUR = 60, 3600
DURATIONS = {  # min_seconds-max_seconds: words
    ANY: "Any duration",
    f"-{MINUTE}": "Under 1 min",
    f"{MINUTE}-{10 * MINUTE}": "1 to 10 min",
    f"{10 * MINUTE}-{HOUR}": "10 to 60 min",
    f"{HOUR}-{6 * HOUR}": "1 to 6 h",
    f"{6 * HOUR}-": "Over 6 h",
}


@dataclass(frozen=True, slots=True)
class Search:
    """The search in the address of History, by the names used there (`begin` is `from`, `end` is `to`)."""

    q: str = ""
    status: str = ANY
    sort: str = NEWEST
    begin: str = ANY
    end: str = ANY
    min_seconds: str = ANY
    max_seconds: str = ANY
    owner: str = ANY
    processor: str = ANY

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Search:
        """Return the search in an address. Unknown words count as not given."""
        given = {name: query.get(NAMES.get(name, name), "") for name in cls.__slots__}
        status = given["status"] if given["status"] in set(Status) else ANY
        sort = given["sort"] if given["sort"] in ORDERS else NEWEST
        return cls(**{**given, "status": status, "sort": sort})

    @property
    def narrows(self) -> bool:
        return replace(self, sort=NEWEST) != Search()

    @property
    def only(self) -> JobFilter:
        """The filter. Raises `Invalid` for values that mean nothing."""
        return job_filter(
            begin=self.begin,
            end=self.end,
            min_seconds=self.min_seconds,
            max_seconds=self.max_seconds,
            owner=self.owner,
            processor=self.processor,
        )

    @property
    def choice(self) -> JobChoice:
        """The same as the choice of jobs to act on. Raises `Invalid` for values that mean nothing."""
        statuses = frozenset({Status(self.status)}) if self.status else frozenset()
        return JobChoice(statuses=statuses, q=self.q, only=self.only)

    @property
    def duration(self) -> str:
        """The chosen one of `DURATIONS`, or another one that the address has."""
        return f"{self.min_seconds}-{self.max_seconds}" if self.min_seconds or self.max_seconds else ANY

    def query(self) -> str:
        """Return the part of an address behind the question mark."""
        given = asdict(self) | {"sort": self.sort if self.sort != NEWEST else ""}
        return urlencode({NAMES.get(name, name): value for name, value in given.items() if value})

    def address(self) -> str:
        return f"/history?{query}" if (query := self.query()) else "/history"

    def export_address(self) -> str:
        """Return the address of the same jobs as a CSV."""
        return f"/api/jobs/export.csv?{query}" if (query := self.query()) else "/api/jobs/export.csv"


class JobHistory:
    """The panel of History. `refresh` reads the first page; `renew` and `update` keep the shown rows up to date.

    `owners` are the users whose jobs can be chosen, `export` is the link to the CSV of what the search leaves.
    """

    def __init__(
        self,
        queries: JobQueries,
        many: ManyJobs,
        clock: Clock,
        search: Search,
        *,
        show_owner: bool,
        owners: Sequence[str] = (),
        export: Element | None = None,
    ) -> None:
        self._export = export
        self._owners = owners
        self._count: int | None = None
        self._queries = queries
        self._many = many
        self._clock = clock
        self._search = search
        self._jobs: list[Job] = []
        self._next: str | None = None
        self._refusal = ""
        self._reading = asyncio.Lock()
        self._draw_tools(search)
        self._panel = tag("section", classes="panel")
        with self._panel:
            self._table = JobTable(show_owner=show_owner)
            serve_bulk(self._table, many, queries, choose=self._choose_all, after=self.renew)
            with tag("div", classes="pager"):
                self._range = tag("span", classes="muted small")
                self._more = button("Show more", self._show_more)
        self._empty = tag("section", classes="empty")

    async def refresh(self) -> None:
        """Show the first page of the search result."""
        async with self._reading:
            try:
                jobs, self._next = await self._read(None)
                self._count = await self._counted()
                self._refusal = ""
            except DashboardError as error:
                jobs, self._next = [], None
                self._refusal = error.sentence
            self._show(jobs)

    async def renew(self) -> None:
        """Read as many rows as are shown again, as they are stored now. Raises `DashboardError` if they are refused."""
        async with self._reading:
            jobs, self._next = await self._read(None, rows=min(max(ROWS, len(self._jobs)), MAX_PAGE))
            if (jobs, "") != (self._jobs, self._refusal):
                self._refusal = ""
                self._show(jobs)

    async def update(self, view: View) -> None:
        """Show the newest states of the shown jobs; without a search also the jobs created since, in front."""
        async with self._reading:
            newest = {job.id: job for job in view.updates}
            shown = [max(job, newest.get(job.id, job), key=lambda state: state.seq) for job in self._jobs]
            known = {job.id for job in shown}
            created = [job for job in newest.values() if job.id not in known and self._is_newer(job)]
            if created and self._search == Search():
                shown = [*sorted(created, key=lambda job: job.created_at, reverse=True), *shown]
            if shown != self._jobs:
                self._show(shown)

    async def _choose_all(self, _: object) -> Sequence[Job]:
        """Return all jobs of the search result, not only the shown ones."""
        return await self._many.choose(self._search.choice, by=current_user())

    def _is_newer(self, job: Job) -> bool:
        return not self._jobs or job.created_at > self._jobs[0].created_at

    def _draw_tools(self, search: Search) -> None:
        statuses = {ANY: "Every status"} | {
            status.value: look.word.capitalize() for status, look in STATUS_LOOK.items()
        }
        with tag("div", classes="tools filters"):
            SearchField(search.q, label="Name, job ID, video ID, error", hook="job-search", on_search=self._search_for)
            choice(statuses, search.status, label="Status", on_choice=lambda status: self._change(status=status))
            choice(ORDERS, search.sort, label="Order", on_choice=lambda sort: self._change(sort=sort))
        with tag("div", classes="tools filters"):
            self._draw_filters(search)
        self._show_export()

    def _draw_filters(self, search: Search) -> None:
        DateRange(search.begin, search.end, on_range=lambda begin, end: self._change(begin=begin, end=end))
        durations = DURATIONS if search.duration in DURATIONS else {search.duration: "As in the address"} | DURATIONS
        choice(durations, search.duration, label="Duration", on_choice=self._choose_duration)
        processors = {ANY: "Every processor"} | {name: name for name in (*names(), EXTERNAL)}
        if search.processor not in processors:
            processors[search.processor] = search.processor
        choice(processors, search.processor, label="Processor", on_choice=self._choose_processor)
        if self._owners:
            owners = {ANY: "Everybody's"} | {name: name for name in (*self._owners, search.owner) if name}
            choice(owners, search.owner, label="Owner", on_choice=self._choose_owner)

    async def _choose_duration(self, duration: str) -> None:
        least, _, most = duration.partition("-")
        await self._change(min_seconds=least, max_seconds=most)

    async def _choose_processor(self, processor: str) -> None:
        await self._change(processor=processor)

    async def _choose_owner(self, owner: str) -> None:
        await self._change(owner=owner)

    def _show_export(self) -> None:
        """Let the link lead to the jobs that the search leaves."""
        if self._export is not None:
            self._export.props(f'href="{self._search.export_address()}"')

    async def _search_for(self, q: str) -> None:
        await self._change(q=q.strip())

    async def _change(self, **changes: str) -> None:
        self._search = replace(self._search, **changes)
        ui.navigate.history.replace(self._search.address())
        self._show_export()
        self._panel.props("aria-busy=true")
        await self.refresh()
        self._panel.props("aria-busy=false")
        self._table.say(f"{self._range.text}.")

    async def _show_more(self) -> None:
        async with self._reading:
            read = await act(self._read(self._next)) if self._next is not None else None
            if read is not None:
                jobs, self._next = read
                self._show([*self._jobs, *jobs])

    async def _counted(self) -> int | None:
        """Return how many jobs the search leaves; None if it leaves all, or that is not known."""
        wanted = self._search
        if not wanted.narrows or self._next is None:
            return None
        status = Status(wanted.status) if wanted.status else None
        return await self._queries.count_found(by=current_user(), status=status, q=wanted.q, only=wanted.only)

    async def _read(self, cursor: str | None, *, rows: int = ROWS) -> tuple[list[Job], str | None]:
        """Return the jobs after `cursor`, and the cursor of the next page."""
        wanted = self._search
        while True:
            page = await self._queries.jobs(
                by=current_user(),
                status=Status(wanted.status) if wanted.status else None,
                q=wanted.q,
                sort=wanted.sort,
                only=wanted.only,
                limit=rows,
                cursor=cursor,
            )
            if page.items or page.next_cursor is None:
                return page.items, page.next_cursor
            cursor = page.next_cursor  # none among those that were looked through

    def _show(self, jobs: list[Job]) -> None:
        self._jobs = jobs
        self._table.show(jobs, now=self._clock.now())
        self._draw_state()

    def _draw_state(self) -> None:
        self._panel.set_visibility(bool(self._jobs))
        self._more.set_visibility(self._next is not None)
        self._range.text = self._range_in_words()
        known = len(self._jobs) if self._next is None else self._count
        self._table.match((known or 0) if self._search.narrows else 0)
        self._empty.clear()
        self._empty.set_visibility(not self._jobs)
        if not self._jobs:
            with self._empty:
                self._draw_empty()

    def _range_in_words(self) -> str:
        shown = counted(len(self._jobs), "job")
        if self._next is None:
            return shown
        return f"{shown}, and more" if self._count is None else f"{shown} of {count(self._count)}"

    def _draw_empty(self) -> None:
        if self._refusal:
            icon("error_outline")
            tag("h2", "History cannot be shown")
            tag("p", self._refusal)
            with tag("div", classes="act"):
                button("Try again", self.refresh, icon_name="refresh")
                if self._search.narrows:
                    link("Show all jobs", "/history", classes="btn")
        elif self._search.narrows:
            icon("search_off")
            tag("h2", "No job matches")
            found_by = f"{FOUND_BY.format(error='the newest error')}."
            tag("p", found_by if self._search.q else "No job has ended in this time, or is of this kind.")
            with tag("div", classes="act"):
                link("Show all jobs", "/history", classes="btn")
        else:
            icon("history")
            tag("h2", "No jobs yet")
            tag("p", "Every job stays here after it has left the dashboard.")
            with tag("div", classes="act"):
                link("Upload a CSV", "/lists", classes="btn primary", icon_name="upload")
