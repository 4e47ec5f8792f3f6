"""`backup`: copy the data, even while the server runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from backend.command import command
from backend.errors import CannotStart, Invalid
from backend.settings import load_settings
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('backup /backups/dashboard-monday.sqlite3')}"


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to create; it must not exist yet.")],
    data_dir: DataDir = None,
) -> None:
    """Copy jobs, results, history and accounts into one consistent file, even while the server runs.

    To restore, stop the server and replace dashboard.sqlite3 in the data directory with the copy.
    """
    from backend.store.sqlite import copy_database

    database = load_settings(data_dir=data_dir).database_path
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
