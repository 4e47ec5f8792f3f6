"""The table of what the pages promise names tests and pictures that exist."""

from __future__ import annotations

import re
from importlib.util import find_spec

from tests import ROOT
from tests.support.acceptance_tables import TEST, missing_tests, sections

TABLE = ROOT / "tests" / "acceptance" / "ux.md"
PICTURE = re.compile(r"\]\(([^)]+\.png)\)")
COMMAND = re.compile(r"`python -m ([\w.]+)`")


def rows() -> list[str]:
    """Return the last cell of each row: the tests, commands and pictures that show it."""
    return [shown for section in sections(TABLE).values() for shown in section]


def test_each_line_names_a_test_a_command_or_a_picture() -> None:
    assert len(rows()) > 40
    assert [shown for shown in rows() if not any(way.search(shown) for way in (TEST, PICTURE, COMMAND))] == []


def test_every_test_that_is_named_exists() -> None:
    assert missing_tests(TABLE) == []


def test_every_command_that_is_named_exists() -> None:
    named = [found for shown in rows() for found in COMMAND.findall(shown)]
    assert named
    assert [module for module in named if find_spec(module) is None] == []


def test_every_picture_that_is_named_exists() -> None:
    named = [found for shown in rows() for found in PICTURE.findall(shown)]
    assert [picture for picture in named if not (TABLE.parent / picture).is_file()] == []
