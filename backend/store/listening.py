"""Notifications of PostgreSQL, on a connection of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import psycopg

from backend.database_url import DatabaseUrl
from backend.store.connecting import CONNECTION

QUIET_SECONDS, ANSWER_SECONDS, RETRY_SECONDS = 1.0, 5.0, 0.5


async def notifications(url: DatabaseUrl, *channels: str) -> AsyncGenerator[str, None]:
    """Yield a channel when something was said in it, and each after a connection: something may have been missed.

    Connects again whenever the connection is lost.
    """
    while True:
        try:
            async with await _connect(url) as connection:
                for channel in channels:
                    await _answer(connection, f"LISTEN {channel}")
                    yield channel
                while True:
                    heard = {said.channel async for said in connection.notifies(timeout=QUIET_SECONDS, stop_after=1)}
                    for channel in heard:
                        yield channel
                    if not heard:
                        await _answer(connection, "SELECT 1")
        except (psycopg.Error, OSError, TimeoutError):  # the journal says that the database is away
            await asyncio.sleep(RETRY_SECONDS)


async def _connect(url: DatabaseUrl) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(url.secret, autocommit=True, **CONNECTION)  # type: ignore[arg-type]


async def _answer(connection: psycopg.AsyncConnection[Any], statement: str) -> None:
    async with asyncio.timeout(ANSWER_SECONDS):
        await connection.execute(statement.encode())
