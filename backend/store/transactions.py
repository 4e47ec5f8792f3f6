"""The interface of a database: transactions in threads, one writer at a time beside several readers."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, Self, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError

from backend.errors import StoreRefused

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")
READERS = 8


class Cursor(Protocol):
    """A driver's own cursor. The values of a statement are marked with `?`, whatever the database is."""

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Self: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Database(ABC):
    """Transactions: writes run one after the other, reads at the same time, each on one consistent view."""

    dialect: Literal["sqlite", "postgresql"]
    may_go_away = False

    def __init__(self, writing: Engine, reading: Engine) -> None:
        self._writing = writing
        self._reading = reading
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._readers = ThreadPoolExecutor(READERS, "store-reader")

    async def write(self, step: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `step(connection, …)` in one transaction, after all earlier ones; it is committed when this returns.

        Raises `StoreRefused` if the database cannot take it now.
        """

        def work(connection: Connection) -> T:
            return step(connection, *args, **kwargs)

        return await self._write(work)

    async def commit(self, step: Callable[[Connection], None], *, seq: int) -> None:
        """Run `step` as `write` does; `seq` is the newest position in it.

        May be repeated after `StoreRefused`: what was stored nevertheless is not stored twice.
        """
        await self.write(step)

    async def read(self, step: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `step(connection, …)` on one consistent view of the committed data.

        Raises `StoreRefused` if the database cannot be read now.
        """

        def work(connection: Connection) -> T:
            return step(connection, *args, **kwargs)

        return await self._read(self.read_now, work)

    async def read_by_cursor(self, work: Callable[[Cursor], T]) -> T:
        """Read through the driver's own cursor, where SQLAlchemy would take most of the time."""
        return await self._read(self._read_by_cursor_now, work)

    def write_now(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as `write` does, without an event loop."""
        with self._writing.begin() as connection:
            return work(connection)

    def read_now(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as `read` does, without an event loop."""
        with self._reading.connect() as connection:
            return work(connection)

    async def check(self) -> None:  # noqa: B027  a file is always there
        """Ask if the database is there. Raises `StoreRefused` if not, `LeadLost` if another server leads on it."""

    def take_lead(self) -> None:  # noqa: B027  a file has a lock beside it
        """Become the only server of this database. Raises `CannotStart` if another one is."""

    def finish_upgrade(self) -> None:  # noqa: B027  only files have one
        """Do what the last upgrade left to do, step by step; nothing, as a rule."""

    def close(self) -> None:
        """Wait for the last transaction and close all connections."""
        self._writer.shutdown()
        self._readers.shutdown()
        self._writing.dispose()
        self._reading.dispose()

    @abstractmethod
    def _read_by_cursor_now(self, work: Callable[[Any], T]) -> T: ...

    @abstractmethod
    def _temporary_error(self, error: Exception) -> tuple[str, str] | None:
        """Return the reason and the remedy of an error, if a later try may succeed."""

    async def _write(self, work: Callable[[Connection], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writer, self.write_now, work)
        except Exception as error:
            self._raise_refusal(error, "written")
            raise

    async def _read(self, read_now: Callable[[Callable[[C], T]], T], work: Callable[[C], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, read_now, work)
        except Exception as error:
            self._raise_refusal(error, "read")
            raise

    def _raise_refusal(self, error: Exception, done: str) -> None:
        """Raise `StoreRefused` if a later try may succeed."""
        if found := self._temporary_error(error):
            raise StoreRefused(f"The data cannot be {done} right now ({found[0]}); try again in a moment.") from error


def driver_error(error: Exception) -> BaseException:
    """Return the driver's own error."""
    return (error.orig or error) if isinstance(error, DatabaseError) else error
