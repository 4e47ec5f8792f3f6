"""A file in the output directory, named after the database: a worker that does not see it has another directory."""

from __future__ import annotations

from pathlib import Path


def marker(outputs: Path, database_id: str) -> Path:
    """Return where the server of this database leaves its mark."""
    return outputs / f".database-{database_id}"


def leave_marker(outputs: Path, database_id: str) -> None:
    """Let workers see that this is the directory of the server's outputs. Raises `OSError`."""
    outputs.mkdir(parents=True, exist_ok=True)
    marker(outputs, database_id).write_text("The outputs of one database of the progress dashboard; keep this file.\n")
