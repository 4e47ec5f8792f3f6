"""Opens the database of the program: an SQLite file, or PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from backend.database_url import DatabaseUrl
from backend.errors import CannotStart
from backend.store.revisions import MIGRATIONS
from backend.store.sqlite import open_sqlite
from backend.store.transactions import Cursor as Cursor
from backend.store.transactions import Database as Database

NO_DRIVER = "PostgreSQL needs a driver that is not installed; run: pip install 'psycopg[binary]>=3.3,<4'"


def open_database(where: Path | DatabaseUrl, *, backups: Path, migrations: Path = MIGRATIONS) -> Database:
    """Open the database; one that is empty gets its tables, an older one is migrated.

    An SQLite file is copied to `backups` before. Raises `CannotStart` if the database cannot be used.
    """
    if isinstance(where, Path):
        return open_sqlite(where, backups=backups, migrations=migrations)
    try:
        from backend.store.postgres import open_postgres  # its driver is an extra
    except ModuleNotFoundError as error:
        if error.name not in ("psycopg", "psycopg_binary"):
            raise
        raise CannotStart(NO_DRIVER) from None
    except ImportError:  # psycopg without libpq
        raise CannotStart(NO_DRIVER) from None
    return open_postgres(where, migrations=migrations)
