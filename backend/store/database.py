"""Opens the database of the program: an SQLite file, or PostgreSQL."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from backend.database_url import DatabaseUrl
from backend.errors import CannotStart
from backend.store.revisions import MIGRATIONS
from backend.store.sqlite import open_sqlite
from backend.store.transactions import Cursor as Cursor
from backend.store.transactions import Database as Database

NEEDED = ("psycopg", "psycopg_pool", "procrastinate")  # for PostgreSQL; the extra `postgresql`
NO_DRIVER = (
    "PostgreSQL needs packages that are not installed; run: "
    "pip install 'psycopg[binary,pool]>=3.3,<4' 'procrastinate>=3.10,<3.11'"
)


def open_database(where: Path | DatabaseUrl, *, backups: Path, migrations: Path = MIGRATIONS) -> Database:
    """Open the database; one that is empty gets its tables, an older one is migrated.

    An SQLite file is copied to `backups` before. Raises `CannotStart` if the database cannot be used.
    """
    if isinstance(where, Path):
        return open_sqlite(where, backups=backups, migrations=migrations)
    if any(find_spec(name) is None for name in NEEDED):
        raise CannotStart(NO_DRIVER)
    try:
        from backend.store.postgres import open_postgres  # its driver is an extra
    except ModuleNotFoundError as error:
        if error.name != "psycopg_binary":
            raise
        raise CannotStart(NO_DRIVER) from None
    except ImportError:  # psycopg without libpq
        raise CannotStart(NO_DRIVER) from None
    return open_postgres(where, migrations=migrations)
