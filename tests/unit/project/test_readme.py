"""The README files state what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from backend.errors import VideoFailed
from backend.processors import Step, VideoFile
from backend.settings import PREFIX, Settings
from tests import ROOT
from tests.support.examples import example, readmes

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAX_LINES = 300
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MODULE = re.compile(r"python -m ((?:tests|ui)[\w.]*)")


def settings_table() -> str:
    """Return the table of settings that the README has to show."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, PydanticUndefined, "", ()) else field.default
        lines.append(f"| `{PREFIX}{name.upper()}` | {as_shown(default)} | {field.description} |")
    return "\n".join(lines)


def as_shown(default: object) -> str:
    """Return a default as it is written in the environment."""
    if isinstance(default, tuple):
        default = ",".join(f"{number:g}" for number in default)
    return f"`{str(default).lower() if isinstance(default, bool) else default}`" if default != "" else ""


def anchors(readme: Path) -> set[str]:
    """Return the anchors of a README's headings."""
    headings = HEADING.findall(readme.read_text(encoding="utf-8"))
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_settings_table_is_the_settings_class() -> None:
    shown = re.search(r"<!-- settings -->\n\n(.*?)\n\n<!-- /settings -->", README, re.DOTALL)
    assert shown is not None
    assert shown[1] == settings_table()


def test_the_first_readme_is_read_in_five_minutes() -> None:
    assert len(README.splitlines()) <= MAX_LINES


@pytest.mark.parametrize("readme", readmes(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_and_picture_exists(readme: Path) -> None:
    for place, anchor in LINK.findall(readme.read_text(encoding="utf-8")):
        target = (readme.parent / place).resolve() if place else readme
        assert target.exists(), place
        target = target / "README.md" if target.is_dir() else target
        assert not anchor or anchor in anchors(target), f"{place}#{anchor}"


@pytest.mark.parametrize("readme", readmes(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_that_it_runs_exists(readme: Path) -> None:
    for module in MODULE.findall(readme.read_text(encoding="utf-8")):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def test_the_example_of_a_processor_runs(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(example("from backend.errors import VideoFailed"), names)
    processor = names["PROCESSOR"]
    (tmp_path / "video.mp4").write_bytes(b"x" * 2**20 + b"x")
    file = VideoFile(tmp_path / "video.mp4", tmp_path, tmp_path)
    assert list(processor.run(file, processor.options())) == [Step(0.5, "weighing")]
    with pytest.raises(VideoFailed, match="larger than 1 MiB"):
        list(processor.run(file, processor.options(max_mib=1)))
