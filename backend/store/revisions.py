"""The revisions of the database, by the names of their files: to load Alembic takes long, and is seldom needed."""

from __future__ import annotations

from pathlib import Path

MIGRATIONS = Path(__file__).parent / "migrations"


def newest_revision(migrations: Path = MIGRATIONS) -> str:
    """Return the revision that the program needs: its file has the highest number, as in `v0006_words.py`.

    >>> newest_revision() >= "0006"
    True
    """
    return max(file.name[1:5] for file in (migrations / "versions").glob("v[0-9][0-9][0-9][0-9]_*.py"))
