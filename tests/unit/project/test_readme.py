"""The README says what the code does."""

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

README = (ROOT / "README.md").read_text(encoding="utf-8")


def settings_table() -> str:
    """The table of settings as the README has to show it."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, PydanticUndefined, "", ()) else field.default
        lines.append(f"| `{PREFIX}{name.upper()}` | {as_shown(default)} | {field.description} |")
    return "\n".join(lines)


def as_shown(default: object) -> str:
    """A default as it is written in the environment."""
    if isinstance(default, tuple):
        default = ",".join(f"{number:g}" for number in default)
    return f"`{str(default).lower() if isinstance(default, bool) else default}`" if default != "" else ""


def test_the_settings_table_is_the_settings_class() -> None:
    shown = re.search(r"<!-- settings -->\n\n(.*?)\n\n<!-- /settings -->", README, re.DOTALL)
    assert shown is not None
    assert shown[1] == settings_table()


def test_every_link_inside_the_readme_leads_somewhere() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", README, re.M)
    }
    assert set(re.findall(r"\]\(#([a-z0-9-]+)\)", README)) <= headings


def test_every_picture_is_there() -> None:
    assert all((ROOT / picture).is_file() for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README))


def test_the_example_of_a_processor_does_what_it_says(tmp_path: Path) -> None:
    example = re.search(r"```python\n(from backend\.errors.*?)```", README, re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {}
    exec(example[1], names)
    processor = names["PROCESSOR"]
    (tmp_path / "video.mp4").write_bytes(b"x" * 2**20 + b"x")
    file = VideoFile(tmp_path / "video.mp4", tmp_path, tmp_path)
    assert list(processor.run(file, processor.options())) == [Step(0.5, "weighing")]
    with pytest.raises(VideoFailed, match="larger than 1 MiB"):
        list(processor.run(file, processor.options(max_mib=1)))
