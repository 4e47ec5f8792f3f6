"""The worker's connection to PostgreSQL: what is not answered soon is given up at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import psycopg
import pytest

from backend.database_url import DatabaseUrl
from backend.engine.line import Line, LineLost
from tests.support.database_proxy import DatabaseProxy, database_proxy

pytestmark = pytest.mark.postgresql_only
ANSWER_SECONDS = 0.5
HANG_SECONDS = 4.0  # less than the driver waits for a statement that it cancels


@pytest.fixture
async def link(url: str) -> AsyncIterator[DatabaseProxy]:
    """Yield a link to PostgreSQL that can be made a bad one."""
    async with database_proxy(urlsplit(url).port or 5432) as proxy:
        yield proxy


@pytest.fixture
async def line(url: str, link: DatabaseProxy) -> AsyncIterator[Line]:
    """Yield a connection over the link."""
    through = url.replace(f":{urlsplit(url).port}/", f":{link.port}/") + "?sslmode=disable&gssencmode=disable"
    line = Line(DatabaseUrl(through), answer_seconds=ANSWER_SECONDS)
    await line.open()
    yield line
    await line.close()


async def test_a_statement_without_an_answer_is_given_up(line: Line, link: DatabaseProxy) -> None:
    link.fall_silent()
    async with asyncio.timeout(HANG_SECONDS):
        with pytest.raises(LineLost, match=r"^it does not answer$"):
            await line.rows("SELECT 1")
        asking = asyncio.create_task(line.rows("SELECT 2"))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
    assert asking.cancelled()
    link.speak()
    assert await line.rows("SELECT 3") == [(3,)]


async def test_a_statement_that_is_refused_says_why(line: Line) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        await line.rows("SELECT * FROM nothing")
    assert await line.rows("SELECT 1") == [(1,)]


async def test_the_reason_of_a_lost_connection_is_one_line(line: Line, link: DatabaseProxy) -> None:
    link.cut()
    with pytest.raises(LineLost) as lost:
        await line.rows("SELECT 1")
    assert "\n" not in lost.value.sentence
