"""The examples of code in the README files, for tests to run as they are there."""

from __future__ import annotations

import re
from pathlib import Path

from tests import ROOT

READMES = ("README.md", "backend/**/README.md", "ui/README.md", "tests/README.md")
BLOCK = re.compile(r"^```(?:python|js|jsx)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def readmes() -> list[Path]:
    """Return the README files of the repository."""
    return sorted({path for pattern in READMES for path in ROOT.glob(pattern)})


def example(opening: str) -> str:
    """Return the one block of code that begins with these words, such as "# poll.py"."""
    blocks = [(path, block) for path in readmes() for block in BLOCK.findall(path.read_text(encoding="utf-8"))]
    found = [(path.relative_to(ROOT).as_posix(), block) for path, block in blocks if block.startswith(opening)]
    places = [place for place, _ in found]
    assert len(found) == 1, f"there must be one example that begins with {opening!r}, found in {places}"
    return str(found[0][1])
