"""A file in the output directory, named after the database: a worker that does not see it has another directory."""

from __future__ import annotations

from pathlib import Path

from backend.domain.os_errors import quoted, reason_of


def marker(outputs: Path, database_id: str) -> Path:
    """Return where the server of this database leaves its mark."""
    return outputs / f".database-{database_id}"


def leave_marker(outputs: Path, database_id: str) -> None:
    """Let workers see that this is the directory of the server's outputs. Raises `OSError`."""
    outputs.mkdir(parents=True, exist_ok=True)
    marker(outputs, database_id).write_text("The outputs of one database of the progress dashboard; keep this file.\n")


def unseen(outputs: Path, database_id: str) -> str | None:
    """Return the sentence of a worker that does not see the server's outputs; None if it does."""
    try:
        marker(outputs, database_id).stat()
    except OSError as error:
        return (
            f"This worker does not see the server's outputs in {quoted(outputs.absolute())} ({reason_of(error)}); "
            "mount the server's directory of outputs there, or correct DASHBOARD_OUTPUT_DIR."
        )
    return None
