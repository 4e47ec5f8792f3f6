"""The demo's clips: written in the background, two of them damaged, complete after every interruption."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE

import pytest

from backend.errors import VideoFailed
from backend.media.demo import CLIPS, CUT_OFF, DAMAGED, MISSING, DemoClips
from backend.processors import VideoFile, load, validated_options
from tests import ROOT

FIRST, SECOND = (name for name, *_ in CLIPS[:2])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "demo"


@pytest.fixture
async def demo(directory: Path) -> AsyncIterator[DemoClips]:
    demo = DemoClips(directory)
    yield demo
    await demo.close()


def expect_readable(path: Path) -> None:
    """Check that `probe` reads the clip to its end. Raises `VideoFailed` otherwise."""
    processor = load("probe")
    for _ in processor.run(VideoFile(path, path.parent, path.parent), processor.options()):
        pass


async def test_all_clips_are_written_and_exactly_two_are_damaged(demo: DemoClips, directory: Path) -> None:
    """The clips are small, none is left unfinished, and each damaged one has its own error."""
    await demo.prepare()
    paths = {name: await demo.locate(name) for name in demo.video_ids if name != MISSING}
    failures = {}
    for name, path in paths.items():
        try:
            expect_readable(path)
        except VideoFailed as error:
            failures[name] = error.sentence
    assert failures.keys() == {CUT_OFF, DAMAGED}
    assert failures[CUT_OFF].startswith("File is cut off: the index is missing")
    assert failures[DAMAGED].startswith("File is damaged: ")
    assert sum(path.stat().st_size for path in paths.values()) < 40e6
    assert {path.name for path in directory.iterdir()} == {path.name for path in paths.values()} | {"poster.jpg"}


async def test_the_demo_takes_about_45_seconds_with_two_slots(demo: DemoClips) -> None:
    seconds = sum(clip[2] for clip in CLIPS if clip[0] != CUT_OFF)
    speed = validated_options("probe", demo.options)["max_speed"]
    assert 40 <= seconds / speed / 2 <= 50
    assert len(demo.video_ids) == len(set(demo.video_ids)) == 24


async def test_one_video_has_no_file(demo: DemoClips) -> None:
    with pytest.raises(VideoFailed, match="No file for this ID"):
        await demo.locate(MISSING)
    assert await demo.count_found(demo.video_ids) == 23


async def test_locating_a_clip_starts_the_writing(demo: DemoClips) -> None:
    expect_readable(await demo.locate(FIRST))


async def test_only_unfinished_clips_are_written_again(directory: Path) -> None:
    directory.mkdir()
    (directory / f"{FIRST}.mp4").write_text("finished earlier")
    for half in (f"{SECOND}.mp4.part", f".{SECOND}.mp4.part", f".{SECOND}.mp4"):
        (directory / half).write_text("half")
    demo = DemoClips(directory)
    try:
        assert (await demo.locate(FIRST)).read_text() == "finished earlier"
        expect_readable(await demo.locate(SECOND))
    finally:
        await demo.close()


async def test_a_removed_clip_is_written_again(demo: DemoClips) -> None:
    (await demo.locate(FIRST)).unlink()
    await demo.close()
    expect_readable(await demo.locate(FIRST))


async def test_two_machines_may_write_the_clips_at_once(directory: Path) -> None:
    one, two = DemoClips(directory), DemoClips(directory)
    try:
        paths = await asyncio.gather(*(demo.locate(name) for name in (FIRST, SECOND) for demo in (one, two)))
        for path in paths:
            expect_readable(path)
        assert len(set(paths)) == 2
    finally:
        await asyncio.gather(one.close(), two.close())


async def test_a_clip_of_another_machine_is_used_as_it_is(directory: Path) -> None:
    directory.mkdir()
    (directory / f"{SECOND}.mp4").write_text("written elsewhere")
    demo = DemoClips(directory)
    assert (await demo.locate(SECOND)).read_text() == "written elsewhere"
    assert writers(directory) == []


async def test_clips_of_an_earlier_version_are_taken_over(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / f"{FIRST}.mp4").write_text("finished earlier")
    demo = DemoClips(tmp_path / "outputs" / "demo")
    demo.adopt(tmp_path / "demo")
    assert (await demo.locate(FIRST)).read_text() == "finished earlier"
    assert not (tmp_path / "demo").exists()


def writers(directory: Path) -> list[str]:
    """Return the processes that were started with this directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has exited
            if str(directory) in (process / "cmdline").read_text(errors="replace"):
                found.append(process.name)
    return found


async def test_writing_stops_on_close_and_continues_later(demo: DemoClips, directory: Path) -> None:
    await demo.locate(FIRST)
    assert len(writers(directory)) == 1
    await demo.close()
    assert writers(directory) == []
    expect_readable(await demo.locate(SECOND))


async def test_killing_the_server_ends_the_writer(directory: Path) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", A_SERVER % str(directory), stdout=PIPE, cwd=ROOT
    )
    assert server.stdout is not None
    assert await server.stdout.readline() == b"writing\n"
    server.kill()
    await server.wait()
    async with asyncio.timeout(10):
        while writers(directory):  # noqa: ASYNC110  the state of another process has no event
            await asyncio.sleep(0.01)
    assert writers(directory) == []


A_SERVER = """
import asyncio, pathlib
from backend.media.demo import CLIPS, DemoClips

async def main():
    await DemoClips(pathlib.Path(%r)).locate(CLIPS[0][0])
    print("writing", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_an_unusable_directory_fails_the_videos(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("a file instead of the directory")
    demo = DemoClips(tmp_path / "demo")
    try:
        with pytest.raises(VideoFailed, match="could not be written"):
            await demo.locate(FIRST)
    finally:
        await demo.close()
