"""Jobs that run, with child processes that end when the test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backend.store import Store
from backend.store.database import Database
from tests.support.managed_backend import RefusingStore, Working, open_working


@pytest.fixture
async def working(store: Store, tmp_path: Path) -> AsyncIterator[Working]:
    """Yield the parts with two slots."""
    async with open_working(store, tmp_path) as opened:
        yield opened


@pytest.fixture
async def one_slot(store: Store, tmp_path: Path) -> AsyncIterator[Working]:
    async with open_working(store, tmp_path, slots=1) as opened:
        yield opened


@pytest.fixture
async def refusing(database: Database, tmp_path: Path) -> AsyncIterator[tuple[Working, RefusingStore]]:
    """Yield the parts with one slot, over a store that refuses when the test says so."""
    store = RefusingStore(database)
    async with open_working(store, tmp_path, slots=1) as opened:
        yield opened, store
        store.accept()
