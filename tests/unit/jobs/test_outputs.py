"""The files that processors wrote: nothing leads out of a video's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.video import Video
from backend.jobs.outputs import Outputs

ROOT = Path("outputs")
DIRECTORY = ROOT / "job" / "3"
PIECES = ("..", ".", "/", "\\", "a", "poster", ".jpg", "~", "\x00", "\n", " ", "C:", "%2e%2e%2f")


def poster(name: Any) -> Path | None:
    """Return the poster of a video whose processor gave it this name."""
    return Outputs(ROOT).poster(Video(job_id="job", position=3, video_id="one", result={"poster": name}))


def test_a_poster_is_in_the_directory_of_its_video() -> None:
    assert poster("poster.jpg") == DIRECTORY / "poster.jpg" == Outputs(ROOT).directory("job", 3) / "poster.jpg"


@pytest.mark.parametrize("result", [None, {}, {"frames": 25}])
def test_a_video_without_a_poster_has_none(result: dict[str, Any] | None) -> None:
    video = Video(job_id="job", position=3, video_id="one", result=result)
    assert Outputs(ROOT).poster(video) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../poster.jpg",
        "../../other-job/3/poster.jpg",
        "/etc/passwd",
        "/etc/poster.jpg",
        "sub/poster.jpg",
        "./poster.jpg",
        "poster.jpg/",
        "poster.jpg/..",
        "poster.png",
        "poster",
        "poster.jpg.exe",
        None,
        7,
        ["poster.jpg"],
        {"poster.jpg": 1},
    ],
    ids=repr,
)
def test_another_name_is_no_poster(name: Any) -> None:
    assert poster(name) is None


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)), st.sampled_from(("", ".jpg")))
def test_no_name_leads_out_of_the_directory(name: str, ending: str) -> None:
    path = poster(name + ending)
    assert path is None or (path.parent == DIRECTORY and ".." not in path.parts)


def test_only_the_files_of_the_job_are_removed(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "outputs")
    for job_id in ("one", "other"):
        for position in range(2):
            outputs.directory(job_id, position).mkdir(parents=True)
            (outputs.directory(job_id, position) / "poster.jpg").touch()
    outputs.remove("one")
    outputs.remove("one")
    outputs.remove("without files")
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["other"]
    assert len(list((tmp_path / "outputs").rglob("poster.jpg"))) == 2
