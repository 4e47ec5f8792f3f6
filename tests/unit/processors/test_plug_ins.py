"""Plug-ins that are gone, broken or changed since a job was submitted for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backend.clock import SystemClock
from backend.errors import Fault, VideoFailed
from backend.processors import BrokenProcessor, VideoFile, load, validated_options
from backend.processors.child import ChildRunner
from tests.support.clips import make_clip
from tests.support.weighing import BROKEN, WORKING, Weigh

GONE = "The processor weigh is not installed any more; install it again, then resume the job."
UNLOADABLE = (
    "The processor weigh cannot be loaded (ModuleNotFoundError); repair or update its package, then resume the job."
)


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weigh:
    """Return the plug-in, which is not installed, in a directory on the module path of all processes."""
    (tmp_path / "plug-ins").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "plug-ins"))
    return Weigh(tmp_path / "plug-ins")


@pytest.fixture
def video(tmp_path: Path) -> VideoFile:
    clip = make_clip(tmp_path / "media" / "clip.mp4", seconds=0.2)
    return VideoFile(clip, clip.parent, tmp_path / "output")


@pytest.fixture(params=["forked", "spawned"])
async def runner(request: pytest.FixtureRequest, plug_in: Weigh) -> AsyncIterator[ChildRunner]:
    runner = ChildRunner(
        timeout_seconds=60, memory_mib=2048, clock=SystemClock(), forking=request.param == "forked", find=load
    )
    await runner.start()
    yield runner
    await runner.stop()


async def weigh(runner: ChildRunner, video: VideoFile, **options: Any) -> dict[str, Any]:
    return await runner.run("weigh", video, options, on_step=lambda _: None)


async def refused(runner: ChildRunner, video: VideoFile, **options: Any) -> VideoFailed:
    """Return the failure that a run of the plug-in has to end with."""
    with pytest.raises(VideoFailed) as raised:
        await weigh(runner, video, **options)
    return raised.value


async def test_a_plug_in_that_is_gone_is_named_as_the_machines_fault(
    runner: ChildRunner, plug_in: Weigh, video: VideoFile
) -> None:
    """The video is done once the plug-in is back, without a restart of the server."""
    plug_in.install()
    size = video.path.stat().st_size
    assert await weigh(runner, video, max_mib=1) == {"size_bytes": size}
    plug_in.remove()
    failure = await refused(runner, video, max_mib=1)
    assert (failure.sentence, failure.fault) == (GONE, Fault.MACHINE)
    plug_in.install()
    assert await weigh(runner, video, max_mib=1) == {"size_bytes": size}


async def test_a_plug_in_that_cannot_be_imported_is_the_machines_fault(
    runner: ChildRunner, plug_in: Weigh, video: VideoFile
) -> None:
    plug_in.install(BROKEN)
    failure = await refused(runner, video)
    assert (failure.sentence, failure.fault) == (UNLOADABLE, Fault.MACHINE)
    assert "a_module_that_nobody_has" in failure.traceback


async def test_a_plug_in_that_takes_other_options_is_the_machines_fault(
    runner: ChildRunner, plug_in: Weigh, video: VideoFile
) -> None:
    plug_in.install(WORKING.format(option="max_gib"))
    failure = await refused(runner, video, max_mib=1)
    assert failure.fault is Fault.MACHINE
    assert failure.sentence == (
        "The installed processor weigh does not take the job's options; "
        "install the version that the job was submitted for, or submit its list again."
    )


def test_a_list_for_a_broken_plug_in_is_refused_in_one_sentence(plug_in: Weigh) -> None:
    plug_in.install(BROKEN)
    with pytest.raises(BrokenProcessor, match="The processor weigh cannot be loaded"):
        validated_options("weigh", {})
