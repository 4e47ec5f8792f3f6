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

LOCAL_ONLY = ("test_draining",)  # about a server alone
BOTH = ("test_video_work",)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let tests run where the program runs videos; those of `BOTH`, on PostgreSQL, also in the test's own process."""
    module = metafunc.module.__name__.rpartition(".")[2]
    places = (
        ["local"] if module in LOCAL_ONLY else list(PLACES) if is_postgresql() and module in BOTH else [chosen_place()]
    )
    metafunc.parametrize("runs", places, indirect=True)


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
