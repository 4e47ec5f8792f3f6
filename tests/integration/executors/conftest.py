"""Jobs that run, with child processes that end when the test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backend.store import Store
from backend.store.database import Database
from tests.support.databases import is_postgresql
from tests.support.managed_backend import RefusingStore, Working, open_working
from tests.support.run_places import PLACES, VARIABLE, chosen_place


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a test run where the program runs videos; the first ones, on PostgreSQL, also in the test's own process."""
    is_both = is_postgresql() and metafunc.module.__name__.endswith("test_video_work")
    metafunc.parametrize("runs", PLACES if is_both else [chosen_place()], indirect=True)


@pytest.fixture(autouse=True)
def runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose where videos run."""
    monkeypatch.setenv(VARIABLE, request.param)


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
