"""`submit`: create a job from a CSV."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from backend.command import command
from backend.domain.texts import counted
from backend.errors import Invalid
from ui.cli.client import checked, connected
from ui.cli.data import DataDir

EXAMPLE = "Example: " + command("submit nightly.csv --name 'Nightly batch'")
MAX_SHOWN_ROWS = 20


def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="A CSV with one video ID a row.")],
    name: Annotated[str | None, typer.Option(help="Name of the job; default: the file's name.")] = None,
    processor: Annotated[
        str, typer.Option(help="What is done with each video; external: by another program.")
    ] = "probe",
    options: Annotated[str, typer.Option(help="The processor's options as a JSON object.")] = "",
    column: Annotated[str, typer.Option(help="Name of the column with the IDs; default: it is found.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Create a job from a CSV and print its ID. Skipped rows are listed on standard error."""
    try:
        content = file.open("rb")
    except OSError as error:
        raise Invalid(f"{file} cannot be read ({error.strerror}); check the path.") from None
    with content, connected(data_dir) as client:
        form = {"name": name or file.name, "processor": processor, "options": options, "column": column}
        answer = checked(client.post("/api/jobs", files={"file": (file.name, content, "text/csv")}, data=form)).json()
        address = f"{str(client.base_url).rstrip('/')}/jobs/{answer['job_id']}"
    print(answer["job_id"])
    for line in _report(answer, address):
        print(line, file=sys.stderr)


def _report(answer: dict[str, Any], address: str) -> list[str]:
    skipped = [f"line {row['line']}: {row['value']}: duplicate, taken once" for row in answer["duplicates"]]
    skipped += [f"line {row['line']}: {row['value']}: {row['reason']}" for row in answer["invalid"]]
    more = len(skipped) - MAX_SHOWN_ROWS
    column = [f"IDs from the column {answer['column']}"] if answer["column"] else []
    return [
        f"{answer['name']}: {counted(answer['total_videos'], 'video')}, {answer['files']}",
        *column,
        *answer["notes"],
        *skipped[:MAX_SHOWN_ROWS],
        *([f"and {counted(more, 'more skipped row')}"] if more > 0 else []),
        f"Watch it at {address}",
    ]
