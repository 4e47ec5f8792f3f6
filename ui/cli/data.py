"""What the commands share that work on the data directory itself, also while a server uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backend.settings import Settings, load_settings

if TYPE_CHECKING:
    from backend.accounts.accounts import Accounts

DataDir = Annotated[Path | None, typer.Option(help="Where the data is kept; default: ./data.")]


ADDRESS_FILE = "server.url"
LINK_SECONDS = 15 * 60


def server_address(settings: Settings) -> str:
    """Where on this machine the server of this data directory is, or was last; else where the settings put it."""
    try:
        return (settings.data_dir / ADDRESS_FILE).read_text(encoding="utf-8").strip() or settings.local_url
    except OSError:
        return settings.local_url


@asynccontextmanager
async def open_accounts(data_dir: Path | None) -> AsyncIterator[Accounts]:
    """The accounts in a data directory (None: that of the settings), made with the account `admin` when it is new.

    Raises `CannotStart` when the directory cannot be used.
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
