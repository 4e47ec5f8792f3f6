"""`worker`: refused, because this version has no distributed engine."""

from __future__ import annotations

from backend.command import command
from backend.errors import CannotStart
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('worker')}"


def worker(data_dir: DataDir = None) -> None:
    """Run a worker of the distributed engine. This version has none: the server runs all videos."""
    raise CannotStart(f"This version has no distributed engine, so a worker has nothing to do; run `{command()}`.")
