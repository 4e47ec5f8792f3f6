"""Opens the database of the program: an SQLite file, or PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from backend.database_url import DatabaseUrl
from backend.store.revisions import MIGRATIONS
from backend.store.sqlite import open_sqlite
from backend.store.transactions import Cursor as Cursor
from backend.store.transactions import Database as Database


def open_database(where: Path | DatabaseUrl, *, backups: Path, migrations: Path = MIGRATIONS) -> Database:
    """Open the database; one that is empty gets its tables, an older one is migrated.

    An SQLite file is copied to `backups` before. Raises `CannotStart` if the database cannot be used.
    """
    if isinstance(where, Path):
        return open_sqlite(where, backups=backups, migrations=migrations)
    from backend.store.postgres import open_postgres  # its driver is an extra

    return open_postgres(where, migrations=migrations)
