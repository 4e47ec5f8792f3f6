"""New databases, copied from one that was migrated once, because migrations are half of a short test."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from backend.store.database import Database, open_database


def new_database(path: Path) -> Database:
    """Open the database at `path`; a missing one is created without migrating it."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(_migrated())
    return open_database(path, backups=path.parent / "backups")


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "migrated.sqlite3"
        open_database(path, backups=Path(directory) / "backups").close()
        return path.read_bytes()
