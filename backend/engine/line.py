"""The worker's own connection to PostgreSQL: one statement at a time, each answered soon or given up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psycopg

from backend.database_url import DatabaseUrl
from backend.errors import CannotStart, Unavailable
from backend.store.connecting import CONNECTION, SESSION

ANSWER_SECONDS = 5.0  # without an answer, after which a statement is given up: it may have been done or not
AWAY = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)  # the second after a failover to a reserve
NO_ANSWER = "it does not answer"
DURABLE, FAST = "SET synchronous_commit = on", "SET synchronous_commit = off"


class LineLost(Unavailable):
    """PostgreSQL does not answer; try again in a moment."""


class Line:
    """Executes statements in the order of their calls, on a connection that is made again after it was lost."""

    def __init__(self, url: DatabaseUrl, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._url = url
        self._answer_seconds = answer_seconds
        self._turn = asyncio.Lock()
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._is_durable = True

    async def rows(
        self, statement: str, values: Mapping[str, Any] | None = None, *, durable: bool = True
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, which is a transaction of its own.

        `durable=False`: a crash of PostgreSQL may lose what it did. Raises `LineLost` if there is no answer, and the
        driver's error for a statement that is refused.
        """
        async with self._turn:
            answer = asyncio.ensure_future(self._answer(statement, values, durable))
            try:
                await asyncio.wait({answer}, timeout=self._answer_seconds)
            finally:
                if not answer.done():
                    await self._give_up(answer)
            if answer.cancelled():
                raise LineLost(NO_ANSWER)
            try:
                return answer.result()
            except (*AWAY, OSError) as error:
                await self._drop()
                raise LineLost(_reason(error)) from error
            except BaseException:
                await self._drop()
                raise

    async def open(self) -> None:
        """Connect now. Raises `CannotStart` with the reason, which never has a password in it."""
        try:
            async with self._turn, asyncio.timeout(self._answer_seconds):
                await self._connected()
        except (psycopg.Error, OSError, TimeoutError) as error:
            raise cannot_connect(self._url, error) from error

    async def close(self) -> None:
        """End the connection."""
        async with self._turn:
            await self._drop()

    async def _answer(self, statement: str, values: Mapping[str, Any] | None, durable: bool) -> list[tuple[Any, ...]]:
        connection = await self._connected()
        await self._set_durable(connection, durable)
        cursor = await connection.execute(statement, values)
        return await cursor.fetchall() if cursor.description else []

    async def _give_up(self, answer: asyncio.Future[Any]) -> None:
        """End the connection, so that no late answer is taken for that of the next statement.

        Closed before, the driver does not ask PostgreSQL to cancel the statement, and waits 10 s for that.
        """
        await self._drop()
        answer.cancel()
        await asyncio.wait({answer})

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection, self._is_durable = await self._new_connection(), True
        return self._connection

    async def _new_connection(self) -> psycopg.AsyncConnection[Any]:
        connection = await psycopg.AsyncConnection.connect(
            self._url.secret,
            autocommit=True,
            **CONNECTION,  # type: ignore[arg-type]
        )
        try:
            await connection.execute(SESSION)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _set_durable(self, connection: psycopg.AsyncConnection[Any], durable: bool) -> None:
        if durable is not self._is_durable:
            await connection.execute(DURABLE if durable else FAST)
            self._is_durable = durable

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                await connection.close()


def cannot_connect(url: DatabaseUrl, error: Exception) -> CannotStart:
    """Return why a worker cannot start, in one sentence."""
    words = _reason(error)
    for secret in url.secrets:
        words = words.replace(secret, "***")
    if getattr(error, "sqlstate", None) == "53300" or "too many" in words or "remaining connection slots" in words:
        return CannotStart(
            f"The database {url} has no connections left ({words}); a worker needs 4: raise PostgreSQL's "
            "max_connections, or stop a worker."
        )
    return CannotStart(f"The database {url} cannot be opened ({words}); start PostgreSQL, or correct the address.")


def _reason(error: Exception) -> str:
    """Return the first line of what the driver says, for the middle of a sentence."""
    return (str(error).strip() or NO_ANSWER).splitlines()[0].removeprefix("connection failed: ").rstrip(".")
