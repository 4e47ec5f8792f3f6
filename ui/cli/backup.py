"""`backup`: copy the data, even while the server runs."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from backend.command import command
from backend.database_url import DatabaseUrl
from backend.errors import CannotStart, Invalid
from backend.settings import load_settings
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('backup /backups/dashboard-monday.sqlite3')}"


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to create; it must not exist yet.")],
    data_dir: DataDir = None,
) -> None:
    """Copy jobs, results, history and accounts into one consistent file, even while the server runs.

    To restore, stop the server and replace dashboard.sqlite3 in the data directory with the copy. For PostgreSQL it
    prints the command of PostgreSQL that does it.
    """
    database = load_settings(data_dir=data_dir).database
    if isinstance(database, DatabaseUrl):
        print(_pg_dump(database, file))
        return
    from backend.store.sqlite import copy_database

    if not database.is_file():
        raise CannotStart(f"There is no database at {database}; give the server's data directory with --data-dir.")
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise Invalid(f"{file} already exists; choose another name.") from None
    except OSError as error:
        raise Invalid(f"{file} cannot be written ({error.strerror}); choose another place.") from None
    copy_database(database, file)
    print(f"{file}: {file.stat().st_size:,} bytes")


def _pg_dump(url: DatabaseUrl, file: Path) -> str:
    """Return the commands that copy the database and bring it back; the password stays in PGPASSWORD or ~/.pgpass."""
    options, place = "--format=custom --no-owner", shlex.quote(url.libpq)
    return "\n".join(
        [
            "PostgreSQL copies its databases itself, also while the server runs:",
            f"  pg_dump {options} --file={shlex.quote(str(file))} --dbname={place}",
            "Back, into an empty database, while no server runs:",
            f"  pg_restore --no-owner --exit-on-error --dbname={place} {shlex.quote(str(file))}",
            "If the database asks for a password, put it into PGPASSWORD or ~/.pgpass. "
            "The data directory has the key of the tokens and the outputs of videos; copy it, too.",
        ]
    )
