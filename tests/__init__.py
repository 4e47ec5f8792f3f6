"""The tests; `ROOT` is the repository, from which the program is run."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
