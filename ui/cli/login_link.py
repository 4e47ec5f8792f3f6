"""`login-link`: print a link that signs a user in once."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from backend.command import command
from backend.settings import ADMIN, load_settings
from ui.cli.data import LINK_SECONDS, DataDir, open_accounts, server_address

EXAMPLE = f"Example: {command('login-link ana')}"


def login_link(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user that the link signs in.")] = ADMIN,
    url: Annotated[
        str | None,
        typer.Option(envvar="DASHBOARD_URL", help="The address that people use; default: the server's own."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Print a link that signs a user in. It works once, within 15 minutes."""
    settings = load_settings(data_dir=data_dir)
    base_url = (url or settings.public_url or server_address(settings)).rstrip("/")
    print(f"{base_url}/link?token={asyncio.run(_make(name, data_dir))}")
    print("The link works once, within 15 minutes.", file=sys.stderr)


async def _make(name: str, data_dir: Path | None) -> str:
    async with open_accounts(data_dir) as accounts:
        return await accounts.make_link(await accounts.user(name), lifetime_seconds=LINK_SECONDS)
