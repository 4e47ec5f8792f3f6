"""`worker`: what it would need."""

from __future__ import annotations

from backend.command import command
from backend.errors import CannotStart
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('worker')}"


def worker(data_dir: DataDir = None) -> None:
    """Work for several servers; this version runs everything in the one process of the server."""
    raise CannotStart(
        f"This version has no distributed engine, so there is nothing for a worker to do: run `{command()}`."
    )
