"""The data directory for commands that work on it directly, even while a server uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backend.settings import Settings, load_settings

if TYPE_CHECKING:
    from backend.accounts.accounts import Accounts

DataDir = Annotated[Path | None, typer.Option(help="Directory of the data; default: ./data.")]
ADDRESS_FILE = "server.url"
LINK_SECONDS = 15 * 60


def server_address(settings: Settings) -> str:
    """Return the address that the server of this data directory had last; by default the address of the settings."""
    try:
        return (settings.data_dir / ADDRESS_FILE).read_text(encoding="utf-8").strip() or settings.local_url
    except OSError:
        return settings.local_url


@asynccontextmanager
async def open_accounts(data_dir: Path | None) -> AsyncIterator[Accounts]:
    """Open the accounts in a data directory (None: that of the settings).

    Creates a new directory with the account `admin`. Raises `CannotStart` if the directory cannot be used.
    """
    from backend.accounts.accounts import Accounts  # slow to load, and `--help` does not need it
    from backend.accounts.keys import Keys
    from backend.app import prepare_data_directory
    from backend.clock import SystemClock
    from backend.store.database import open_database

    settings, clock = load_settings(data_dir=data_dir), SystemClock()
    prepare_data_directory(settings)
    keys = Keys.load(settings, clock)
    database = open_database(settings.database_path, backups=settings.data_dir / "backups")
    try:
        accounts = Accounts(database, keys, settings, clock)
        await accounts.add_admin()
        yield accounts
    finally:
        database.close()
