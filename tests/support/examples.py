"""The README's examples, for tests to run as they stand there."""

from __future__ import annotations

import re

from tests import ROOT

BLOCK = re.compile(r"^```(?:python|js|jsx)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def example(opening: str) -> str:
    """The one block of code that begins like this, such as "# poll.py"."""
    blocks = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    found = [block for block in blocks if block.startswith(opening)]
    assert len(found) == 1, f"README.md has {len(found)} examples that begin with {opening!r}"
    return str(found[0])
