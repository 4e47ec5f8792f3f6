"""A store in a fresh directory with the users who own the jobs, and a run of the journal and the hub over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from backend.store import Store
from backend.store.database import Database
from backend.store.tables import USERS
from tests.support.databases import new_database
from tests.support.delivery import Delivery, start_delivery
from tests.support.jobs import ERA


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = new_database(tmp_path / "dashboard.sqlite3")
    users = [
        {"id": name, "name": name, "is_admin": False, "disabled": False, "created_at": ERA} for name in ("ana", "ben")
    ]
    opened.write_now(lambda connection: connection.execute(insert(USERS), users))
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


@pytest.fixture
async def delivery(store: Store) -> Delivery:
    return await start_delivery(store)
