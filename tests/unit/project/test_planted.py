"""The planted bugs still fit the program. `python -m tests.planted` shows that each of them is caught."""

from __future__ import annotations

import pytest

from tests import ROOT
from tests.planted import PLANTED, Planted


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
def test_a_planted_bug_has_its_one_place_and_leaves_a_program(bug: Planted) -> None:
    text = (ROOT / bug.file).read_text(encoding="utf-8")
    assert text.count(bug.right) == 1
    compile(text.replace(bug.right, bug.wrong), bug.file, "exec")
