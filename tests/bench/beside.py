"""Benchmarks on SQLite and PostgreSQL beside each other, in one run: the option `--database postgresql`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from tests.support.databases import KINDS, on_server
from tests.support.postgres import PostgresServer

Databases = Mapping[str, Callable[[], AbstractContextManager[None]]]


@contextmanager
def databases(kind: str) -> Iterator[Databases]:
    """Yield how to use each database of the run, by its name: SQLite, and PostgreSQL beside it if that is the kind.

    The server keeps what it answers on the disk, as users run it.
    """
    sqlite, postgresql = KINDS
    if kind == sqlite:
        yield {sqlite: nullcontext}
        return
    with PostgresServer.made(is_durable=True) as server:
        yield {sqlite: nullcontext, postgresql: lambda: on_server(server)}
