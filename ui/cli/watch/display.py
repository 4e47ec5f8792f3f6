"""How `watch` shows what it has to show: live bars in a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Protocol

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.text import Text

from backend.domain.texts import counted
from progress_dashboard.protocol import Status
from ui.cli.watch.model import SHORT_ID, ConnectionState, Followed, JobLine, News, row

WIDE = 72  # columns from which a job's facts stand behind its bar
MIN_BAR_COLUMNS, MAX_BAR_COLUMNS = 8, 60
INDENT = "  "
RESERVED = {"place": 7, "failures": 8, "rate": 10, "left": 14}  # columns, so that bars keep their length
ASCII = str.maketrans({"–": "-", "…": "~", "·": "-"})


@dataclass(frozen=True, slots=True)
class StatusSign:
    """How a status is shown: a sign, the sign where there is only ASCII, and a style."""

    sign: str
    ascii_sign: str
    style: str


SIGNS: Mapping[Status, StatusSign] = {
    Status.PENDING: StatusSign("○", "o", "bright_black"),
    Status.PROCESSING: StatusSign("◐", ">", "bright_blue"),
    Status.PAUSED: StatusSign("‖", "=", "bright_black"),
    Status.COMPLETED: StatusSign("✓", "+", "green"),
    Status.COMPLETED_WITH_ERRORS: StatusSign("▲", "!", "yellow"),
    Status.FAILED: StatusSign("✗", "x", "red"),
    Status.CANCELLED: StatusSign("⊘", "/", "bright_black"),
}
CONNECTION_STYLES = {"connected": "green", "connecting": "yellow", "reconnecting": "yellow", "disconnected": "red"}


class Display(Protocol):
    """Where the watched jobs are shown."""

    def say(self, news: News) -> None:
        """Something to be read once."""

    def tell(self, words: str) -> None:
        """A sentence about the watching itself."""

    def paint(self, jobs: Sequence[Followed], connection: ConnectionState) -> None:
        """How things stand now."""


@contextmanager
def display() -> Iterator[Display]:
    """Bars in a terminal that can move its cursor, which is whole again afterwards; lines everywhere else."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False, markup=False, emoji=False)
    if not sys.stdout.isatty() or console.is_dumb_terminal:
        yield Lines()
        return
    with Live(console=console, auto_refresh=False) as live:
        yield Bars(console, live)


class Lines:
    """A line for each piece of news on standard output; troubles of the connection on standard error."""

    def __init__(self) -> None:
        self._told: ConnectionState | None = None

    def say(self, news: News) -> None:
        print(f"{news.at} {news.job}: {news.words}", flush=True)

    def tell(self, words: str) -> None:
        print(words, flush=True)

    def paint(self, jobs: Sequence[Followed], connection: ConnectionState) -> None:
        told, self._told = self._told, connection
        if told is None or (told.state, told.attempt) == (connection.state, connection.attempt):
            return
        if connection.attempt or told.attempt:
            print(connection.words, file=sys.stderr, flush=True)


class Bars:
    """The jobs' bars, drawn over each time something changed; failures stay above them."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live
        self._shown: object = None

    def say(self, news: News) -> None:
        if news.is_failure:
            self._print(Text(f"{news.job}: {news.words}", style="red"))

    def tell(self, words: str) -> None:
        self._print(Text(words))

    def paint(self, jobs: Sequence[Followed], connection: ConnectionState) -> None:
        width, height = self._console.size
        fitting = max(1, (height - 3) // (2 if width >= WIDE else 3))
        rows, more = tuple(map(row, jobs[:fitting])), len(jobs[fitting:])
        shown = (rows, more, connection, width)
        if shown != self._shown:
            self._shown = shown
            lines = picture(rows, connection, more=more, width=width, is_ascii=self._is_ascii)
            self._live.update(Text("\n", no_wrap=True, overflow="crop").join(lines), refresh=True)

    def _print(self, text: Text) -> None:
        self._console.print(_in_ascii(text) if self._is_ascii else text)

    @property
    def _is_ascii(self) -> bool:
        return self._console.options.ascii_only


def picture(
    rows: Sequence[JobLine], connection: ConnectionState, *, width: int, more: int = 0, is_ascii: bool = False
) -> list[Text]:
    """The lines of the whole display, none wider than `width`; `more` jobs are only counted."""
    draw = _wide_lines if width >= WIDE else _narrow_lines
    columns = {name: max([least, *(cell_len(getattr(row, name)) for row in rows)]) for name, least in RESERVED.items()}
    lines = [line for row in rows for line in draw(row, width, columns, is_ascii)]
    if more:
        lines.append(Text(f"{INDENT}and {counted(more, 'more job')}", style="bright_black"))
    if not connection.is_live:
        for line in lines:
            line.stylize("dim")
    lines.append(_connection_line(connection, has_jobs=bool(rows)))
    return [_cut(line, width, is_ascii) for line in lines]


def _wide_lines(row: JobLine, width: int, columns: Mapping[str, int], is_ascii: bool) -> list[Text]:
    """Name and state above, the bar with all that is counted below."""
    look = SIGNS[row.status]
    beside = cell_len(row.word) + SHORT_ID + 6 + min(cell_len(row.detail) + 2, width // 4)
    head = _head(row, width - beside, is_ascii).append("  ").append(row.word, style=look.style)
    if row.detail:
        head.append("  ").append(row.detail, style="bright_black")
    facts = Text.assemble(
        f"{row.percent:>4} %  {row.place:>{columns['place']}}  ",
        (f"{row.failures:<{columns['failures']}}", "red"),
        f"  {row.rate:>{columns['rate']}}  {row.left:<{columns['left']}}",
    )
    bar = _bar(row, min(MAX_BAR_COLUMNS, width - len(INDENT) - facts.cell_len), is_ascii)
    return [head, Text(INDENT).append_text(bar).append_text(facts)]


def _narrow_lines(row: JobLine, width: int, columns: Mapping[str, int], is_ascii: bool) -> list[Text]:
    """The name, the bar with percent and place, and the rest as far as there is room."""
    look = SIGNS[row.status]
    facts = f"{row.percent:>4} %  {row.place:>{columns['place']}}"
    rest = Text(INDENT).append(row.word, style=look.style)
    for fact, style in ((row.failures, "red"), (row.left, ""), (row.rate, ""), (row.detail, "bright_black")):
        if fact:
            rest.append(" · ", style="bright_black").append(fact, style=style)
    bar = _bar(row, width - len(INDENT) - len(facts), is_ascii)
    return [_head(row, width - SHORT_ID - 4, is_ascii), Text(INDENT).append_text(bar).append(facts), rest]


def _head(row: JobLine, room: int, is_ascii: bool) -> Text:
    """Sign, name in at most `room` columns, and short ID."""
    look = SIGNS[row.status]
    name = _cut(Text(row.name, style="bold"), max(room, MIN_BAR_COLUMNS), is_ascii)
    sign = look.ascii_sign if is_ascii else look.sign
    return Text.assemble((f"{sign} ", look.style), name, "  ", (row.short_id, "bright_black"))


def _bar(row: JobLine, width: int, is_ascii: bool) -> Text:
    """Done, failed and to do; failed videos are seen however few they are."""
    width = max(width, MIN_BAR_COLUMNS)
    filled = int(width * (row.done + row.failed) + 1e-9)
    failed = min(filled, max(1, round(width * row.failed))) if row.failed else 0
    done_sign, failed_sign, left_sign = "#x-" if is_ascii else "━━─"
    style = "green" if row.status is Status.COMPLETED_WITH_ERRORS else SIGNS[row.status].style
    return Text.assemble(
        (done_sign * (filled - failed), style),
        (failed_sign * failed, "red"),
        (left_sign * (width - filled), "bright_black"),
    )


def _connection_line(connection: ConnectionState, *, has_jobs: bool) -> Text:
    words = connection.words if has_jobs or not connection.is_live else f"{connection.words} · no active jobs"
    line = Text(words, style=CONNECTION_STYLES[connection.state])
    return line.append(" · Ctrl-C stops watching", style="bright_black")


def _cut(text: Text, width: int, is_ascii: bool) -> Text:
    """At most `width` columns, with a sign where something was cut off."""
    if is_ascii:
        text = _in_ascii(text)
    if text.cell_len > width:
        text.truncate(width - 1)
        text.append("~" if is_ascii else "…")
    return text


def _in_ascii(text: Text) -> Text:
    text.plain = text.plain.translate(ASCII)
    return text
