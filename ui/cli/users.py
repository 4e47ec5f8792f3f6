"""`users`: manage the users of the dashboard."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backend.command import command
from backend.errors import Invalid
from ui.cli.data import DataDir, open_accounts, open_issuer

if TYPE_CHECKING:
    from backend.domain.auth import User

app = typer.Typer(
    no_args_is_help=True,
    help="Add, list and disable users, and set their passwords.",
    epilog=f"Example: {command('users list')}",
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits and . _ - @; not case-sensitive.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]

MORE_WORDS = {"allow_extra_args": True}  # so that `_refuse_more` names them, and not the library, which repeats them


@app.command("add", context_settings=MORE_WORDS, epilog=f"Example: {command('users add ana --admin')}")
def add(
    context: typer.Context,
    name: Name,
    admin: Annotated[bool, typer.Option("--admin", help="May see and do everything.")] = False,
    password_stdin: PasswordStdin = False,
    data_dir: DataDir = None,
) -> None:
    """Add a user. Asks for the password twice."""
    _refuse_more(context)
    user = asyncio.run(_add(name, read_password(password_stdin), admin, data_dir))
    print(f"Added {user.name}.")


@app.command("list", epilog=f"Example: {command('users list')}")
def list_users(data_dir: DataDir = None) -> None:
    """List all users."""
    print(table(asyncio.run(_users(data_dir))))


@app.command("passwd", context_settings=MORE_WORDS, epilog=f"Example: {command('users passwd ana')}")
def passwd(context: typer.Context, name: Name, password_stdin: PasswordStdin = False, data_dir: DataDir = None) -> None:
    """Set a user's password. Asks for it twice, and ends all sessions and tokens of the user."""
    _refuse_more(context)
    user = asyncio.run(_passwd(name, password_stdin, data_dir))
    print(f"Set the password of {user.name}; all their sessions and tokens have ended.")


@app.command("disable", epilog=f"Example: {command('users disable ana')}")
def disable(name: Name, data_dir: DataDir = None) -> None:
    """Lock a user out at once. Their jobs are kept."""
    user = asyncio.run(_disable(name, data_dir))
    print(f"Disabled {user.name}; all their sessions and tokens have ended.")


def _refuse_more(context: typer.Context) -> None:
    if context.args:
        raise typer.BadParameter(
            "Give only the name; the password is asked for, or read from standard input with --password-stdin."
        )


def read_password(from_stdin: bool) -> str:
    """Return the new password, from standard input or from two prompts. Raises `Invalid` if neither is possible."""
    if from_stdin:
        try:  # whatever the terminal's encoding is: other programs write to a pipe
            return sys.stdin.buffer.readline().decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            raise Invalid("The password on standard input is not UTF-8 text; send it as UTF-8.") from None
    if not sys.stdin.isatty():
        raise Invalid(
            "There is no terminal to ask for the password; add --password-stdin and send it on standard input."
        )
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def table(users: Sequence[User]) -> str:
    """Return the users as aligned columns."""
    rows = [("NAME", "ROLE", "STATE", "CREATED"), *(_row(user) for user in users)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _row(user: User) -> tuple[str, str, str, str]:
    state = "disabled" if user.disabled else "active" if user.has_password else "no password"
    created = f"{user.created_at:%Y-%m-%d %H:%M} UTC" if user.created_at else ""
    return user.name, "admin" if user.is_admin else "user", state, created


async def _add(name: str, password: str, is_admin: bool, data_dir: Path | None) -> User:
    async with open_accounts(data_dir) as accounts:
        return await accounts.add_user(name, password, is_admin)


async def _users(data_dir: Path | None) -> list[User]:
    async with open_issuer(data_dir) as accounts:
        return await accounts.users()


async def _passwd(name: str, password_stdin: bool, data_dir: Path | None) -> User:
    async with open_accounts(data_dir) as accounts:
        user = await accounts.user(name)  # before anybody types a password twice
        await accounts.set_password(user.name, read_password(password_stdin))
        return user


async def _disable(name: str, data_dir: Path | None) -> User:
    async with open_accounts(data_dir) as accounts:
        await accounts.disable(name)
        return await accounts.user(name)
