"""`export`: write the history, or one job's rows with their results, as CSV."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, BinaryIO

import httpx
import typer

from backend.command import command
from backend.errors import Invalid
from ui.cli.client import checked, connected, find_job
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('export 8f3a21c9 --output results.csv')}"


def export(
    job: Annotated[
        str | None,
        typer.Argument(metavar="JOB", help="ID of a job, or enough of its beginning; default: all of History."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The file to write; default: standard output.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Write a CSV of a job's own rows and columns with their results, or of the history of all jobs."""
    with connected(data_dir) as client:
        path = "/api/jobs" if job is None else f"/api/jobs/{find_job(client, job)['job_id']}"
        with client.stream("GET", f"{path}/export.csv") as response:
            _write(checked(response), output)


def _write(response: httpx.Response, output: Path | None) -> None:
    if output is None and sys.stdout.isatty():
        _show(response)
        return
    if output is None:
        _copy(response, sys.stdout.buffer)
        return
    try:
        with output.open("wb") as file:
            _copy(response, file)
    except OSError as error:
        raise Invalid(f"{output} cannot be written ({error.strerror}); choose another --output.") from None


def _show(response: httpx.Response) -> None:
    """Write the CSV as text, in the encoding of the terminal; a file or a pipe gets its bytes, which are UTF-8."""
    for number, text in enumerate(response.iter_text()):
        sys.stdout.write(text if number else text.removeprefix("\ufeff"))
    sys.stdout.flush()


def _copy(response: httpx.Response, target: BinaryIO) -> None:
    for chunk in response.iter_bytes():
        target.write(chunk)
    target.flush()
