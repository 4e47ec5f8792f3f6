"""`export`: the history, or one job's rows with their results, as CSV."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, BinaryIO

import httpx
import typer

from backend.errors import Invalid
from ui.cli.client import checked, connected
from ui.cli.data import DataDir

EXAMPLE = "Example: python main.py export 8f3a21c9-5d1c-4c1e-8f6e-0a2f4b7d11c3 --output results.csv"


def export(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="A job's ID; without it: the history.")] = None,
    output: Annotated[Path | None, typer.Option(help="The file to write; default: standard output.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Write a CSV: a job's own rows and columns with their results, or the history of all jobs."""
    path = "/api/jobs/export.csv" if job is None else f"/api/jobs/{job}/export.csv"
    with connected(data_dir) as client, client.stream("GET", path) as response:
        checked(response)
        if output is None:
            _copy(response, sys.stdout.buffer)
            return
        try:
            with output.open("wb") as file:
                _copy(response, file)
        except OSError as error:
            raise Invalid(f"{output} cannot be written ({error.strerror}); choose another --output.") from None


def _copy(response: httpx.Response, target: BinaryIO) -> None:
    for chunk in response.iter_bytes():
        target.write(chunk)
    target.flush()
