"""The videos of a job's page: filters, search, pages, and the details of open rows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from backend.domain.job import Action, Job, Selection, offered_actions
from backend.domain.texts import counted
from backend.domain.video import Outcome, Video, VideoStatus
from backend.jobs.queries import JobQueries
from progress_dashboard.protocol import Status
from ui.components.job.video_table import VideoTable
from ui.components.shared.search_field import SearchField
from ui.session import act, current_user
from ui.text import count
from ui.theme import button, tag

ROWS = 50
ALL = "all"
SHOWS = (ALL, VideoStatus.FAILED, VideoStatus.COMPLETED, VideoStatus.PROCESSING, VideoStatus.PENDING)


@dataclass(frozen=True, slots=True)
class VideoFilter:
    """Which videos are shown, as the address says. `after` is the cursor of the page."""

    show: str = ALL
    q: str = ""
    after: str | None = None

    @classmethod
    def of(cls, *, show: str, q: str, after: str) -> VideoFilter:
        """Return the filter in an address. An unknown status counts as not given."""
        return cls(show if show in SHOWS else ALL, q, after or None)

    @property
    def status(self) -> VideoStatus | None:
        return None if self.show == ALL else VideoStatus(self.show)

    def query(self) -> Mapping[str, str]:
        """Return the parameters for the address, without default values."""
        given = {"show": "" if self.show == ALL else self.show, "q": self.q, "after": self.after}
        return {name: value for name, value in given.items() if value}


class JobVideos:
    """The content of the tab Videos. `refresh` brings it up to date in place.

    `on_select` is called when `chosen` has changed.
    """

    def __init__(
        self,
        queries: JobQueries,
        job: Job,
        chosen: VideoFilter,
        *,
        on_select: Callable[[], None],
        on_retry: Callable[[Selection], Awaitable[object]],
    ) -> None:
        self._queries = queries
        self._on_retry = on_retry
        self._job = job
        self._on_select = on_select
        self.chosen = chosen
        self._before: list[str | None] = [None] if chosen.after else []
        self._next: str | None = None
        self._open: list[int] = []
        self._shown: set[int] = set()
        self._columns: tuple[str, ...] | None = None
        self._outcomes: dict[int, tuple[int, list[Outcome]]] = {}
        self._drawing = asyncio.Lock()
        with tag("div").props("data-testid=job-videos"):
            with tag("div", classes="finding"):
                with tag("div", classes="tools"):
                    self._chips = {show: self._chip(show) for show in SHOWS}
                self._finder = SearchField(
                    chosen.q, label="Video ID or error", hook="video-search", on_search=self._search
                )
            self._table = VideoTable(is_external=job.is_external, on_opened=self._opened, on_retry=self._retry)
            self._nothing = tag("p", classes="muted nothing")
            self._draw_pager()
        self.show(job)

    def show(self, job: Job) -> None:
        """Take the job's newest state and show the counts of the filters."""
        self._job = job
        for show, (chip, number) in self._chips.items():
            videos = _videos_of(job, show)
            number.text = "" if videos is None else count(videos)
            chip.set_visibility(videos != 0 or show in (ALL, self.chosen.show) or not job.is_finished)
            chip.props(f"aria-pressed={'true' if show == self.chosen.show else 'false'}")

    async def refresh(self) -> None:
        """Show what is stored now."""
        async with self._drawing:
            chosen = self.chosen
            page = await self._queries.videos(
                self._job.id, by=current_user(), status=chosen.status, q=chosen.q, limit=ROWS, cursor=chosen.after
            )
            self._next = page.next_cursor
            self._shown = {video.position for video in page.items}
            self._table.show(page.items)
            await self._show_open(page.items)
            self._show_range(page.items)

    async def go_to(self, position: int) -> None:
        """Show this video among all of them, with its row open and in view.

        Changes the page only if the video is not on it.
        """
        if position not in self._shown:
            *self._before, after = _cursors(position)
            self._finder.empty()
            await self._select(VideoFilter(after=after), keep_pages=True)
        else:
            self._on_select()
        self._table.reveal(position)

    def _chip(self, show: str) -> tuple[Element, TextElement]:
        async def choose() -> None:
            await self._select(VideoFilter(show, self.chosen.q))

        chip = tag("button", classes="chip").props(f"type=button data-testid=show-{show}").on("click", choose)
        with chip:
            tag("b", show.capitalize())
            number = tag("span")
        return chip, number

    def _draw_pager(self) -> None:
        with tag("div", classes="pager"):
            self._range = tag("span", classes="muted small")
            self._previous_button = button("Previous", self._to_previous)
            self._next_button = button("Next", self._to_next)

    async def _search(self, q: str) -> None:
        await self._select(VideoFilter(self.chosen.show, q.strip()))

    async def _to_next(self) -> None:
        if self._next is not None:
            self._before.append(self.chosen.after)
            await self._select(replace(self.chosen, after=self._next), keep_pages=True)

    async def _to_previous(self) -> None:
        if self._before:
            await self._select(replace(self.chosen, after=self._before.pop()), keep_pages=True)

    async def _select(self, chosen: VideoFilter, *, keep_pages: bool = False) -> None:
        if not keep_pages:
            self._before.clear()
        self.chosen = chosen
        self._on_select()
        self.show(self._job)
        await act(self.refresh())

    async def _opened(self, positions: list[int]) -> None:
        self._open = positions
        await act(self.refresh())

    async def _show_open(self, videos: list[Video]) -> None:
        opened = [video for video in videos if video.position in self._open]
        if opened and self._columns is None:
            self._columns = await self._queries.columns(self._job.id, by=current_user())
        outcomes = {video.position: await self._outcomes_of(video) for video in opened}
        self._table.show_details(opened, self._columns or (), outcomes, retry=_retry_words(self._job))

    async def _outcomes_of(self, video: Video) -> list[Outcome]:
        """Return all results of a video that has more than one. Reads them only if there are new ones."""
        if video.attempts < 2 and (video.tries or 0) < 2:
            return []
        attempts, outcomes = self._outcomes.get(video.position, (0, []))
        if attempts != video.attempts:
            outcomes = await self._queries.outcomes(self._job.id, video.position, by=current_user())
            self._outcomes[video.position] = video.attempts, outcomes
        return outcomes

    async def _retry(self, position: int) -> None:
        video = await act(self._queries.video(self._job.id, position, by=current_user()))
        if video is not None:
            await self._on_retry(Selection(video_ids=(video.video_id,)))

    def _show_range(self, videos: list[Video]) -> None:
        self._nothing.text = "" if videos else _why_nothing(self.chosen)
        self._nothing.set_visibility(not videos)
        self._range.text = _range(self._job, self.chosen, videos)
        self._previous_button.set_visibility(bool(self._before))
        self._next_button.set_visibility(self._next is not None)


def _retry_words(job: Job) -> str:
    """Return the text of the button on one video; "" while the job cannot be retried."""
    if Action.RETRY_ALL not in offered_actions(job):
        return ""
    left = job.undone
    return f"Retry this video and {counted(left, 'video')} not done so far" if left else "Retry this video"


def _videos_of(job: Job, show: str) -> int | None:
    """Return the number of rows of a filter; None if a sender may have counted videos without naming them."""
    all_named = not job.is_external or job.status in (Status.COMPLETED, Status.COMPLETED_WITH_ERRORS)
    if not all_named and show not in (ALL, VideoStatus.FAILED):
        return None
    return {
        ALL: job.total_videos,
        VideoStatus.FAILED: job.failed,
        VideoStatus.COMPLETED: job.succeeded,
        VideoStatus.PROCESSING: job.running,
        VideoStatus.PENDING: job.undone - job.running,
    }[show]


def _cursors(position: int) -> list[str | None]:
    """Return the cursors of all pages of the unfiltered videos, up to the page with this one."""
    return [str(first - 1) if first else None for first in range(0, position + 1, ROWS)]


def _why_nothing(chosen: VideoFilter) -> str:
    kind = "" if chosen.show == ALL else f"{chosen.show} "
    return f"No {kind}video has that ID, or an error with these words." if chosen.q else f"No {kind}videos."


def _range(job: Job, chosen: VideoFilter, videos: list[Video]) -> str:
    if not videos:
        return ""
    if chosen.show == ALL and not chosen.q:
        return f"{count(videos[0].position + 1)} to {count(videos[-1].position + 1)} of {count(job.total_videos)}"
    return f"{count(len(videos))} shown"
