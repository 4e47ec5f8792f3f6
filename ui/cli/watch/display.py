"""The display of `watch`: live bars in a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.text import Text

from backend.domain.texts import counted
from progress_dashboard.protocol import Status
from ui.cli.watch.model import CONNECTED, SHORT_ID, ConnectionState, FollowedJob, JobLine, News, job_line

WIDE_COLUMNS = 72  # width from which a job's facts are beside its bar
MIN_BAR_COLUMNS, MAX_BAR_COLUMNS = 8, 60
INDENT = "  "
MIN_COLUMNS = {"count": 7, "failures": 8, "rate": 10, "left": 14}  # reserved, so that the bars keep their length
ASCII = str.maketrans({"–": "-", "…": "~", "·": "-"})


@dataclass(frozen=True, slots=True)
class StatusSign:
    """The look of a status: a symbol, its ASCII form, and a style."""

    symbol: str
    ascii_symbol: str
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
CONNECTION_STYLES = {
    "connected": "green",
    "waiting": "yellow",
    "connecting": "yellow",
    "reconnecting": "yellow",
    "disconnected": "red",
}


class Display(Protocol):
    """The output of `watch`."""

    def announce(self, news: News) -> None:
        """Print news once."""

    def write(self, sentence: str) -> None:
        """Print a sentence about the command itself."""

    def draw(self, jobs: Sequence[FollowedJob], connection: ConnectionState) -> None:
        """Show the present state."""


@contextmanager
def open_display() -> Iterator[Display]:
    """Open bars in a terminal that can move its cursor, and restore it afterwards; otherwise lines."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not sys.stdout.isatty() or console.is_dumb_terminal:
        yield Lines()
        return
    with Live(console=console, auto_refresh=False) as live:
        yield Bars(console, live)


class Lines:
    """Prints news on standard output and connection problems on standard error, one per line."""

    def __init__(self) -> None:
        self._last = CONNECTED

    def announce(self, news: News) -> None:
        print(f"{news.at} {news.job}: {news.text}", flush=True)

    def write(self, sentence: str) -> None:
        print(sentence, flush=True)

    def draw(self, jobs: Sequence[FollowedJob], connection: ConnectionState) -> None:
        last, self._last = self._last, connection
        if (last.attempt, last.cause, last.state) == (connection.attempt, connection.cause, connection.state):
            return
        if connection.attempt or connection.cause or last.attempt or last.cause:
            print(connection.text, file=sys.stderr, flush=True)


class Bars:
    """Draws the bars of the jobs in place after each change, and prints failures above them."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live
        self._shown: object = None

    def announce(self, news: News) -> None:
        if news.is_failure:
            self._print(Text(f"{news.job}: {news.text}", style="red"))

    def write(self, sentence: str) -> None:
        self._print(Text(sentence))

    def draw(self, jobs: Sequence[FollowedJob], connection: ConnectionState) -> None:
        width, height = self._console.size
        fitting = max(1, (height - 3) // (2 if width >= WIDE_COLUMNS else 3))
        job_lines, more = tuple(map(job_line, jobs[:fitting])), len(jobs[fitting:])
        shown = (job_lines, more, connection, width)
        if shown != self._shown:
            self._shown = shown
            lines = picture(job_lines, connection, more=more, width=width, is_ascii=self._is_ascii)
            self._live.update(Text("\n", no_wrap=True, overflow="crop").join(lines), refresh=True)

    def _print(self, text: Text) -> None:
        self._console.print(_in_ascii(text) if self._is_ascii else text)

    @property
    def _is_ascii(self) -> bool:
        return self._console.options.ascii_only


def picture(
    jobs: Sequence[JobLine], connection: ConnectionState, *, width: int, more: int = 0, is_ascii: bool = False
) -> list[Text]:
    """Return the lines of the whole display, none wider than `width`. `more` jobs are only counted."""
    draw = _wide_lines if width >= WIDE_COLUMNS else _narrow_lines
    columns = {
        name: max([least, *(cell_len(getattr(job, name)) for job in jobs)]) for name, least in MIN_COLUMNS.items()
    }
    lines = [line for job in jobs for line in draw(job, width, columns, is_ascii)]
    if more:
        lines.append(Text(f"{INDENT}and {counted(more, 'more job')}", style="bright_black"))
    if not connection.is_live:
        for line in lines:
            line.stylize("dim")
    lines.append(_connection_line(connection, has_jobs=bool(jobs)))
    return [_cut(line, width, is_ascii) for line in lines]


def _wide_lines(job: JobLine, width: int, columns: Mapping[str, int], is_ascii: bool) -> list[Text]:
    """Return a line with name and status, and one with the bar and all counts."""
    beside = cell_len(job.word) + SHORT_ID + 6 + min(cell_len(job.detail) + 2, width // 4)
    head = _head(job, width - beside, is_ascii).append("  ").append(job.word, style=SIGNS[job.status].style)
    if job.detail:
        head.append("  ").append(job.detail, style="bright_black")
    facts = Text.assemble(
        f"{job.percent:>4} %  {job.count:>{columns['count']}}  ",
        (f"{job.failures:<{columns['failures']}}", "red"),
        f"  {job.rate:>{columns['rate']}}  {job.left:<{columns['left']}}",
    )
    bar = _bar(job, min(MAX_BAR_COLUMNS, width - len(INDENT) - facts.cell_len), is_ascii)
    return [head, Text(INDENT).append_text(bar).append_text(facts)]


def _narrow_lines(job: JobLine, width: int, columns: Mapping[str, int], is_ascii: bool) -> list[Text]:
    """Return a line with the name, one with the bar and the count, and one with the rest."""
    facts = f"{job.percent:>4} %  {job.count:>{columns['count']}}"
    rest = Text(INDENT).append(job.word, style=SIGNS[job.status].style)
    for fact, style in ((job.failures, "red"), (job.left, ""), (job.rate, ""), (job.detail, "bright_black")):
        if fact:
            rest.append(" · ", style="bright_black").append(fact, style=style)
    bar = _bar(job, width - len(INDENT) - len(facts), is_ascii)
    return [_head(job, width - SHORT_ID - 4, is_ascii), Text(INDENT).append_text(bar).append(facts), rest]


def _head(job: JobLine, name_columns: int, is_ascii: bool) -> Text:
    """Return the symbol, the name in at most `name_columns` columns, and the short ID."""
    sign = SIGNS[job.status]
    name = _cut(Text(job.name, style="bold"), max(name_columns, MIN_BAR_COLUMNS), is_ascii)
    symbol = sign.ascii_symbol if is_ascii else sign.symbol
    return Text.assemble((f"{symbol} ", sign.style), name, "  ", (job.short_id, "bright_black"))


def _bar(job: JobLine, width: int, is_ascii: bool) -> Text:
    """Return the bar of done, failed and remaining videos. At least one column shows failures."""
    width = max(width, MIN_BAR_COLUMNS)
    filled = int(width * (job.done + job.failed) + 1e-9)
    failed = min(filled, max(1, round(width * job.failed))) if job.failed else 0
    done_mark, failed_mark, left_mark = "#x-" if is_ascii else "━━─"
    style = "green" if job.status is Status.COMPLETED_WITH_ERRORS else SIGNS[job.status].style
    return Text.assemble(
        (done_mark * (filled - failed), style),
        (failed_mark * failed, "red"),
        (left_mark * (width - filled), "bright_black"),
    )


def _connection_line(connection: ConnectionState, *, has_jobs: bool) -> Text:
    text = connection.text if has_jobs or not connection.is_live else f"{connection.text} · no active jobs"
    line = Text(text, style=CONNECTION_STYLES[connection.state])
    return line.append(" · Ctrl-C stops watching", style="bright_black")


def _cut(text: Text, width: int, is_ascii: bool) -> Text:
    """Return at most `width` columns of the text, with a mark where it was cut off."""
    if is_ascii:
        text = _in_ascii(text)
    if text.cell_len > width:
        text.truncate(width - 1)
        text.append("~" if is_ascii else "…")
    return text


def _in_ascii(text: Text) -> Text:
    text.plain = text.plain.translate(ASCII)
    return text
