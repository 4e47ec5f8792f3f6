"""Accounts over a database, like those of a server or a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backend.accounts.accounts import Accounts
from backend.accounts.keys import Keys
from backend.clock import Clock
from backend.settings import Settings
from backend.store.database import Database
from tests.support.databases import FILE, new_database, settings_of

PASSWORD = "correct horse"
SECRET = "s" * 32


@dataclass(frozen=True)
class AccountStore:
    """The accounts with their settings and their database."""

    settings: Settings
    database: Database
    accounts: Accounts


@contextmanager
def open_account_store(data_dir: Path, clock: Clock, **given: object) -> Iterator[AccountStore]:
    """Yield the accounts of a data directory with these settings. Several may be open over one directory."""
    settings = settings_of(data_dir, **given)
    database = new_database(data_dir / FILE)
    try:
        yield AccountStore(settings, database, accounts_over(database, clock, settings))
    finally:
        database.close()


def accounts_over(database: Database, clock: Clock, settings: Settings) -> Accounts:
    """Return the accounts in an open database."""
    return Accounts(database, Keys.load(settings, clock), settings, clock)
