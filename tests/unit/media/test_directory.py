"""The media directory: which file is a video ID's."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.errors import Fault, VideoFailed
from backend.media.directory import MediaDirectory
from tests.support.clock import VirtualClock

A_WHILE = 60.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    root.mkdir()
    return root


@pytest.fixture
def media(root: Path) -> MediaDirectory:
    return MediaDirectory(root, VirtualClock())


def put(path: Path, content: str = "a video") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


async def why_not(media: MediaDirectory, video_id: str = "abc") -> str:
    with pytest.raises(VideoFailed) as refusal:
        await media.locate(video_id)
    return refusal.value.sentence


@pytest.mark.parametrize(
    "name", ["abc.mp4", "deep/below/abc.mkv", "A film [abc].webm", "2026/Some [old] film [abc].MP4", "abc.unheard-of"]
)
async def test_a_file_is_found_by_either_way_of_naming_it(media: MediaDirectory, root: Path, name: str) -> None:
    file = put(root / name)
    assert await media.locate("abc") == file.resolve()


@pytest.mark.parametrize(
    "name", ["abcd.mp4", "ABC.mp4", "abc", "abc.def.mp4", "film [abc] part 2.mp4", ".abc.mp4", ".trash/abc.mp4"]
)
async def test_other_files_are_not_taken_for_it(media: MediaDirectory, root: Path, name: str) -> None:
    put(root / name)
    assert await why_not(media) == "No file for this ID in the media directory"


async def test_an_id_may_hold_dots_and_begin_with_a_hyphen(media: MediaDirectory, root: Path) -> None:
    file = put(root / "-a.b-c.mp4")
    assert await media.locate("-a.b-c") == file.resolve()


async def test_side_files_of_a_downloader_do_not_count(media: MediaDirectory, root: Path) -> None:
    for name in ("abc.mp4.part", "abc.mp4.ytdl", "abc.info.json", "abc.json", "abc.jpg", "abc.WEBP", "abc.vtt"):
        put(root / name)
    file = put(root / "abc.mp4")
    assert await media.locate("abc") == file.resolve()


async def test_two_files_for_one_id_are_both_named(media: MediaDirectory, root: Path) -> None:
    put(root / "abc.mp4")
    put(root / "old" / "Film [abc].mkv")
    sentence = await why_not(media)
    assert (
        sentence == '2 files in the media directory have this ID: "abc.mp4" and "old/Film [abc].mkv"; keep one of them.'
    )


async def test_a_link_to_outside_is_not_followed_and_says_so(media: MediaDirectory, root: Path, tmp_path: Path) -> None:
    (root / "abc.mp4").symlink_to(put(tmp_path / "secret.mp4"))
    assert '"abc.mp4" is a link that leads outside the media directory' in await why_not(media)


async def test_a_linked_directory_is_not_searched_and_says_so(
    media: MediaDirectory, root: Path, tmp_path: Path
) -> None:
    put(tmp_path / "elsewhere" / "abc.mp4")
    (root / "more").symlink_to(tmp_path / "elsewhere")
    assert await why_not(media) == (
        'No file for this ID in the media directory (not searched: "more" (a link to a directory))'
    )


async def test_a_link_inside_counts_as_the_file_that_it_leads_to(media: MediaDirectory, root: Path) -> None:
    file = put(root / "library" / "42.mp4")
    (root / "abc.mp4").symlink_to(file)
    assert await media.locate("abc") == file.resolve()


async def test_the_media_directory_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    file = put(root / "abc.mp4")
    (tmp_path / "link").symlink_to(root)
    assert await MediaDirectory(tmp_path / "link", VirtualClock()).locate("abc") == file.resolve()


async def test_an_empty_file_says_so(media: MediaDirectory, root: Path) -> None:
    put(root / "abc.mp4", "")
    assert await why_not(media) == 'The file is empty: "abc.mp4"'


async def test_a_pipe_is_refused_without_waiting_for_it(media: MediaDirectory, root: Path) -> None:
    os.mkfifo(root / "abc.mp4")
    assert await why_not(media) == '"abc.mp4" is not a regular file.'


@pytest.mark.parametrize("video_id", ["../secret", "/etc/passwd", "..", "deep/abc"])
async def test_an_id_is_never_a_path(media: MediaDirectory, root: Path, tmp_path: Path, video_id: str) -> None:
    put(tmp_path / "secret.mp4")
    put(root / "deep" / "abc.mp4")
    assert await why_not(media, video_id) == "No file for this ID in the media directory"


async def test_without_the_directory_the_error_names_it_and_the_setting(tmp_path: Path) -> None:
    media = MediaDirectory(tmp_path / "nowhere", VirtualClock())
    sentence = await why_not(media)
    assert str(tmp_path / "nowhere") in sentence
    assert "DASHBOARD_MEDIA_DIR" in sentence
    assert await media.count_found(["abc"]) == 0


async def test_how_many_ids_have_a_file(media: MediaDirectory, root: Path) -> None:
    put(root / "a.mp4")
    put(root / "deep" / "Film [b].mkv")
    assert await media.count_found(["a", "b", "c"]) == 2


async def test_a_file_that_came_later_is_found(root: Path) -> None:
    clock = VirtualClock()
    media = MediaDirectory(root, clock)
    assert await media.count_found(["abc"]) == 0
    file = put(root / "abc.mp4")
    await clock.advance(A_WHILE)
    assert await media.locate("abc") == file.resolve()


async def test_a_file_that_went_away_is_reported(media: MediaDirectory, root: Path) -> None:
    file = put(root / "abc.mp4")
    await media.locate("abc")
    file.unlink()
    assert await why_not(media) == '"abc.mp4" cannot be read: No such file or directory.'


async def test_a_directory_swapped_for_a_link_after_the_scan_is_not_followed(
    media: MediaDirectory, root: Path, tmp_path: Path
) -> None:
    put(root / "deep" / "abc.mp4")
    await media.locate("abc")
    put(tmp_path / "elsewhere" / "abc.mp4")
    shutil.rmtree(root / "deep")
    (root / "deep").symlink_to(tmp_path / "elsewhere")
    assert "reached through a link" in await why_not(media)


async def test_many_missing_ids_do_not_scan_again_and_again(root: Path) -> None:
    """With time standing still one scan answers everything: a file that comes in between is not seen."""
    media = MediaDirectory(root, VirtualClock())
    await asyncio.gather(*(why_not(media, f"missing-{number}") for number in range(500)))
    put(root / "abc.mp4")
    assert await media.count_found(["abc"]) == 0


class SlowClock(VirtualClock):
    """Each look at it takes a second, so that a scan does, too."""

    def monotonic(self) -> float:
        self._elapsed += 1
        return self._elapsed


async def test_a_scan_that_takes_long_is_good_for_longer(root: Path) -> None:
    """A scan of one second is good for twenty."""
    media = MediaDirectory(root, SlowClock())
    assert await media.count_found(["abc"]) == 0
    put(root / "abc.mp4")
    answers = [await media.count_found(["abc"]) for _ in range(25)]
    assert 15 <= answers.index(1) <= 21


async def test_giving_up_one_question_does_not_spoil_the_scan_for_another(media: MediaDirectory, root: Path) -> None:
    file = put(root / "abc.mp4")
    given_up, other = asyncio.create_task(media.locate("abc")), asyncio.create_task(media.locate("abc"))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await other == file.resolve()


async def test_names_that_are_not_text_are_shown_escaped(media: MediaDirectory, root: Path) -> None:
    for prefix in (b"\xff\x1b[31m", b"other"):
        Path(os.fsdecode(os.fsencode(root) + b"/" + prefix + b" [abc].mp4")).write_text("a video")
    sentence = await why_not(media)
    assert r"\xff\x1b[31m [abc].mp4" in sentence
    assert sentence.encode()


@pytest.mark.parametrize("target", ["loop.mp4", "here.mp4/x"])
async def test_a_link_that_leads_nowhere_harms_no_other_video(media: MediaDirectory, root: Path, target: str) -> None:
    (root / "here.mp4").write_text("a video")
    (root / "loop.mp4").symlink_to(root / target)
    assert (await media.locate("here")).name == "here.mp4"
    with pytest.raises(VideoFailed):
        await media.locate("loop")


async def test_a_media_directory_that_is_gone_is_the_machines_trouble(tmp_path: Path) -> None:
    media = MediaDirectory(tmp_path / "nowhere", VirtualClock())
    with pytest.raises(VideoFailed) as refusal:
        await media.locate("abc")
    assert refusal.value.fault is Fault.MACHINE


async def test_a_media_directory_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    media = MediaDirectory(tmp_path / "circle", VirtualClock())
    with pytest.raises(
        VideoFailed, match=r"cannot be read \(Too many levels of symbolic links\); mend that"
    ) as refusal:
        await media.locate("abc")
    assert refusal.value.fault is Fault.MACHINE


async def test_when_files_cannot_be_looked_at_for_now_a_missing_one_may_be_there(
    media: MediaDirectory, root: Path
) -> None:
    put(root / "abc.mp4")
    most, ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)
    await asyncio.to_thread(os.getpid)  # its thread is there before nothing more can be opened
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, ceiling))
    try:
        with pytest.raises(VideoFailed, match="Too many open files") as refusal:
            await media.locate("abc")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, ceiling))
    assert refusal.value.fault is Fault.MACHINE


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text(""),
        os.mkfifo,
        lambda path: path.symlink_to(path.parent.parent),
        lambda path: path.symlink_to(path),
        lambda path: None,
    ],
)
async def test_a_missing_or_broken_file_is_no_trouble_of_the_machine(
    media: MediaDirectory, root: Path, make: Callable[[Path], object]
) -> None:
    make(root / "abc.mp4")
    with pytest.raises(VideoFailed) as refusal:
        await media.locate("abc")
    assert refusal.value.fault is Fault.PERMANENT
