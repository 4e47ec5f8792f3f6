"""What SQLite would do for the statements that the store executes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine

from backend.store.database import Database

Statement = tuple[str, Any]


@contextmanager
def executed_statements() -> Iterator[list[Statement]]:
    """Collect the statements that are executed meanwhile, with the values of one execution."""
    statements: list[Statement] = []

    def collect(_: Connection, __: object, sql: str, values: Any, ___: object, is_many: bool) -> None:
        statements.append((sql, values[0] if is_many else values))

    event.listen(Engine, "before_cursor_execute", collect)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", collect)


def steps(database: Database, statements: list[Statement]) -> list[str]:
    """Return the steps of the plans of these statements, such as `SEARCH job USING INDEX …`."""

    def explain(connection: Connection) -> list[str]:
        found = []
        for sql, values in statements:
            if sql.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE", "INSERT", "WITH")):
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
                found += [row[-1] for row in plan]
        return found

    return database.read_now(explain)


def scans(database: Database, statements: list[Statement], *tables: str) -> list[str]:
    """Return the steps that read all rows of one of these tables."""
    begins = tuple(f"SCAN {table}" for table in tables)
    return [step for step in steps(database, statements) if step.startswith(begins)]
