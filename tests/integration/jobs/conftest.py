"""The parts that steer jobs, with an executor that only records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backend.store import Store
from backend.store.database import Database
from tests.support.managed_backend import Managed, RefusingStore, open_managed


@pytest.fixture
async def managed(store: Store, tmp_path: Path) -> AsyncIterator[Managed]:
    async with open_managed(store, tmp_path) as opened:
        yield opened


@pytest.fixture
async def refusing(database: Database, tmp_path: Path) -> AsyncIterator[tuple[Managed, RefusingStore]]:
    """Yield the parts over a store that refuses when the test says so."""
    store = RefusingStore(database)
    async with open_managed(store, tmp_path) as opened:
        yield opened, store
        store.accept()
