"""The list of all jobs that ever ran, with search, status and order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from nicegui import ui

from backend.clock import Clock
from backend.delivery.batches import View
from backend.domain.job import Job
from backend.domain.texts import counted
from backend.errors import DashboardError
from backend.jobs.queries import MAX_PAGE, JobQueries
from progress_dashboard.protocol import Status
from ui.components.history.job_table import JobTable
from ui.components.shared.choice import choice
from ui.components.shared.search_field import SearchField
from ui.session import act, current_user
from ui.text import FOUND_BY
from ui.theme import STATUS_LOOK, button, icon, link, tag

ROWS = 50
NEWEST = "newest"
ORDERS = {NEWEST: "Newest first", "oldest": "Oldest first", "name": "By name", "updated": "Last changed first"}
ANY = ""


@dataclass(frozen=True, slots=True)
class Search:
    """The search in the address of History."""

    q: str = ""
    status: str = ANY
    sort: str = NEWEST

    @classmethod
    def of(cls, *, q: str, status: str, sort: str) -> Search:
        """Return the search in an address. Unknown words count as not given."""
        known = status if status in set(Status) else ANY
        return cls(q, known, sort if sort in ORDERS else NEWEST)

    @property
    def narrows(self) -> bool:
        return bool(self.q or self.status)

    def address(self) -> str:
        given = {"q": self.q, "status": self.status, "sort": self.sort if self.sort != NEWEST else ""}
        query = urlencode({name: value for name, value in given.items() if value})
        return f"/history?{query}" if query else "/history"


class JobHistory:
    """The panel of History. `refresh` reads the first page; `renew` and `update` keep the shown rows up to date."""

    def __init__(self, queries: JobQueries, clock: Clock, search: Search, *, show_owner: bool) -> None:
        self._queries = queries
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
            with tag("div", classes="pager"):
                self._range = tag("span", classes="muted small")
                self._more = button("Show more", self._show_more)
        self._empty = tag("section", classes="empty")

    async def refresh(self) -> None:
        """Show the first page of the search result."""
        async with self._reading:
            try:
                jobs, self._next = await self._read(None)
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

    async def _search_for(self, q: str) -> None:
        await self._change(q=q.strip())

    async def _change(self, **changes: str) -> None:
        self._search = replace(self._search, **changes)
        ui.navigate.history.replace(self._search.address())
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

    async def _read(self, cursor: str | None, *, rows: int = ROWS) -> tuple[list[Job], str | None]:
        """Return the jobs after `cursor`, and the cursor of the next page."""
        wanted = self._search
        while True:
            page = await self._queries.jobs(
                by=current_user(),
                status=Status(wanted.status) if wanted.status else None,
                q=wanted.q,
                sort=wanted.sort,
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
        self._range.text = f"{counted(len(self._jobs), 'job')}{', and more' if self._next else ''}"
        self._empty.clear()
        self._empty.set_visibility(not self._jobs)
        if not self._jobs:
            with self._empty:
                self._draw_empty()

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
            tag("p", f"{FOUND_BY.format(error='the newest error')}.")
            with tag("div", classes="act"):
                link("Show all jobs", "/history", classes="btn")
        else:
            icon("history")
            tag("h2", "No jobs yet")
            tag("p", "Every job stays here after it has left the dashboard.")
            with tag("div", classes="act"):
                link("Upload a CSV", "/lists", classes="btn primary", icon_name="upload")
