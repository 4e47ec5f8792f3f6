"""`move-to`: move the data from the SQLite file to PostgreSQL."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from backend.command import command
from backend.database_url import DatabaseUrl, is_postgresql
from backend.errors import CannotStart, Invalid
from backend.settings import DATABASE_VARIABLE, Settings, load_settings
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('move-to postgresql://dashboard@localhost/dashboard')}"


def move_to(
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help=f"The empty PostgreSQL database; default: that of {DATABASE_VARIABLE}."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Move jobs, results, history and accounts from the SQLite file to an empty PostgreSQL database.

    The server must be stopped. The file stays as it is. After an interruption, run the command again.
    """
    from backend.app import only_server  # slow to load, and `--help` does not need it
    from backend.store.moving import move

    settings = load_settings(data_dir=data_dir)
    target = _target(url, settings)
    source = settings.database_path
    if not source.is_file():
        raise CannotStart(f"There is no database at {source}; give the server's data directory with --data-dir.")
    with only_server(settings.data_dir):
        moved = move(source, target, report=_report)
    print(f"Moved {moved:,} rows to {target}; {source} is as it was, and no longer used.")
    print(f"Start the server with {DATABASE_VARIABLE} set to this database, and the same data directory.")


def _target(url: str | None, settings: Settings) -> DatabaseUrl:
    if url is None:
        if isinstance(settings.database, Path):
            raise Invalid(f"Name the PostgreSQL database, or set {DATABASE_VARIABLE}.")
        return settings.database
    if not is_postgresql(url):
        raise Invalid("The address must start with postgresql://, such as postgresql://dashboard@localhost/dashboard.")
    target = DatabaseUrl(url)
    if target.secrets:
        raise Invalid(
            "Leave the password out of the command line, where all users of the machine can read it; "
            f"put it into PGPASSWORD or ~/.pgpass, or set {DATABASE_VARIABLE} and give no address."
        )
    return target


def _report(table: str, moved: int, total: int) -> None:
    print(f"{table}: {moved:,} of {total:,} rows", file=sys.stderr, flush=True)
