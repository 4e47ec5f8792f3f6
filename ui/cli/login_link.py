"""`login-link`: print a link that signs a user in once."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from backend.command import command
from backend.errors import Invalid
from backend.settings import ADMIN, checked_base_url, load_settings
from progress_dashboard.address import Address
from ui.cli.data import LINK_SECONDS, DataDir, open_issuer, server_address

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
    base_url = _base_url(url) if url else settings.public_url or server_address(settings)
    print(f"{base_url}/link?token={asyncio.run(_make(name, data_dir))}")
    print("The link works once, within 15 minutes.", file=sys.stderr)


def _base_url(url: str) -> str:
    address, _ = Address.parse(url, "The address of --url or DASHBOARD_URL")
    try:
        return checked_base_url(address.base)
    except ValueError as error:
        raise Invalid(f"The address of --url or DASHBOARD_URL is not valid: {error}.") from None


async def _make(name: str, data_dir: Path | None) -> str:
    async with open_issuer(data_dir) as accounts:
        return await accounts.make_link(await accounts.user(name), lifetime_seconds=LINK_SECONDS)
