"""`token`: print a JWT for scripts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from backend.command import command
from backend.domain.texts import counted
from ui.cli.data import DataDir, issue_token

EXAMPLE = f"Example: export DASHBOARD_TOKEN=$({command('token ana --days 30')})"
DAY_SECONDS = 86_400


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user that the script acts as.")],
    days: Annotated[int, typer.Option(min=1, max=365, help="Days until the token expires.")] = 90,
    data_dir: DataDir = None,
) -> None:
    """Print a token for scripts, and nothing else on standard output."""
    print(issue_token(data_dir, name, days * DAY_SECONDS))
    print(
        f"Valid for {counted(days, 'day')}, or until {name}'s password changes. Keep it as secret as a password; "
        "send it as: Authorization: Bearer TOKEN",
        file=sys.stderr,
    )
