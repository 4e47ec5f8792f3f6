"""The data directory for commands that work on it directly, even while a server uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from backend.domain.auth import ACCESS

if TYPE_CHECKING:
    from backend.accounts.accounts import Accounts
    from backend.domain.auth import User
    from backend.settings import Settings

DataDir = Annotated[Path | None, typer.Option(help="Directory of the data; default: ./data.")]
ADDRESS_FILE = "server.url"
LINK_SECONDS = 15 * 60


class Issuer(Protocol):
    """The part of the accounts that most commands use."""

    async def users(self) -> list[User]: ...

    async def user(self, name: str) -> User: ...

    async def issue_token(self, user: User, *, lifetime_seconds: float, purpose: str = ...) -> str: ...

    async def make_link(self, user: User, *, lifetime_seconds: float) -> str: ...


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
    from backend.clock import SystemClock
    from backend.data_directory import prepare_data_directory
    from backend.settings import load_settings
    from backend.store.database import open_database

    settings, clock = load_settings(data_dir=data_dir), SystemClock()
    prepare_data_directory(settings)
    keys = Keys.load(settings, clock)
    database = open_database(settings.database, backups=settings.data_dir / "backups")
    try:
        accounts = Accounts(database, keys, settings, clock)
        await accounts.add_admin()
        yield accounts
    finally:
        database.close()


@asynccontextmanager
async def open_issuer(data_dir: Path | None) -> AsyncIterator[Issuer]:
    """Open what most commands use of the accounts. Raises and creates like `open_accounts`, but loads less."""
    from backend.accounts.quick import open_quickly
    from backend.clock import SystemClock
    from backend.data_directory import prepare_data_directory
    from backend.settings import load_settings

    settings = load_settings(data_dir=data_dir)
    prepare_data_directory(settings)
    with open_quickly(settings, SystemClock()) as quick:
        if quick is not None:
            yield quick
            return
    async with open_accounts(data_dir) as accounts:
        yield accounts


def issue_token(data_dir: Path | None, name: str, lifetime_seconds: float, *, purpose: str = ACCESS) -> str:
    """Return a token of this user, as a program that runs no event loop needs it. Raises like `open_issuer`."""
    import asyncio  # `--help` does without it

    async def issue() -> str:
        async with open_issuer(data_dir) as accounts:
            user = await accounts.user(name)
            return await accounts.issue_token(user, lifetime_seconds=lifetime_seconds, purpose=purpose)

    return asyncio.run(issue())
