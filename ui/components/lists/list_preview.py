"""The preview of a list, shown before anything is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import merge
from itertools import islice
from pathlib import Path

from nicegui import ui

from backend.domain.job import Job
from backend.domain.pace import in_words
from backend.domain.texts import counted
from backend.jobs.courses import Preview
from backend.lists.csv_files import DELIMITERS, Duplicate, ListRow, Problem, VideoList
from backend.lists.video_list import shown
from ui.components.shared.choice import choice
from ui.text import count, size
from ui.theme import button, icon, link, tag

MAX_SHOWN_ROWS = 20
MAX_OTHER_COLUMNS = 2
ENCODINGS = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8", "utf-16": "UTF-16", "cp1252": "Windows-1252"}
EXAMPLE = (
    ("video_id", "title"),
    ("dQw4w9WgXcQ", "An ID"),
    ("https://youtu.be/jNQXAC9IVRw", "An address is reduced to its ID"),
)
Verdict = tuple[str, str]
AnyRow = ListRow | Duplicate | Problem


@dataclass(frozen=True)
class ReadList:
    """A parsed list: `found` of its videos have a file in the directory `media`, those in `missing` have none.

    `missing` covers only the videos of the first rows. `outlook` is how long it will take, if that is known.
    """

    name: str
    videos: VideoList
    found: int
    media: Path
    missing: frozenset[str]
    outlook: Preview | None = None

    @cached_property
    def first(self) -> list[AnyRow]:
        return first_rows(self.videos)

    @cached_property
    def problems(self) -> list[Duplicate | Problem]:
        return sorted([*self.videos.duplicates, *self.videos.invalid], key=lambda row: row.line)

    @property
    def column(self) -> str:
        return self.videos.column or "Video ID"

    @property
    def others(self) -> list[int]:
        """The columns shown next to the ID."""
        places = [place for place in range(len(self.videos.columns)) if place != self.videos.id_column]
        return places[:MAX_OTHER_COLUMNS]


def first_rows(videos: VideoList) -> list[AnyRow]:
    """Return the first rows of the file, good and bad, in its order."""
    kinds: tuple[tuple[AnyRow, ...], ...] = (videos.rows, videos.duplicates, videos.invalid)
    rows = merge(*kinds, key=lambda row: row.line)
    return list(islice(rows, MAX_SHOWN_ROWS))


def verdict(row: AnyRow, missing: frozenset[str]) -> Verdict:
    """Return in words what happens to a row, and the CSS class of its colour."""
    match row:
        case Duplicate():
            return f"duplicate of line {count(row.first_line)}", "warn"
        case Problem():
            return row.reason, "badc"
        case ListRow() if row.video_id in missing:
            return "no file in the media directory", "warn"
        case _:
            return "ready", ""


def in_words_of(outlook: Preview) -> str:
    """Return how long a list will take, and how that is known.

    >>> from backend.domain.pace import Estimate
    >>> in_words_of(Preview(512, 40.8e9, Estimate(4800, 4500, 5100, 6.4), 2, 1204))
    '512 videos, 40.8 GB: about 1 h 20 min with 2 slots (from 1,204 earlier videos)'
    """
    what = f"{counted(outlook.videos, 'video')}, {size(outlook.size)}"
    source = f"from {counted(outlook.results, 'earlier video')}"
    return f"{what}: {in_words(outlook.estimate)} with {counted(outlook.slots, 'slot')} ({source})"


def draw_preview(
    read: ReadList,
    *,
    on_start: Callable[[str], Awaitable[None]],
    on_download: Callable[[], Awaitable[None]],
    on_discard: Callable[[], object],
    on_column: Callable[[int], Awaitable[None]],
) -> None:
    """Draw the panel with the totals, the first rows and the button that starts the job.

    `on_column` gets the place of another column to take the IDs from.
    """
    with tag("section", classes="panel preview").props("data-testid=upload-preview"):
        _draw_heading(read)
        _draw_totals(read)
        _draw_decisions(read.videos, on_column)
        _draw_actions(read, on_start=on_start, on_download=on_download, on_discard=on_discard)
        _draw_first_rows(read)
        _draw_more_problems(read)


def draw_column_choice(name: str, columns: Sequence[str], on_column: Callable[[int], Awaitable[None]]) -> None:
    """Draw the choice of the column with the IDs, in place of the preview of a list that does not tell."""
    with tag("section", classes="panel").props("data-testid=column-choice"):
        tag("h2", name)
        with tag("div", classes="decided"):
            _draw_column_list(columns, None, on_column)


def draw_advice(media: str) -> None:
    """Draw the advice that is shown before a list is chosen."""
    with tag("section", classes="panel"):
        tag("h2", "What a list looks like")
        with tag("div", classes="advice"):
            with tag("ul", classes="plain"):
                tag("li", "One video ID, YouTube address or file name a row. Its column is found by name and content.")
                tag("li", "Other columns are kept and returned with the results in the job's export.")
                tag("li", f"A video's file is <ID>.<extension> or … [<ID>].<extension>, anywhere below {media}.")
                tag("li", "A preview of the list is shown before anything starts.")
            tag("pre", "\n".join(map(",".join, EXAMPLE))).props('aria-label="An example"')


def draw_started(job: Job) -> None:
    """Draw the link to the started job, in place of the preview."""
    with tag("section", classes="panel started").props("data-testid=upload-started"):
        with tag("h2"):
            icon("check_circle").classes("okc")
            tag("span", f"Started: {job.name}")
        tag("p", f"{counted(job.total_videos, 'video')} queued. This page can be closed.", classes="muted")
        with tag("div", classes="acts"):
            link("Open the job", f"/jobs/{job.id}", classes="btn primary")
            link("Dashboard", "/", classes="btn")


def _draw_heading(read: ReadList) -> None:
    videos = read.videos
    parts = [
        counted(videos.total_rows, "row"),
        ENCODINGS.get(videos.encoding, videos.encoding),
        DELIMITERS.get(videos.delimiter, videos.delimiter or "one column"),
        f"IDs in the column {read.column}" if videos.has_header else "no header",
    ]
    with tag("div", classes="head"):
        tag("h2", read.name)
        tag("span", " · ".join(parts), classes="muted small")


def _draw_totals(read: ReadList) -> None:
    videos = read.videos
    with tag("div", classes="sum"):
        _draw_total(len(videos.rows), "ready")
        if videos.duplicates:
            many = "duplicate" if len(videos.duplicates) == 1 else "duplicates"
            _draw_total(len(videos.duplicates), f"{many}, taken once", "warn")
        if videos.invalid:
            _draw_total(len(videos.invalid), "not an ID", "badc")
        missing = len(videos.rows) - read.found
        with tag("span"):
            tag("b", count(read.found), classes="warn" if missing else "")
            tag("span", f" of {count(len(videos.rows))} found in ")
            tag("span", str(read.media), classes="mono")
    if read.outlook is not None:
        tag("p", in_words_of(read.outlook), classes="small").props("data-testid=list-outlook")
    if missing:
        tag(
            "p",
            f"{counted(missing, 'video')} without a file will fail, each with its reason"
            f"{'; the others are processed' if read.found else ''}. "
            "If the files are elsewhere, start the server with DASHBOARD_MEDIA_DIR set to their directory.",
            classes="muted small",
        )


def _draw_decisions(videos: VideoList, on_column: Callable[[int], Awaitable[None]]) -> None:
    """Draw what was decided about the list, and the columns that can be taken instead."""
    if not videos.notes and len(videos.columns) < 2:
        return
    with tag("div", classes="decided"):
        if len(videos.columns) > 1:
            _draw_column_list(videos.columns, videos.id_column, on_column)
        for note in videos.notes:
            tag("span", note, classes="muted small")


def _draw_column_list(columns: Sequence[str], chosen: int | None, on_column: Callable[[int], Awaitable[None]]) -> None:
    options = {} if chosen is not None else {"": "Choose a column"}
    options |= {str(place): shown(name) or f"column {place + 1}" for place, name in enumerate(columns)}

    async def choose(option: str) -> None:
        if option:
            await on_column(int(option))

    with tag("label", classes="small"):
        tag("span", "IDs from the column")
        choice(options, "" if chosen is None else str(chosen), label="IDs from the column", on_choice=choose)


def _draw_total(number: int, words: str, colour: str = "") -> None:
    with tag("span"):
        tag("b", count(number), classes=colour)
        tag("span", f" {words}")


def _draw_first_rows(read: ReadList) -> None:
    shown = read.first
    names = [read.videos.columns[place] for place in read.others]
    with tag("div", classes="scroll"), tag("table", classes="rows"):
        _draw_table_head(read.column, *names)
        with tag("tbody"):
            for row in shown:
                value = row.video_id if isinstance(row, ListRow) else row.value
                others = [row.cells[place] if isinstance(row, ListRow) else "" for place in read.others]
                _draw_table_row(row.line, value, others, verdict(row, read.missing))
    if read.videos.total_rows > len(shown):
        tag("p", f"The first {len(shown)} of {counted(read.videos.total_rows, 'row')}.", classes="note")


def _draw_more_problems(read: ReadList) -> None:
    last = read.first[-1].line
    later = [row for row in read.problems if row.line > last]
    if not later:
        return
    tag("h3", "Problem rows further down")
    with tag("div", classes="scroll"), tag("table", classes="rows"):
        _draw_table_head(read.column)
        with tag("tbody"):
            for row in later[:MAX_SHOWN_ROWS]:
                _draw_table_row(row.line, row.value, [], verdict(row, read.missing))
    if len(later) > MAX_SHOWN_ROWS:
        tag("p", f"And {count(len(later) - MAX_SHOWN_ROWS)} more: all of them are in the download.", classes="note")


def _draw_table_head(column: str, *others: str) -> None:
    with tag("thead"), tag("tr"):
        tag("th", "Line")
        tag("th", column)
        for name in others:
            tag("th", name, classes="wide")
        tag("th", "Status")


def _draw_table_row(line: int, value: str, others: Sequence[str], status: Verdict) -> None:
    words, colour = status
    with tag("tr"):
        tag("td", count(line), classes="muted")
        tag("td", value, classes="mono")
        for cell in others:
            tag("td", cell, classes="wide")
        with tag("td", classes=colour):
            if colour:
                icon("error_outline" if colour == "badc" else "warning_amber", small=True)
            tag("span", f" {words}" if colour else words)


def _draw_actions(
    read: ReadList,
    *,
    on_start: Callable[[str], Awaitable[None]],
    on_download: Callable[[], Awaitable[None]],
    on_discard: Callable[[], object],
) -> None:
    name = ui.input("Name of the job", value=read.name).props("outlined dense maxlength=200").classes("job-name")
    with tag("div", classes="acts"):
        ready = len(read.videos.rows)
        words = "Start with the 1 video" if ready == 1 else f"Start with the {count(ready)}"
        _draw_start_button(words, lambda: on_start(name.value or read.name))
        if read.problems:
            rows = len(read.problems)
            words = "Download the problem row" if rows == 1 else f"Download the {count(rows)} problem rows"
            button(words, on_download, icon_name="download")
        button("Discard", on_discard, kind="ghost")


def _draw_start_button(words: str, on_start: Callable[[], Awaitable[None]]) -> None:
    async def start() -> None:
        start_button.props("disabled")
        label.text = "Starting…"
        await on_start()
        if not start_button.is_deleted:
            start_button.props(remove="disabled")
            label.text = words

    with tag("button", classes="primary").props("type=button data-testid=upload-start") as start_button:
        label = tag("span", words)
    start_button.on("click", start)
