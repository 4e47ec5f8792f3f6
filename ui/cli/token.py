"""`token`: print a JWT for scripts."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from backend.command import command
from backend.domain.texts import counted
from ui.cli.data import DataDir, open_accounts

EXAMPLE = f"Example: export DASHBOARD_TOKEN=$({command('token ana --days 30')})"
DAY_SECONDS = 86_400


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user that the script acts as.")],
    days: Annotated[int, typer.Option(min=1, max=365, help="Days until the token expires.")] = 90,
    data_dir: DataDir = None,
) -> None:
    """Print a token for scripts, and nothing else on standard output."""
    print(asyncio.run(_issue(name, days, data_dir)))
    print(
        f"Valid for {counted(days, 'day')}, or until {name}'s password changes. Keep it as secret as a password; "
        "send it as: Authorization: Bearer TOKEN",
        file=sys.stderr,
    )


async def _issue(name: str, days: int, data_dir: Path | None) -> str:
    async with open_accounts(data_dir) as accounts:
        return await accounts.issue_token(await accounts.user(name), lifetime_seconds=days * DAY_SECONDS)
