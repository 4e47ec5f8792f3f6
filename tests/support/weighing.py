"""A plug-in that is installed, broken and removed while a server runs."""

from __future__ import annotations

import importlib
import shutil
from dataclasses import dataclass
from pathlib import Path

WORKING = """
from backend.processors import Processor, Step
from pydantic import BaseModel

class Options(BaseModel, extra="forbid"):
    {option}: int = 4096

def weigh(file, options):
    yield Step(0.5, "weighing")
    return {{"size_bytes": file.path.stat().st_size}}

PROCESSOR = Processor("weigh", "weighs files", Options, weigh)
"""
BROKEN = "import a_module_that_nobody_has\n"


@dataclass(frozen=True)
class Weigh:
    """The plug-in `weigh` in a directory on the module path."""

    home: Path

    def install(self, code: str = WORKING.format(option="max_mib")) -> None:
        """Install the plug-in, or another version of it."""
        about = self.home / "weigh_plug_in-1.0.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: weigh-plug-in\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("[dashboard.processors]\nweigh = weigh_plug_in:PROCESSOR\n")
        (self.home / "weigh_plug_in.py").write_text(code)
        self._forget()

    def remove(self) -> None:
        """Uninstall the plug-in. Its directory stays on the path."""
        shutil.rmtree(self.home)
        self.home.mkdir()
        self._forget()

    def _forget(self) -> None:
        importlib.invalidate_caches()
