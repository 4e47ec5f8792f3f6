"""The media directory: how it finds the file of a video ID."""

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

SCAN_EXPIRED_SECONDS = 60.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    root.mkdir()
    return root


@pytest.fixture
def media(root: Path) -> MediaDirectory:
    return MediaDirectory(root, VirtualClock())


def put(path: Path, content: str = "a video") -> Path:
    """Write a file and its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


async def expect_failure(media: MediaDirectory, video_id: str = "abc") -> VideoFailed:
    """Return the failure that locating this ID has to end with."""
    with pytest.raises(VideoFailed) as raised:
        await media.locate(video_id)
    return raised.value


async def expect_error(media: MediaDirectory, video_id: str = "abc") -> str:
    """Return the sentence that locating this ID has to fail with."""
    return (await expect_failure(media, video_id)).sentence


@pytest.mark.parametrize(
    "name", ["abc.mp4", "deep/below/abc.mkv", "A film [abc].webm", "2026/Some [old] film [abc].MP4", "abc.unheard-of"]
)
async def test_a_file_is_found_under_both_kinds_of_names(media: MediaDirectory, root: Path, name: str) -> None:
    file = put(root / name)
    assert await media.locate("abc") == file.resolve()


@pytest.mark.parametrize(
    "name", ["abcd.mp4", "ABC.mp4", "abc", "abc.def.mp4", "film [abc] part 2.mp4", ".abc.mp4", ".trash/abc.mp4"]
)
async def test_files_with_other_names_are_ignored(media: MediaDirectory, root: Path, name: str) -> None:
    put(root / name)
    assert await expect_error(media) == "No file for this ID in the media directory"


async def test_an_id_may_have_dots_and_begin_with_a_hyphen(media: MediaDirectory, root: Path) -> None:
    file = put(root / "-a.b-c.mp4")
    assert await media.locate("-a.b-c") == file.resolve()


async def test_side_files_of_a_downloader_are_ignored(media: MediaDirectory, root: Path) -> None:
    for name in ("abc.mp4.part", "abc.mp4.ytdl", "abc.info.json", "abc.json", "abc.jpg", "abc.WEBP", "abc.vtt"):
        put(root / name)
    file = put(root / "abc.mp4")
    assert await media.locate("abc") == file.resolve()


async def test_two_files_for_one_id_are_both_named(media: MediaDirectory, root: Path) -> None:
    put(root / "abc.mp4")
    put(root / "old" / "Film [abc].mkv")
    sentence = await expect_error(media)
    assert (
        sentence == '2 files in the media directory have this ID: "abc.mp4" and "old/Film [abc].mkv"; keep one of them.'
    )


async def test_a_link_to_outside_is_not_followed(media: MediaDirectory, root: Path, tmp_path: Path) -> None:
    (root / "abc.mp4").symlink_to(put(tmp_path / "secret.mp4"))
    assert '"abc.mp4" is a link that leads outside the media directory' in await expect_error(media)


async def test_a_linked_directory_is_not_searched(media: MediaDirectory, root: Path, tmp_path: Path) -> None:
    put(tmp_path / "outside" / "abc.mp4")
    (root / "more").symlink_to(tmp_path / "outside")
    assert await expect_error(media) == (
        'No file for this ID in the media directory (not searched: "more" (a link to a directory))'
    )


async def test_a_link_inside_leads_to_its_target(media: MediaDirectory, root: Path) -> None:
    file = put(root / "library" / "42.mp4")
    (root / "abc.mp4").symlink_to(file)
    assert await media.locate("abc") == file.resolve()


async def test_the_media_directory_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    file = put(root / "abc.mp4")
    (tmp_path / "link").symlink_to(root)
    assert await MediaDirectory(tmp_path / "link", VirtualClock()).locate("abc") == file.resolve()


async def test_an_empty_file_is_reported(media: MediaDirectory, root: Path) -> None:
    put(root / "abc.mp4", "")
    assert await expect_error(media) == 'The file is empty: "abc.mp4"'


async def test_a_pipe_is_refused_without_a_wait(media: MediaDirectory, root: Path) -> None:
    os.mkfifo(root / "abc.mp4")
    assert await expect_error(media) == '"abc.mp4" is not a regular file.'


@pytest.mark.parametrize("video_id", ["../secret", "/etc/passwd", "..", "deep/abc"])
async def test_an_id_is_never_a_path(media: MediaDirectory, root: Path, tmp_path: Path, video_id: str) -> None:
    put(tmp_path / "secret.mp4")
    put(root / "deep" / "abc.mp4")
    assert await expect_error(media, video_id) == "No file for this ID in the media directory"


async def test_a_missing_directory_is_named_with_the_setting(tmp_path: Path) -> None:
    media = MediaDirectory(tmp_path / "nowhere", VirtualClock())
    sentence = await expect_error(media)
    assert str(tmp_path / "nowhere") in sentence
    assert "DASHBOARD_MEDIA_DIR" in sentence
    assert await media.count_found(["abc"]) == 0


async def test_ids_with_a_file_are_counted(media: MediaDirectory, root: Path) -> None:
    put(root / "a.mp4")
    put(root / "deep" / "Film [b].mkv")
    assert await media.count_found(["a", "b", "c"]) == 2


async def test_a_new_file_is_found_by_a_later_scan(root: Path) -> None:
    clock = VirtualClock()
    media = MediaDirectory(root, clock)
    assert await media.count_found(["abc"]) == 0
    file = put(root / "abc.mp4")
    await clock.advance(SCAN_EXPIRED_SECONDS)
    assert await media.locate("abc") == file.resolve()


async def test_a_removed_file_is_reported(media: MediaDirectory, root: Path) -> None:
    file = put(root / "abc.mp4")
    await media.locate("abc")
    file.unlink()
    assert await expect_error(media) == '"abc.mp4" cannot be read: No such file or directory.'


async def test_a_directory_replaced_by_a_link_is_not_followed(
    media: MediaDirectory, root: Path, tmp_path: Path
) -> None:
    put(root / "deep" / "abc.mp4")
    await media.locate("abc")
    put(tmp_path / "outside" / "abc.mp4")
    shutil.rmtree(root / "deep")
    (root / "deep").symlink_to(tmp_path / "outside")
    assert "reached through a link" in await expect_error(media)


async def test_many_missing_ids_cause_one_scan(root: Path) -> None:
    """While the clock does not advance, one scan answers all requests, so that a new file is not found."""
    media = MediaDirectory(root, VirtualClock())
    await asyncio.gather(*(expect_error(media, f"missing-{number}") for number in range(500)))
    put(root / "abc.mp4")
    assert await media.count_found(["abc"]) == 0


class SlowClock(VirtualClock):
    """Advances by a second with each call, so that a scan takes a second."""

    def monotonic(self) -> float:
        self._elapsed += 1
        return self._elapsed


async def test_a_slow_scan_is_used_for_longer(root: Path) -> None:
    """A scan of one second is used for twenty seconds."""
    media = MediaDirectory(root, SlowClock())
    assert await media.count_found(["abc"]) == 0
    put(root / "abc.mp4")
    counts = [await media.count_found(["abc"]) for _ in range(25)]
    assert 15 <= counts.index(1) <= 21


async def test_cancelling_one_request_does_not_cancel_the_scan(media: MediaDirectory, root: Path) -> None:
    file = put(root / "abc.mp4")
    cancelled, other = asyncio.create_task(media.locate("abc")), asyncio.create_task(media.locate("abc"))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await other == file.resolve()


async def test_names_that_are_not_text_are_escaped(media: MediaDirectory, root: Path) -> None:
    for prefix in (b"\xff\x1b[31m", b"other"):
        Path(os.fsdecode(os.fsencode(root) + b"/" + prefix + b" [abc].mp4")).write_text("a video")
    sentence = await expect_error(media)
    assert r"\xff\x1b[31m [abc].mp4" in sentence
    assert sentence.encode()


@pytest.mark.parametrize("target", ["loop.mp4", "here.mp4/x"])
async def test_a_broken_link_does_not_affect_other_videos(media: MediaDirectory, root: Path, target: str) -> None:
    (root / "here.mp4").write_text("a video")
    (root / "loop.mp4").symlink_to(root / target)
    assert (await media.locate("here")).name == "here.mp4"
    with pytest.raises(VideoFailed):
        await media.locate("loop")


async def test_a_missing_directory_is_a_fault_of_the_machine(tmp_path: Path) -> None:
    media = MediaDirectory(tmp_path / "nowhere", VirtualClock())
    assert (await expect_failure(media)).fault is Fault.MACHINE


async def test_an_empty_directory_that_must_be_mounted_is_a_fault_of_the_machine(root: Path) -> None:
    """Where files are expected, it is a mount that is missing, also while a scan from before is still fresh."""
    media = MediaDirectory(root, VirtualClock(), may_be_empty=False)
    file = put(root / "abc.mp4")
    assert await media.locate("abc") == file.resolve()
    await media.check()
    file.unlink()
    with pytest.raises(VideoFailed, match="is empty on this machine; mount the videos there") as raised:
        await media.check()
    assert raised.value.fault is Fault.MACHINE


async def test_an_unreadable_directory_is_reported_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    failure = await expect_failure(MediaDirectory(tmp_path / "circle", VirtualClock()))
    assert "cannot be read (Too many levels of symbolic links); fix that" in failure.sentence
    assert failure.fault is Fault.MACHINE


async def test_a_failed_scan_is_a_fault_of_the_machine(media: MediaDirectory, root: Path) -> None:
    """A scan that failed for a temporary reason could have missed the file."""
    put(root / "abc.mp4")
    limit, ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)
    await asyncio.to_thread(os.getpid)  # starts the thread while files can still be opened
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, ceiling))
    try:
        failure = await expect_failure(media)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, ceiling))
    assert "Too many open files" in failure.sentence
    assert failure.fault is Fault.MACHINE


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
async def test_a_missing_or_unusable_file_is_a_permanent_fault(
    media: MediaDirectory, root: Path, make: Callable[[Path], object]
) -> None:
    make(root / "abc.mp4")
    assert (await expect_failure(media)).fault is Fault.PERMANENT


SIDE_FILES = (
    *(
        "abc.THM",
        "abc.LRV",
        "abc.xmp",
        "abc.edl",
        "abc.ifo",
        "abc.bak",
        "abc.log",
        "abc.gpx",
        "abc.mp4~",
        "abc.torrent",
    ),
    *("abc.!qB", "abc.filepart", "abc.mp4.part", "abc.crdownload", "abc.mp4.!qB", "abc.aria2", "abc.download"),
    *("abc.m4a", "abc.mp3", "abc.opus", "abc.wav", "Film [abc].m4a", "abc.never-heard-of", "abc.insv", "abc.prproj"),
)


@pytest.mark.parametrize("name", SIDE_FILES)
async def test_a_film_wins_over_what_is_no_film(media: MediaDirectory, root: Path, name: str) -> None:
    put(root / "aside" / name)
    file = put(root / "abc.mp4")
    assert await media.locate("abc") == file.resolve()
    assert await media.count_found(["abc"]) == 1


@pytest.mark.parametrize(
    "names", [("abc.mp4", "abc.mkv"), ("abc.MP4", "Film [abc].ts"), ("abc.mov", "B [abc] [4K].mp4")]
)
async def test_two_films_of_one_id_are_refused(media: MediaDirectory, root: Path, names: tuple[str, str]) -> None:
    for name in names:
        put(root / name)
    assert (await expect_error(media)).startswith("2 files in the media directory have this ID")
    assert await media.count_found(["abc"]) == 0


@pytest.mark.parametrize("name", ["abc.unheard-of", "abc.LRV", "abc.m4a"])
async def test_what_may_be_a_film_is_found_alone(media: MediaDirectory, root: Path, name: str) -> None:
    file = put(root / name)
    assert await media.locate("abc") == file.resolve()


@pytest.mark.parametrize("name", ["abc.part", "abc.crdownload", "abc.!qB", "abc.filepart", "abc.mp4~", "abc.torrent"])
async def test_what_is_not_yet_a_film_is_never_taken(media: MediaDirectory, root: Path, name: str) -> None:
    put(root / name)
    assert await expect_error(media) == "No file for this ID in the media directory"


@pytest.mark.parametrize(
    "bin_of",
    [
        *("#recycle", "@Recycle", "$RECYCLE.BIN/S-1-5-21", "@eaDir/abc.mp4", "deep/#recycle/old", "lost+found"),
        *("System Volume Information", "RECYCLER", "#snapshot/monday", "@Recently-Snapshot/1", "Network Trash Folder"),
    ],
)
async def test_bins_and_metadata_of_storage_systems_are_passed_over(
    media: MediaDirectory, root: Path, bin_of: str
) -> None:
    put(root / bin_of / "abc.mp4")
    assert await expect_error(media) == "No file for this ID in the media directory"
    file = put(root / "Season 1" / "abc.mp4")
    assert await MediaDirectory(root, VirtualClock()).locate("abc") == file.resolve()


@pytest.mark.parametrize("name", ["#1 hits", "@home", "Season 1", "$ money", "recycle tips", "#recycled art", "bin"])
async def test_directories_with_unusual_names_are_searched(media: MediaDirectory, root: Path, name: str) -> None:
    file = put(root / name / "abc.mp4")
    assert await media.locate("abc") == file.resolve()


@pytest.mark.parametrize(
    "name",
    [
        *("Film [abc] [1080p].mkv", "Film [abc][1080p].mkv", "Film [abc] (2019).mkv", "Film [abc] (2019) [x265].mkv"),
        *("[abc] [1080p].mp4", "Film [1999] cut [abc] [HDR10] [DV].mkv", "Film [abc].[1080p].mkv"),
    ],
)
async def test_further_words_in_brackets_may_follow_the_id(media: MediaDirectory, root: Path, name: str) -> None:
    file = put(root / name)
    assert await media.locate("abc") == file.resolve()
