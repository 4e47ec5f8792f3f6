"""Hooks for all tests.

A folder marks its tests: `browser` and `acceptance` stay out of the inner loop. In the gate (CI=true) a skip is a
failure, because all requirements are installed there.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

from tests import ROOT

MARKED_FOLDERS = ("acceptance", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of `MARKED_FOLDERS` with the folder's name.

    The coverage of what they start is measured in its own process: to trace the test itself would only cost time.
    """
    for item in items:
        for folder in MARKED_FOLDERS:
            if item.path.is_relative_to(ROOT / "tests" / folder):
                item.add_marker(folder)
        if any(item.get_closest_marker(folder) for folder in MARKED_FOLDERS):
            item.add_marker("no_cover")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure in the gate."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason: Any = report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped in the gate: {reason[2] if isinstance(reason, tuple) else reason}"
    return report
