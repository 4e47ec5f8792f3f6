"""`worker`: run videos of a server on another machine."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

import typer

from backend.command import command
from backend.database_url import DatabaseUrl
from backend.errors import CannotStart
from backend.settings import DATABASE_VARIABLE, MAX_SLOTS, load_settings
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('worker --slots 8 --name attic')}"


def worker(
    slots: Annotated[
        int | None, typer.Option(min=1, max=MAX_SLOTS, help="Videos that run at once; default: the number of CPUs.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of this worker; default: the name of the host.")] = None,
    print_role: Annotated[
        bool, typer.Option("--print-role", help="Print the SQL of a database user for workers, and exit.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Run videos for the server of a PostgreSQL database, until Ctrl-C or SIGTERM.

    It needs the server's DASHBOARD_DATABASE_URL, and the same shared directories in DASHBOARD_MEDIA_DIR and
    DASHBOARD_OUTPUT_DIR. After Ctrl-C it begins no further video and finishes the running ones, within
    DASHBOARD_SHUTDOWN_GRACE_SECONDS if that is set; a second Ctrl-C gives them to other workers at once.
    """
    if print_role:
        from backend.store.worker_role import role_script

        print(role_script(), end="")
        return
    settings = load_settings(data_dir=data_dir)
    url = settings.database
    if not isinstance(url, DatabaseUrl):
        raise CannotStart(
            "A worker needs PostgreSQL, since an SQLite file belongs to one machine; "
            f"set {DATABASE_VARIABLE} to the postgresql:// address of the server's database."
        )
    if sys.platform == "win32":
        raise CannotStart("A worker needs Linux or macOS: on Windows its processes cannot be ended for certain.")
    _require_engine()
    from backend.descriptors import raise_limit  # slow to load, and `--help` does not need it
    from backend.engine.joining import Identity
    from backend.engine.program import run_worker
    from backend.logs import configure_logs

    identity = Identity.of_process(slots=slots or os.cpu_count() or 1, name=name)
    configure_logs()
    raise_limit()
    if not settings.media.is_dir():
        missing = f"the media directory {settings.media.absolute()} does not exist; mount the videos there"
        print(f"Warning: {missing}, or set DASHBOARD_MEDIA_DIR.", file=sys.stderr)

    def welcome() -> None:
        print(f"Worker {identity.name.worker}: up to {identity.slots} videos at once for {url}. Ctrl-C stops it.")
        sys.stdout.flush()

    asyncio.run(run_worker(settings, url, identity, welcome))


def _require_engine() -> None:
    try:
        import procrastinate  # noqa: F401  an extra, as its driver is
        import psycopg_pool  # noqa: F401
    except ImportError:
        raise CannotStart(
            "A worker needs packages that are not installed; run: "
            "pip install 'procrastinate>=3.10,<3.11' 'psycopg[binary,pool]>=3.3,<4'"
        ) from None
