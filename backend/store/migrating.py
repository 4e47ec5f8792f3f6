"""Runs the migrations on an open connection, in its transaction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

if TYPE_CHECKING:
    from alembic.config import Config

MARKER = "moving"  # a table of PostgreSQL, from the first step of `move-to` to the last


def revision_of(connection: Connection) -> str | None:
    """Return the revision of the database; None for one without our tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def known_revisions(migrations: Path) -> set[str]:
    """Return the revisions that there are migrations for."""
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(_config(migrations)).walk_revisions()}


def migrate(connection: Connection, migrations: Path, *, begun_at: str | None = None) -> None:
    """Bring the database to the newest revision. `begun_at`: the revision that its tables were just made for."""
    from alembic import command  # takes as long to load as all else that the database needs

    config = _config(migrations)
    config.attributes["connection"] = connection
    if begun_at is not None:
        command.stamp(config, begun_at)
    command.upgrade(config, "head")


def _config(migrations: Path) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations))
    return config
