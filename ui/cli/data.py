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

    async def issue_token(data_dir: Path | None, name: str, lifetime_seconds: float, *, purpose: str = ACCESS) -> str:
    """Return a token of this user, as a program that runs no event loop needs it. Raises like `open_issuer`."""
    import asyncio  # `--help` does without it

    async def issue() -> str:
        async with open_issuer(data_dir) as accounts:
            user = await accounts.user(name)
            return await accounts.issue_token(user, lifetime_seconds=lifetime_seconds, purpose=purpose)

    return asyncio.run(issue())
