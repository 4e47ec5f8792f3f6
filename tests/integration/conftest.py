"""A store in a fresh directory, with a user who owns the jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from backend.store import Database, JobStore, open_database
from backend.store.tables import METADATA
from tests.support.jobs import ERA


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "dashboard.sqlite3", backups=tmp_path / "backups")
    users = [
        {"id": name, "name": name, "is_admin": False, "disabled": False, "created_at": ERA} for name in ("ana", "ben")
    ]
    opened.write_now(lambda connection: connection.execute(insert(METADATA.tables["user"]), users))
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> JobStore:
    return JobStore(database)
