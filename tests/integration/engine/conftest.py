"""A PostgreSQL database as a server has left it, and workers over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.databases import FILE, url_of
from tests.support.workers import RunningWorker, ServerRows, a_worker


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the address of a migrated database."""
    return url_of(tmp_path / FILE)


@pytest.fixture
def server(url: str) -> ServerRows:
    return ServerRows(url)


@pytest.fixture
async def attic(url: str, tmp_path: Path) -> AsyncIterator[RunningWorker]:
    """Yield a worker called "attic" that works, with two slots."""
    async with a_worker(url, tmp_path) as running:
        await running.start()
        yield running
