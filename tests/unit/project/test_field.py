"""The table of what goes wrong in the field is whole, and names tests that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import ROOT
from tests.support.acceptance_tables import TEST, missing_tests, sections

TABLE = ROOT / "tests" / "acceptance" / "field.md"
ROWS = {"A": 3, "B": 10, "C": 6, "D": 12, "E": 11}


def test_no_row_is_lost() -> None:
    assert {section[0]: len(rows) for section, rows in sections(TABLE).items()} == ROWS


def test_each_row_names_a_test() -> None:
    assert [held_by for rows in sections(TABLE).values() for held_by in rows if not TEST.search(held_by)] == []


def test_every_test_that_is_named_exists() -> None:
    assert missing_tests(TABLE) == []


@pytest.mark.parametrize("named", ["test_field.py::test_never_was", "test_never_was.py::*", "__init__.py::*"])
def test_a_test_that_does_not_exist_is_noticed(named: str, tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    table.write_text(f"## A\n\n| kind | held by |\n|---|---|\n| one | `tests/unit/project/{named}` |\n")
    assert sections(table) == {"A": [f"`tests/unit/project/{named}` |"]}
    assert missing_tests(table) == [f"tests/unit/project/{named}"]
