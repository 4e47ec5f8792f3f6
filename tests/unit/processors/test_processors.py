"""The processor `probe`, the registered processors and their options."""

from __future__ import annotations

import asyncio
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest
import uvloop

from backend.clock import SystemClock
from backend.errors import Invalid, VideoFailed
from backend.processors import VideoFile, load, names, validated_options
from backend.processors.child import ChildRunner
from backend.processors.inspection import ReadingPace
from tests import ROOT
from tests.support.clips import foreign_clips, make_clip, truncated, zeroed


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "media" / "clip.mp4", audio=True)


def probe(path: Path, root: Path | None = None, **options: Any) -> dict[str, Any]:
    """Run `probe` in this process and return its result."""
    file = VideoFile(path, root or path.parent, path.parent)
    processor = load("probe")
    steps = processor.run(file, processor.options(**options))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: dict[str, Any] = end.value
            return result


def expect_failure(path: Path, root: Path | None = None) -> str:
    """Return the sentence that `probe` has to fail with."""
    with pytest.raises(VideoFailed) as raised:
        probe(path, root)
    return raised.value.sentence


def size_of(picture: Path) -> tuple[int, int]:
    with av.open(str(picture)) as container:
        frame = next(container.decode(video=0))
    return frame.width, frame.height


# facts of readable videos


def test_probe_returns_the_facts_of_a_video(clip: Path) -> None:
    assert probe(clip) == {
        "container": "mp4",
        "duration_seconds": pytest.approx(1.0, abs=0.05),
        "bit_rate": pytest.approx(clip.stat().st_size * 8, rel=0.05),
        "size_bytes": clip.stat().st_size,
        "video": {
            "codec": "h264",
            "width": 160,
            "height": 120,
            "display_width": 160,
            "display_height": 120,
            "frame_rate": 15.0,
            "frames": 15,
        },
        "audio": {"codec": "aac", "channels": 2, "sample_rate": 48000, "decoded": True},
        "poster": "poster.jpg",
        "packets": pytest.approx(63, abs=5),
        "bad_packets": 0,
        "verified_share": 1.0,
        "passed_over": [],
    }


@pytest.mark.parametrize(
    ("name", "codec", "container", "reported"),
    [
        ("a.mkv", "libx264", "matroska", "h264"),
        ("a.webm", "libvpx", "webm", "vp8"),
        ("a.webm", "libvpx-vp9", "webm", "vp9"),
        ("a.avi", "mpeg4", "avi", "mpeg4"),
        ("a.avi", "mjpeg", "avi", "mjpeg"),
    ],
)
def test_common_formats_are_read(tmp_path: Path, name: str, codec: str, container: str, reported: str) -> None:
    result = probe(make_clip(tmp_path / name, audio=True, codec=codec))
    assert (result["container"], result["video"]["codec"], result["video"]["frames"]) == (container, reported, 15)


def test_a_silent_video_has_no_audio(tmp_path: Path) -> None:
    assert probe(make_clip(tmp_path / "a.mp4"))["audio"] is None


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((160, 120), (160, 120)), ((1280, 720), (640, 360)), ((720, 406), (640, 360)), ((162, 98), (162, 98))],
)
def test_a_poster_is_even_and_at_most_640_pixels_wide(
    tmp_path: Path, size: tuple[int, int], drawn: tuple[int, int]
) -> None:
    probe(make_clip(tmp_path / "a.mp4", seconds=0.2, size=size))
    assert size_of(tmp_path / "poster.jpg") == drawn
    assert not list(tmp_path.glob("*.part"))


def test_a_poster_of_an_upright_phone_video_is_upright(tmp_path: Path) -> None:
    rotated(make_clip(tmp_path / "sideways.mp4", size=(320, 180)), tmp_path / "a.mp4", degrees=90)
    probe(tmp_path / "a.mp4")
    assert size_of(tmp_path / "poster.jpg") == (180, 320)


def rotated(source: Path, target: Path, *, degrees: int) -> None:
    """Copy a video and declare a rotation in its header, as phones do."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        stream.set_display_rotation(degrees)
        for packet in reading.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                writing.mux(packet)


def test_clips_made_by_others_are_read(tmp_path: Path) -> None:
    found = {}
    for clip in foreign_clips():
        result = probe(Path(shutil.copy(clip, tmp_path)))
        found[clip.name] = (result["video"]["width"], result["video"]["height"], result["video"]["frames"])
    assert found == {
        "bigbuckbunny.mp4": (1280, 720, 132),
        "bikes.mp4": (640, 272, 250),
        "carphone_distorted.mp4": (176, 144, 120),
        "carphone_pristine.mp4": (176, 144, 120),
        "cityCC0.mpg": (720, 405, 190),
    }


def test_a_title_need_not_be_utf_8(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.avi"), "w") as output:
        output.metadata["title"] = "Cafe"
        stream = output.add_stream("mpeg4", rate=5)
        output.mux([*stream.encode(av.VideoFrame(64, 64, "yuv420p")), *stream.encode(None)])
    content = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(content.replace(b"Cafe", b"Caf\xe9"))
    assert probe(tmp_path / "a.avi")["video"]["frames"] == 1


def test_a_few_bad_packets_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    clip = zeroed(make_clip(tmp_path / "a.mp4", seconds=8), 0.5, 0.51)
    result = probe(clip)
    assert 1 <= result["bad_packets"] <= 6
    assert result["video"]["frames"] >= 114


def test_fractions_never_go_back(clip: Path) -> None:
    processor = load("probe")
    fractions = [step.fraction for step in processor.run(video_here(clip), processor.options())]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert 0.9 < fractions[-1] < 1.0


def video_here(path: Path) -> VideoFile:
    return VideoFile(path, path.parent, path.parent)


def test_reading_is_limited_to_the_maximum_speed() -> None:
    moment, slept = 100.0, []

    def sleep(seconds: float) -> None:
        nonlocal moment
        moment += seconds
        slept.append(seconds)

    pace = ReadingPace(max_speed=2.0, monotonic=lambda: moment, sleep=sleep)
    for media_seconds in (0.0, 1.0, 3.0):
        pace.hold(media_seconds)
    assert moment == pytest.approx(101.5)
    assert slept == pytest.approx([0.5, 1.0])


# files that probe refuses


def text_named_mp4(path: Path) -> Path:
    path.write_text("My holiday notes, saved under the wrong name.\n" * 20)
    return path


def web_page(path: Path) -> Path:
    path.write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")
    return path


def zeros(path: Path) -> Path:
    path.write_bytes(bytes(50_000))
    return path


def noise(path: Path) -> Path:
    path.write_bytes(b"\x07\x9a\xfe\x11" * 10_000)
    return path


def nothing(path: Path) -> Path:
    path.touch()
    return path


def only_sound(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        audio = output.add_stream("aac", rate=48_000)
        frame = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
        frame.sample_rate = 48_000
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        output.mux([*audio.encode(frame), *audio.encode(None)])
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: truncated(make_clip(path)), "File is cut off: the index is missing"),
        (lambda path: zeroed(make_clip(path)), "File is damaged: "),
        (text_named_mp4, "Not a video: it is a text file."),
        (web_page, "Not a video: it is a web page"),
        (zeros, "Not a video: the file begins with nothing but zeros"),
        (noise, "Not a video: its format is not supported"),
        (nothing, 'The file is empty: "a.mp4"'),
        (only_sound, "There is no video in this file."),
    ],
)
def test_each_kind_of_bad_file_has_its_own_error(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    assert expect_failure(make(tmp_path / "a.mp4")).startswith(words)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.avi"])
def test_a_file_that_ends_early_is_cut_off(tmp_path: Path, name: str) -> None:
    codec = {"a.mkv": "libx264", "a.webm": "libvpx", "a.avi": "mpeg4"}[name]
    clip = truncated(make_clip(tmp_path / name, seconds=4, codec=codec), 0.5)
    assert expect_failure(clip).startswith("File is cut off: it should last ")


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    assert expect_failure(tmp_path / "a.mp4") == '"a.mp4" cannot be read: No such file or directory.'


def test_the_error_of_ffmpeg_is_the_cause_of_the_failure(tmp_path: Path) -> None:
    with pytest.raises(VideoFailed) as raised:
        probe(truncated(make_clip(tmp_path / "a.mp4")))
    assert isinstance(raised.value.__cause__, av.error.InvalidDataError)


def test_a_rare_codec_is_refused_before_its_decoder_runs(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.avi", codec="magicyuv")
    assert expect_failure(clip) == "Its video codec (magicyuv) is not supported."


def test_a_picture_beyond_the_size_limit_is_refused(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.avi", seconds=0.1, size=(8200, 32), codec="mjpeg")
    assert expect_failure(clip) == "The picture is too large: 8200 × 32; the limit is 8192 × 4320."


@pytest.fixture
def web_server() -> Iterator[tuple[str, list[str]]]:
    """Run a web server that records the requested paths."""
    requested: list[str] = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", requested
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.ts"])
def test_a_playlist_is_refused_and_nothing_is_fetched(
    tmp_path: Path, web_server: tuple[str, list[str]], name: str
) -> None:
    address, requested = web_server
    other = make_clip(tmp_path / "other" / "other.mkv")
    playlist = tmp_path / name
    playlist.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{address}/a.ts\n#EXTINF:10,\n{other}\n#EXT-X-ENDLIST\n"
    )
    assert expect_failure(playlist) == "Not a video: it is a playlist, which names other files and is not followed."
    assert requested == []


@pytest.mark.parametrize(
    "content", ["ffconcat version 1.0\nfile other.mp4\n", "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"]
)
def test_other_files_that_name_files_are_refused(tmp_path: Path, content: str) -> None:
    make_clip(tmp_path / "other.mp4")
    (tmp_path / "a.mp4").write_text(content)
    assert expect_failure(tmp_path / "a.mp4") == "Not a video: it is a text file."


@pytest.mark.parametrize("name", ["http:a.mp4", "concat:a.mp4|b.mp4", "subfile,,start,0,end,0,,:a.mp4", "%d.mp4"])
def test_a_file_name_is_never_an_address(tmp_path: Path, name: str) -> None:
    clip = make_clip(tmp_path / "a.mp4").rename(tmp_path / name)
    assert probe(clip)["video"]["frames"] == 15


def test_a_pipe_is_refused_without_a_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    assert expect_failure(tmp_path / "a.mp4") == 'Not a regular file: "a.mp4"'


def test_a_file_outside_the_media_directory_is_refused(tmp_path: Path, clip: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.mp4").symlink_to(clip)
    (root / "dir").symlink_to(clip.parent)
    assert expect_failure(root / "a.mp4", root).startswith("The file is a link")
    for path in (root / "dir" / "clip.mp4", root / ".." / "media" / "clip.mp4"):
        assert expect_failure(path, root).startswith("The file is outside the media directory")


# names and options


def test_only_registered_processors_can_be_named() -> None:
    assert "probe" in names()
    for unknown in ("nothing", "tests.support.processors:find", "backend.processors.probe", "../probe", ""):
        with pytest.raises(Invalid, match="There is no processor"):
            load(unknown)


def test_options_are_returned_with_their_defaults() -> None:
    assert validated_options("probe", {}) == {"max_speed": None, "max_lost_share": 0.02}
    assert validated_options("probe", {"max_speed": 2}) == {"max_speed": 2.0, "max_lost_share": 0.02}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"speed": 2}, 'The processor probe has no option "speed"; it has: max_speed, max_lost_share.'),
        (
            {"max_speed": 0},
            'The option "max_speed" of the processor probe: input should be greater than or equal to 0.01.',
        ),
        (
            {"max_speed": float("nan")},
            'The option "max_speed" of the processor probe: input should be a finite number.',
        ),
        ({"max_speed": "-i"}, 'The option "max_speed" of the processor probe: input should be a valid number'),
        ([], "The options of the processor probe: input should be a valid dictionary"),
        ({"\ud800": 1}, "The options of the processor probe: input should be a valid string"),
    ],
)
def test_an_invalid_option_is_named(options: Any, sentence: str) -> None:
    with pytest.raises(Invalid) as raised:
        validated_options("probe", options)
    assert raised.value.sentence.startswith(sentence)


def test_the_server_checks_options_without_loading_ffmpeg() -> None:
    code = "import sys; from backend.processors import *; validated_options('probe', {}); sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_videos_run_from_the_event_loop_of_uvloop(tmp_path: Path) -> None:
    """Uvicorn prefers uvloop, which starts processes under stricter rules than asyncio."""

    async def run() -> dict[str, Any]:
        runner = ChildRunner(timeout_seconds=60, memory_mib=1024, clock=SystemClock())
        await runner.start()
        try:
            return await runner.run("probe", video_here(make_clip(tmp_path / "a.mp4")), {}, on_step=lambda _: None)
        finally:
            await runner.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        assert loop.run(run())["video"]["frames"] == 15
