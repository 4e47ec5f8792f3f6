"""The videos of a job's page: filters, search, pages, and what the open rows show."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from backend.jobs import WITH_FAILURES, Job, Video, VideoStatus
from backend.manager import JobManager
from ui.components.search_field import SearchField
from ui.components.video_table import VideoTable
from ui.session import act, current_user
from ui.text import count
from ui.theme import button, tag

ROWS = 50
ALL = "all"
SHOWS = (ALL, VideoStatus.FAILED, VideoStatus.COMPLETED, VideoStatus.PROCESSING, VideoStatus.PENDING)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which videos are shown, as it stands in the address; `after` is the cursor of the page."""

    show: str = ALL
    q: str = ""
    after: str | None = None

    @classmethod
    def of(cls, job: Job, *, show: str, q: str, after: str) -> Selection:
        """What an address asks for; failures first where it says nothing and there are some."""
        usual = VideoStatus.FAILED if job.status in WITH_FAILURES else ALL
        return cls(show if show in SHOWS else usual, q, after or None)

    @property
    def status(self) -> VideoStatus | None:
        return None if self.show == ALL else VideoStatus(self.show)

    def query(self) -> str:
        """As the query of the address."""
        given = {"show": self.show, "q": self.q, "after": self.after}
        return urlencode({name: value for name, value in given.items() if value})


class JobVideos:
    """The panel; `refresh` brings it up to date in place."""

    def __init__(self, manager: JobManager, job: Job, selection: Selection) -> None:
        self._manager = manager
        self._job = job
        self._selection = selection
        self._before: list[str | None] = [None] if selection.after else []
        self._next: str | None = None
        self._open: list[int] = []
        self._columns: tuple[str, ...] = ()
        self._drawing = asyncio.Lock()
        with tag("section", classes="panel").props('data-testid=job-videos aria-label="Videos"'):
            with tag("div", classes="finding"):
                with tag("div", classes="tools"):
                    self._chips = {show: self._chip(show) for show in SHOWS}
                SearchField(selection.q, label="Video ID", hook="video-search", on_search=self._search)
            self._table = VideoTable(on_opened=self._opened)
            self._nothing = tag("p", classes="muted nothing")
            self._pager()
        self.show(job)

    def show(self, job: Job) -> None:
        """The job's newest state: the filters' counts."""
        self._job = job
        for show, (chip, number) in self._chips.items():
            videos = _videos_of(job, show)
            number.text = "" if videos is None else count(videos)
            chip.set_visibility(videos != 0 or show in (ALL, self._selection.show) or not job.is_finished)
            chip.props(f"aria-pressed={'true' if show == self._selection.show else 'false'}")

    async def refresh(self) -> None:
        """Show what is stored now."""
        async with self._drawing:
            selection = self._selection
            page = await act(
                self._manager.videos(
                    self._job.id,
                    by=current_user(),
                    status=selection.status,
                    q=selection.q,
                    limit=ROWS,
                    cursor=selection.after,
                )
            )
            if page is None:
                return
            self._next = page.next_cursor
            self._table.show(page.items)
            self._show_open(page.items)
            self._tell(page.items)

    def _chip(self, show: str) -> tuple[Element, TextElement]:
        async def choose() -> None:
            await self._select(Selection(show, self._selection.q))

        chip = tag("button", classes="chip").props(f"type=button data-testid=show-{show}").on("click", choose)
        with chip:
            tag("b", show.capitalize())
            number = tag("span")
        return chip, number

    def _pager(self) -> None:
        with tag("div", classes="pager"):
            self._range = tag("span", classes="muted small")
            self._back = button("Previous", self._to_previous)
            self._on = button("Next", self._to_next)

    async def _search(self, q: str) -> None:
        await self._select(Selection(self._selection.show, q.strip()))

    async def _to_next(self) -> None:
        if self._next is not None:
            self._before.append(self._selection.after)
            await self._select(replace(self._selection, after=self._next), keep_pages=True)

    async def _to_previous(self) -> None:
        if self._before:
            await self._select(replace(self._selection, after=self._before.pop()), keep_pages=True)

    async def _select(self, selection: Selection, *, keep_pages: bool = False) -> None:
        if not keep_pages:
            self._before.clear()
        self._selection = selection
        ui.navigate.history.replace(f"/jobs/{self._job.id}?{selection.query()}")
        self.show(self._job)
        await self.refresh()

    async def _opened(self, positions: list[int]) -> None:
        self._open = positions
        if not self._columns:
            self._columns = await self._manager.columns(self._job.id, by=current_user())
        await self.refresh()

    def _show_open(self, videos: list[Video]) -> None:
        self._table.show_details([video for video in videos if video.position in self._open], self._columns)

    def _tell(self, videos: list[Video]) -> None:
        self._nothing.text = "" if videos else _why_nothing(self._selection)
        self._nothing.set_visibility(not videos)
        self._range.text = _range(self._job, self._selection, videos)
        self._back.set_visibility(bool(self._before))
        self._on.set_visibility(self._next is not None)


def _videos_of(job: Job, show: str) -> int | None:
    """How many rows there are of them; None where a sender elsewhere has counted videos without naming them."""
    if job.is_elsewhere and not job.is_finished and show not in (ALL, VideoStatus.FAILED):
        return None
    return {
        ALL: job.total_videos,
        VideoStatus.FAILED: job.failed,
        VideoStatus.COMPLETED: job.succeeded,
        VideoStatus.PROCESSING: job.running,
        VideoStatus.PENDING: job.total_videos - job.current_video - job.running,
    }[show]


def _why_nothing(selection: Selection) -> str:
    kind = "" if selection.show == ALL else f"{selection.show} "
    return f"No {kind}video begins with that ID." if selection.q else f"No {kind}videos."


def _range(job: Job, selection: Selection, videos: list[Video]) -> str:
    if not videos:
        return ""
    if selection.show == ALL and not selection.q:
        return f"{count(videos[0].position + 1)} to {count(videos[-1].position + 1)} of {count(job.total_videos)}"
    return f"{count(len(videos))} shown"
