"""`stats`: how things are going: figures of a period, and why videos failed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from backend.command import command
from backend.domain.periods import Period
from ui.cli.client import checked, connected
from ui.cli.data import DataDir
from ui.figures import FIGURES, PERIODS, UNKNOWN, value_in_words
from ui.text import count

EXAMPLE = f"Example: {command('stats --period 24h')}"
GAP = "  "


def stats(
    period: Annotated[str | None, typer.Option(help=f"One of {', '.join(Period)}; default: {Period.WEEK}.")] = None,
    begin: Annotated[str | None, typer.Option("--from", help="Instead of a period: its beginning, ISO 8601.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="With --from: its end; default: now.")] = None,
    processor: Annotated[str | None, typer.Option(help="Only videos of this processor.")] = None,
    name: Annotated[str | None, typer.Option(help="Only jobs of this name.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only jobs of this user; for administrators.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the server answers, as JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Show how many videos were done, how well and how fast, and why videos failed."""
    asked = {"period": period, "from": begin, "to": end, "processor": processor, "name": name, "owner": owner}
    with connected(data_dir) as client:
        answer = checked(client.get("/api/stats", params={key: value for key, value in asked.items() if value}))
    if as_json:
        sys.stdout.write(answer.text + "\n")
        return
    print("\n".join(lines(answer.json(), PERIODS.get(period or Period.WEEK, "") if begin is None else "")))


def lines(statistics: Mapping[str, Any], title: str) -> Iterator[str]:
    """Yield the lines of the table."""
    yield f"{title + ': ' if title else ''}{_minute(statistics['from'])} to {_minute(statistics['to'])} UTC"
    yield ""
    rows = [("", "", "n", "before")]
    for name, words in FIGURES.items():
        figure = statistics["figures"][name]
        before = UNKNOWN if figure["before"] is None else words.write(figure["before"])
        rows.append((words.label, value_in_words(name, figure["value"], figure["n"]), count(figure["n"]), before))
    yield from _table(rows)
    if statistics["causes"]:
        yield ""
        yield from _table([("Commonest causes", "videos", "jobs"), *map(_cause, statistics["causes"])])


def _cause(cause: Mapping[str, Any]) -> tuple[str, str, str]:
    return cause["error"], count(cause["videos"]), count(cause["jobs"])


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows with the first column aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)))
        yield GAP.join(cells).rstrip()


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")
