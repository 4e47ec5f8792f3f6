"""What the database would do for the statements that the store executes, in SQLite's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    explain = _sqlite_steps if database.dialect == "sqlite" else _postgresql_steps
    explained = [
        (sql, values)
        for sql, values in statements
        if sql.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE", "INSERT", "WITH"))
    ]
    return database.read_now(lambda connection: [step for one in explained for step in explain(connection, *one)])


def _sqlite_steps(connection: Connection, sql: str, values: Any) -> list[str]:
    return [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)]


def _postgresql_steps(connection: Connection, sql: str, values: Any) -> list[str]:
    """Return the steps that remain where there is another way: few rows are read faster without any index."""
    for avoided in ("seqscan", "sort", "bitmapscan"):
        connection.exec_driver_sql(f"SET LOCAL enable_{avoided} = off")
    [plan] = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {sql}", values).scalar_one()
    return list(_in_words(plan["Plan"]))


def _in_words(node: Mapping[str, Any]) -> Iterator[str]:
    """Yield a step of PostgreSQL and those below it, as SQLite calls them."""
    kind, covering = node["Node Type"], "COVERING " if node["Node Type"] == "Index Only Scan" else ""
    if kind == "Seq Scan":
        yield f"SCAN {node['Relation Name']}"
    elif kind in ("Index Scan", "Index Only Scan", "Bitmap Index Scan"):
        how, table = "SEARCH" if "Index Cond" in node else "SCAN", node.get("Relation Name", "?")
        limits = f" ({node['Index Cond']})" if "Index Cond" in node else ""
        yield f"{how} {table} USING {covering}INDEX {node['Index Name']}{limits}"
    elif kind in ("Sort", "Incremental Sort"):
        yield "USE TEMP B-TREE FOR ORDER BY"
    for below in node.get("Plans", ()):
        yield from _in_words(below)


def scans(database: Database, statements: list[Statement], *tables: str) -> list[str]:
    """Return the steps that read all rows of one of these tables."""
    begins = tuple(f"SCAN {table}" for table in tables)
    return [step for step in steps(database, statements) if step.startswith(begins)]
