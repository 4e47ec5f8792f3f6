"""Hooks for all tests.

A folder marks its tests: `browser` and `acceptance` stay out of the inner loop. In the gate (CI=true) a skip is a
failure, because all requirements are installed there.

`--database postgresql` makes all databases on a PostgreSQL server that runs as long as the tests, one for all workers.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from coverage import Coverage

from tests import ROOT
from tests.support.all_modules import import_all
from tests.support.databases import KINDS, OPTION, drop_databases, is_postgresql, on_postgresql
from tests.support.postgres import HOW_TO_GET_IT, LOCALES, programs
from tests.support.run_places import OPTION as RUNS_OPTION
from tests.support.run_places import PLACES, VARIABLE

MARKED_FOLDERS = ("acceptance", "browser")
OTHER = {"sqlite": "postgresql_only", "postgresql": "sqlite_only"}  # the marker of what does not run on it


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for the database, and for where videos run."""
    parser.addoption(OPTION, choices=KINDS, default=KINDS[0], help="the database of all tests")
    parser.addoption("--database-locale", choices=LOCALES, default="C", help="the locale of the PostgreSQL databases")
    parser.addoption(RUNS_OPTION, choices=PLACES, help="where videos run; default: as in the program on this database")


def pytest_configure(config: pytest.Config) -> None:
    """Start PostgreSQL; the workers of xdist inherit its address, and where videos run."""
    if place := config.getoption(RUNS_OPTION):
        os.environ[VARIABLE] = place
    if config.getoption(OPTION) == "postgresql" and programs() is not None:
        stack = ExitStack()
        stack.enter_context(on_postgresql(locale=config.getoption("--database-locale")))
        config.add_cleanup(stack.close)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the program traced, and collect untraced: to trace how pytest rewrites assertions takes half a minute."""
    measured = Coverage.current()
    if measured is not None:
        import_all("backend", "ui", "progress_dashboard")
        measured.stop()
    try:
        return (yield)
    finally:
        if measured is not None:
            measured.start()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of `MARKED_FOLDERS` with the folder's name, and leave out those of the other database.

    The coverage of what they start is measured in its own process: to trace the test itself would only cost time.
    """
    kind = config.getoption(OPTION)
    left_out = [item for item in items if item.get_closest_marker(OTHER[kind])]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    for item in items:
        if kind == "postgresql" and not is_postgresql():
            item.add_marker(pytest.mark.skip(reason=HOW_TO_GET_IT))
        for folder in MARKED_FOLDERS:
            if item.path.is_relative_to(ROOT / "tests" / folder):
                item.add_marker(folder)
        if any(item.get_closest_marker(folder) for folder in MARKED_FOLDERS):
            item.add_marker("no_cover")


@pytest.fixture(autouse=True)
def _no_databases_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Drop the databases in the test's own directory after the test; the others go with the server."""
    below = request.getfixturevalue("tmp_path") if is_postgresql() and "tmp_path" in request.fixturenames else None
    yield
    if below is not None:
        drop_databases(below)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure in the gate."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason: Any = report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped in the gate: {reason[2] if isinstance(reason, tuple) else reason}"
    return report
