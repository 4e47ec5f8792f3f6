"""The static checks of the test extra, each a test: format, lint, types and import layers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

TOOLS = {
    "format": ("ruff", "format", "--check", "."),
    "lint": ("ruff", "check", "."),
    "types": ("mypy",),
    "import layers": ("importlinter.cli", "lint"),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_code_passes(tool: str) -> None:
    module, *arguments = TOOLS[tool]
    if module == "importlinter.cli":
        command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    else:
        command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
