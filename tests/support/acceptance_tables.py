"""Tables of promises: beside each one are the tests that hold it."""

from __future__ import annotations

import re
from pathlib import Path

from tests import ROOT

TEST = re.compile(r"`(tests/[\w/]+\.py)::([\w*]+)`")


def sections(table: Path) -> dict[str, list[str]]:
    """Return the last cell of each row, by section: what shows that the promise is kept."""
    found: dict[str, list[str]] = {}
    rows: list[str] = []
    for line in table.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            found[line[3:]] = rows = []
        elif line.startswith("|---"):
            rows.pop()  # the heads of the columns
        elif line.startswith("| "):
            rows.append(line.split(" | ")[-1])
    return found


def missing_tests(table: Path) -> list[str]:
    """Return the tests that are named anywhere in the file and do not exist."""
    named = dict.fromkeys(TEST.findall(table.read_text(encoding="utf-8")))
    return [f"{path}::{name}" for path, name in named if not _has_test(ROOT / path, name)]


def _has_test(path: Path, name: str) -> bool:
    definition = r"def test_" if name == "*" else rf"def {name}\("
    return path.is_file() and re.search(definition, path.read_text(encoding="utf-8")) is not None
