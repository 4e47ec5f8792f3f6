"""`worker`: what it would need."""

from __future__ import annotations

from backend.errors import CannotStart
from ui.cli.data import DataDir

EXAMPLE = "Example: python main.py worker"


def worker(data_dir: DataDir = None) -> None:
    """Work for several servers; this version runs everything in the one process of `python main.py`."""
    raise CannotStart(
        "This version has no distributed engine, so there is nothing for a worker to do: run `python main.py`."
    )
