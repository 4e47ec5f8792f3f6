"""`token`: print a JWT for scripts."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from backend.command import command
from backend.domain.auth import ACCESS, METRICS
from backend.domain.texts import counted
from ui.cli.data import DataDir, issue_token

EXAMPLE = f"Example: export DASHBOARD_TOKEN=$({command('token ana --days 30')})"
DAY_SECONDS = 86_400
ONLY_METRICS = "It reads /metrics and nothing else. "


class Scope(StrEnum):
    """What a token is for."""

    ACCESS = ACCESS
    METRICS = METRICS


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user that the script acts as.")],
    days: Annotated[int, typer.Option(min=1, max=365, help="Days until the token expires.")] = 90,
    scope: Annotated[Scope, typer.Option(help="What the token is for: all that its user may do, or only /metrics.")] = (
        Scope.ACCESS
    ),
    data_dir: DataDir = None,
) -> None:
    """Print a token for scripts, and nothing else on standard output."""
    print(issue_token(data_dir, name, days * DAY_SECONDS, purpose=scope))
    only = ONLY_METRICS if scope is Scope.METRICS else ""
    print(
        f"{only}Valid for {counted(days, 'day')}, or until {name}'s password changes. Keep it as secret as a password; "
        "send it as: Authorization: Bearer TOKEN",
        file=sys.stderr,
    )
