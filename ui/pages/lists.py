"""Lists: a CSV of video IDs becomes a job."""

from __future__ import annotations

import asyncio
import uuid
from typing import BinaryIO

from nicegui import ui

from backend import Backend
from backend.domain.habits import Work
from backend.domain.texts import counted
from backend.jobs.submission import Order
from backend.lists.csv_files import ColumnUndecided, ListRow, VideoList, read_video_list
from backend.lists.exports import csv_rows, csv_start, export_file_name
from ui.components.lists.list_preview import (
    EXAMPLE,
    ReadList,
    draw_advice,
    draw_column_choice,
    draw_preview,
    draw_started,
    first_rows,
    verdict,
)
from ui.components.lists.list_upload import ListUpload
from ui.frame import frame_of
from ui.session import act, current_user, page
from ui.theme import button, tag

TEMPLATE = csv_start(EXAMPLE[0]) + csv_rows(EXAMPLE[1:])


def add_lists_page(backend: Backend) -> None:
    """Attach `/lists`."""

    @page("/lists")
    def lists_page() -> None:
        with frame_of(backend, "Lists", "lists", current_user()):
            _draw_heading(str(backend.sources.media.root))
            UploadFlow(backend)


class UploadFlow:
    """The steps of a list: chosen, previewed, started."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._upload = ListUpload(self.take)
        self._result = tag("div")
        self._show_advice()

    async def take(self, name: str, file: BinaryIO) -> None:
        """Read a list and show its preview, or the choice of a column if the list does not tell which has the IDs."""
        self._show_advice()
        try:
            await self._show(name, file)
        except ColumnUndecided as error:
            self._result.clear()
            with self._result:
                draw_column_choice(name, error.columns, lambda place: self._take_column(place, name, file))
            raise

    async def _take_column(self, place: int, name: str, file: BinaryIO, shown: int | None = None) -> None:
        """Read the list once more with another column; without one ID in it, show again what was `shown`."""
        if await act(self._show(name, file, place)) is None and shown is not None:
            await self._show(name, file, shown)

    async def _show(self, name: str, file: BinaryIO, column: int | None = None) -> ReadList:
        read = await read_list(self._backend, name, file, column)
        key = uuid.uuid4().hex
        self._result.clear()
        with self._result:
            draw_preview(
                read,
                on_start=lambda title: self.start(read, title, key),
                on_download=lambda: _download_problems(read),
                on_discard=self.discard,
                on_column=lambda place: self._take_column(place, name, file, read.videos.id_column),
            )
        self._upload.forget_problem()
        self._upload.say(f"{name}: {counted(len(read.videos.rows), 'video')} ready.")
        return read

    def discard(self) -> None:
        """Drop the chosen list."""
        self._show_advice()
        self._upload.say("Discarded.")

    async def start(self, read: ReadList, title: str, key: str) -> None:
        """Create the job; repeated clicks create it once."""
        manager = self._backend.manager
        order = Order(name=title)
        submission = await act(manager.submit(read.videos, order, by=current_user(), idempotency_key=key))
        if submission is not None:
            self._result.clear()
            with self._result:
                draw_started(submission.job)
            self._upload.say(f"Started: {submission.job.name}.")

    def _show_advice(self) -> None:
        self._result.clear()
        with self._result:
            draw_advice(str(self._backend.sources.media.root))


async def read_list(backend: Backend, name: str, file: BinaryIO, column: int | None = None) -> ReadList:
    """Read the list and look up its files; `column` is the place of the IDs, None to find it.

    Raises `DashboardError` if it cannot be taken.
    """
    videos = await asyncio.to_thread(read_video_list, file, column=column)
    found = await backend.sources.media.count_found([row.video_id for row in videos.rows])
    missing = await _missing(backend, videos) if found < len(videos.rows) else frozenset()
    order = Order(name=name)
    work = Work(order.processor, order.source, order.checked_options())
    outlook = await backend.courses.preview([row.video_id for row in videos.rows], work)
    return ReadList(name, videos, found, backend.sources.media.root, missing, outlook)


async def _missing(backend: Backend, videos: VideoList) -> frozenset[str]:
    ids = [row.video_id for row in first_rows(videos) if isinstance(row, ListRow)]
    return frozenset([video_id for video_id in ids if not await backend.sources.media.count_found([video_id])])


async def _download_problems(read: ReadList) -> None:
    content = await asyncio.to_thread(_problem_rows, read)
    ui.download.content(content, export_file_name(f"problems-{read.name}"), "text/csv")


def _problem_rows(read: ReadList) -> bytes:
    rows = ((row.line, row.value, verdict(row, read.missing)[0]) for row in read.problems)
    return csv_start(["line", read.column, "problem"]) + csv_rows(rows)


def _draw_heading(media: str) -> None:
    with tag("div", classes="lead"):
        with tag("div"):
            tag("h1", "Lists")
            with tag("p", "A CSV of video IDs becomes a job. Media directory: "):
                tag("span", media, classes="mono")
        with tag("div", classes="act"):
            button("Template", _download_template, icon_name="description")


def _download_template() -> None:
    ui.download.content(TEMPLATE, "template.csv", "text/csv")
