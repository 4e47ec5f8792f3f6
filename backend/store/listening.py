"""Notifications of PostgreSQL, on a connection of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg

from backend.database_url import DatabaseUrl
from backend.store.postgres import CONNECTION

QUIET_SECONDS, ANSWER_SECONDS, RETRY_SECONDS = 1.0, 5.0, 0.5


async def notifications(url: DatabaseUrl, channel: str) -> AsyncIterator[None]:
    """Yield when something was said in the channel, and after each connection: something may have been missed.

    Connects again whenever the connection is lost.
    """
    while True:
        try:
            async with await _connect(url) as connection:
                await _answer(connection, f"LISTEN {channel}")
                yield
                while True:
                    has_heard = False
                    async for _ in connection.notifies(timeout=QUIET_SECONDS, stop_after=1):
                        has_heard = True
                    if has_heard:
                        yield
                    else:
                        await _answer(connection, "SELECT 1")
        except (psycopg.Error, OSError, TimeoutError):  # the journal says that the database is away
            await asyncio.sleep(RETRY_SECONDS)


async def _connect(url: DatabaseUrl) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(url.secret, autocommit=True, **CONNECTION)  # type: ignore[arg-type]


async def _answer(connection: psycopg.AsyncConnection[Any], statement: str) -> None:
    async with asyncio.timeout(ANSWER_SECONDS):
        await connection.execute(statement.encode())
