"""Films as people have them: healthy ones of many kinds complete, damaged ones fail, and what is said is true."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from backend.errors import Fault, VideoFailed
from backend.processors.inspection import MAX_HELD_SECONDS, ReadingPace
from tests.support.ffmpeg import copied, ffmpeg, film, needs_ffmpeg, pictures, source
from tests.support.probing import probe, steps_and_result

pytestmark = needs_ffmpeg
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
PIXEL_WIDTH, PICTURE_LASTS = b"\xb0\x81", b"\x23\xe3\x83\x84"  # elements of Matroska, of one byte and of four


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a film of 5 s with sound."""
    return film(tmp_path_factory.mktemp("base") / "base.mp4")


def failure_of(path: Path, **options: Any) -> VideoFailed:
    with pytest.raises(VideoFailed) as raised:
        probe(path, **options)
    return raised.value


def assert_sound(path: Path, seconds: float) -> dict[str, Any]:
    """Check that the film is complete and verified, and has this length."""
    result = probe(path)
    assert result["duration_seconds"] == pytest.approx(seconds, abs=0.15)
    assert (result["verified_share"], result["passed_over"]) == (1.0, [])
    return result


def declared_rate(path: Path) -> float:
    """Return the pictures a second that the file declares."""
    asked = ["-select_streams", "v", "-show_entries", "stream=avg_frame_rate", "-of", "csv=p=0"]
    answer = subprocess.run(["ffprobe", "-v", "error", *asked, str(path)], check=True, capture_output=True, text=True)
    return float(Fraction(answer.stdout.strip()))


def overwritten(path: Path, first: float, last: float, *, noise: bool) -> Path:
    content = bytearray(path.read_bytes())
    begin, end = int(len(content) * first), int(len(content) * last)
    content[begin:end] = random.Random(1).randbytes(end - begin) if noise else bytes(end - begin)
    path.write_bytes(content)
    return path


# what is called sound is sound


@pytest.mark.parametrize("extension", ["mkv", "ts", "mp4", "flv"])
@pytest.mark.parametrize("noise", [True, False])
def test_a_film_with_a_hole_in_the_middle_fails(tmp_path: Path, extension: str, noise: bool) -> None:
    damaged = overwritten(film(tmp_path / f"a.{extension}", 20), 0.4, 0.7, noise=noise)
    sentence = failure_of(damaged).sentence
    assert sentence.startswith("File is damaged: ")
    assert "% of its pictures (" in sentence
    assert " of 500) cannot be read from 0:0" in sentence
    assert sentence.endswith("; fetch it again.")


def test_much_sound_does_not_hide_a_destroyed_track_of_pictures(tmp_path: Path) -> None:
    whole = film(tmp_path / "a.mp4", 10)
    listing = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_packets", "-of", "json", str(whole)]
    packets = json.loads(subprocess.run(listing, check=True, capture_output=True).stdout)["packets"]
    content = bytearray(whole.read_bytes())
    for packet in packets[100:130]:
        begin, size = int(packet["pos"]), int(packet["size"])
        content[begin : begin + size] = b"\xff" * size
    whole.write_bytes(content)
    lost = 250 - pictures(whole)
    assert 30 <= lost <= 35
    sentence = failure_of(whole).sentence
    assert f" of its pictures ({lost} of 250) cannot be read from 0:04 to 0:05; fetch it again." in sentence


@pytest.mark.parametrize("dispositions", [("0", "default"), ("default", "0"), ("default", "default"), ("0", "0")])
@pytest.mark.parametrize("extension", ["mkv", "mp4"])
def test_a_still_picture_in_the_first_track_is_not_the_film(
    tmp_path: Path, base: Path, dispositions: tuple[str, str], extension: str
) -> None:
    still, path = tmp_path / "still.jpg", tmp_path / f"a.{extension}"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=640x480:duration=1", "-frames:v", 1, still)
    tracks = ("-map", "0:v", "-map", "1:v", "-map", "1:a", "-c", "copy")
    flags = ("-disposition:v:0", dispositions[0], "-disposition:v:1", dispositions[1])
    ffmpeg("-i", still, "-i", base, *tracks, *flags, path)
    result = assert_sound(path, 5)
    assert (result["video"]["codec"], result["video"]["width"], result["video"]["frames"]) == ("h264", 160, 125)


def test_a_damaged_film_behind_a_still_picture_fails(tmp_path: Path, base: Path) -> None:
    still, path = tmp_path / "still.jpg", tmp_path / "a.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=640x480:duration=1", "-frames:v", 1, still)
    ffmpeg("-i", still, "-i", base, "-map", "0:v", "-map", "1", "-c", "copy", "-disposition:v:0", "0", path)
    assert failure_of(overwritten(path, 0.5, 0.8, noise=True)).sentence.startswith("File is damaged: ")


def test_of_two_films_the_default_one_counts_and_the_other_is_named(tmp_path: Path) -> None:
    inputs = (*source(3), *source(5, size="320x240"))
    tracks = ("-map", "0:v", "-map", "2:v", "-map", "1:a", *X264)
    ffmpeg(*inputs, *tracks, "-disposition:v:0", "0", "-disposition:v:1", "default", tmp_path / "a.mkv")
    result = probe(tmp_path / "a.mkv")
    assert (result["video"]["width"], result["video"]["frames"]) == (320, 125)
    assert result["passed_over"] == ["Another track of pictures (h264) was not looked at."]


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_chapters_do_not_make_a_film_longer(tmp_path: Path, base: Path, extension: str) -> None:
    chapters = tmp_path / "chapters.txt"
    parts = "".join(
        f"[CHAPTER]\nTIMEBASE=1/10\nSTART={begin}\nEND={end}\ntitle=a\n" for begin, end in ((0, 20), (20, 59))
    )
    chapters.write_text(f";FFMETADATA1\n{parts}")
    ffmpeg("-i", base, "-i", chapters, "-map_metadata", 1, "-map", 0, "-c", "copy", tmp_path / f"a.{extension}")
    assert_sound(tmp_path / f"a.{extension}", 5)


@pytest.mark.parametrize("extension", ["mkv", "mp4"])
def test_a_subtitle_that_is_shown_for_long_does_not_make_a_film_longer(
    tmp_path: Path, base: Path, extension: str
) -> None:
    titles, codec = tmp_path / "a.srt", {"mkv": "srt", "mp4": "mov_text"}[extension]
    titles.write_text("1\n00:00:01,000 --> 00:00:20,000\nhello\n")
    ffmpeg("-i", base, "-i", titles, "-map", 0, "-map", 1, "-c", "copy", "-c:s", codec, tmp_path / f"a.{extension}")
    assert_sound(tmp_path / f"a.{extension}", 5)


def declared_otherwise(path: Path, declared: bytes, otherwise: bytes) -> Path:
    """Replace what the header of a film declares, which is there once."""
    content = path.read_bytes()
    assert content.count(declared) == 1
    path.write_bytes(content.replace(declared, otherwise))
    return path


@pytest.mark.parametrize("rate", [1, 5, 10, 50, 60, 200])
def test_a_declared_rate_that_the_pictures_contradict_is_not_believed(tmp_path: Path, base: Path, rate: int) -> None:
    right, wrong = (PICTURE_LASTS + (10**9 // each).to_bytes(4) for each in (25, rate))
    path = declared_otherwise(copied(base, tmp_path / "a.mkv"), right, wrong)
    assert declared_rate(path) == rate
    video = assert_sound(path, 5)["video"]
    assert (video["frame_rate"], video["frames"]) == (pytest.approx(25, rel=0.01), 125)


@pytest.mark.parametrize("width", [16, 80, 240])
def test_a_declared_size_that_the_pictures_contradict_is_not_believed(tmp_path: Path, base: Path, width: int) -> None:
    right, wrong = (PIXEL_WIDTH + bytes([each]) for each in (160, width))
    path = declared_otherwise(copied(base, tmp_path / "a.mkv"), right, wrong)
    video = assert_sound(path, 5)["video"]
    assert (video["width"], video["height"], video["frames"]) == (160, 120, 125)


# what is healthy is not refused


@pytest.mark.parametrize("extension", ["mkv", "flv", "ts", "mp4", "mov"])
def test_a_film_whose_clock_begins_at_an_hour_is_as_long_as_it_is(tmp_path: Path, base: Path, extension: str) -> None:
    assert_sound(copied(base, tmp_path / f"a.{extension}", "-output_ts_offset", 3600), 5)


def test_a_live_film_whose_clock_begins_at_an_hour_is_as_long_as_it_is(tmp_path: Path, base: Path) -> None:
    options = ("-output_ts_offset", 3600, "-flvflags", "no_duration_filesize")
    assert_sound(copied(base, tmp_path / "a.flv", *options), 5)


@pytest.mark.parametrize("offset", [0, 3600])
@pytest.mark.parametrize("extension", ["mkv", "flv"])
def test_a_cut_off_film_names_its_true_seconds(tmp_path: Path, base: Path, offset: int, extension: str) -> None:
    path = copied(base, tmp_path / f"a.{extension}", "-output_ts_offset", offset)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    sentence = failure_of(path).sentence
    assert sentence.startswith("File is cut off: it should last 5.0 s but ends after 2."), sentence


@pytest.mark.parametrize("offsets", [(100, 0), (0, 100), (0, 0), (0, 95_440), (40_000, 3)])
def test_joined_recordings_are_as_long_as_their_parts(tmp_path: Path, base: Path, offsets: tuple[int, int]) -> None:
    parts = [
        copied(base, tmp_path / f"{number}.ts", "-output_ts_offset", offset).read_bytes()
        for number, offset in enumerate(offsets)
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(parts))
    fractions, result = steps_and_result(joined)
    assert result["duration_seconds"] == pytest.approx(10, abs=0.2)
    assert (result["video"]["frames"], result["verified_share"], result["passed_over"]) == (250, 1.0, [])
    assert fractions == sorted(fractions)
    assert sum(fraction < 0.5 for fraction in fractions) > len(fractions) * 0.4
    assert fractions[-2] > 0.9


@pytest.mark.parametrize("seconds", [(1, 1), (1, 1, 1), (1, 4), (4, 1), (0.48, 0.48, 3)])
@pytest.mark.parametrize("kind", ["ts", "b-frames.ts", "mpg", "vob"])
def test_short_recordings_that_are_joined_byte_by_byte_are_whole(
    tmp_path: Path, seconds: tuple[float, ...], kind: str
) -> None:
    codecs = {"mpg": ("-c:v", "mpeg1video"), "vob": ("-c:v", "mpeg2video", "-c:a", "ac3")}
    usual = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", 3 if "frames" in kind else 0, "-c:a", "aac")
    joined = tmp_path / f"joined.{kind}"
    for part in seconds:
        ffmpeg(*source(part), *codecs.get(kind, usual), "-g", 12, tmp_path / f"{part}.{kind}")
    joined.write_bytes(b"".join((tmp_path / f"{part}.{kind}").read_bytes() for part in seconds))
    result = assert_sound(joined, sum(seconds))
    assert (result["bad_packets"], result["video"]["frames"]) == (0, round(25 * sum(seconds)))


def test_a_joined_recording_that_is_cut_off_at_its_end_says_so(tmp_path: Path) -> None:
    part, joined = film(tmp_path / "a.ts", 1).read_bytes(), tmp_path / "joined.ts"
    joined.write_bytes(part + part[: len(part) * 97 // 100 - 50])
    said = " ".join(probe(joined, max_lost_share=0.1)["passed_over"])
    assert "The file ends in the middle of a picture or sound, after 2.0 s" in said


@pytest.mark.parametrize("options", [("-cues_to_front", 1, "-reserve_index_space", 9000), (), ("-live", 1)])
@pytest.mark.parametrize("trailer", [b"Model=C-100\r\nLens=24-70\r\n" * 15, b"<note>a camera's</note>\n" * 30])
def test_text_that_a_camera_puts_behind_a_film_does_not_make_it_cut_off(
    tmp_path: Path, base: Path, options: tuple[object, ...], trailer: bytes
) -> None:
    path = copied(base, tmp_path / "a.mkv", *options)
    path.write_bytes(path.read_bytes() + trailer)
    assert_sound(path, 5)


def test_a_live_recording_that_ends_within_a_block_says_so(tmp_path: Path, base: Path) -> None:
    path = copied(base, tmp_path / "a.mkv", "-live", 1)
    path.write_bytes(path.read_bytes()[:-120])
    assert probe(path)["passed_over"][-1].startswith("The file ends in the middle of a picture or sound")


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_film_says_how_large_it_is_seen(tmp_path: Path, base: Path, turn: int) -> None:
    video = probe(copied(base, tmp_path / "a.mp4", "-metadata:s:v", f"rotate={turn}"))["video"]
    seen = (160, 120) if turn == 180 else (120, 160)
    assert (video["width"], video["height"]) == (160, 120)
    assert (video["display_width"], video["display_height"]) == seen


@pytest.mark.parametrize(
    ("size", "aspect", "extension", "seen"),
    [
        ("720x576", "64/45", "mpg", (1024, 576)),
        ("720x480", "8/9", "mpg", (640, 480)),
        ("360x288", "64/45", "mkv", (512, 288)),
        ("160x120", "1/1", "mkv", (160, 120)),
    ],
)
def test_a_film_whose_pixels_are_not_square_says_how_wide_it_is_seen(
    tmp_path: Path, size: str, aspect: str, extension: str, seen: tuple[int, int]
) -> None:
    ffmpeg(*source(1, size=size), "-vf", f"setsar={aspect}", "-c:v", "mpeg2video", tmp_path / f"a.{extension}")
    video = probe(tmp_path / f"a.{extension}")["video"]
    assert f"{video['width']}x{video['height']}" == size
    assert (video["display_width"], video["display_height"]) == seen


@pytest.mark.parametrize("extension", ["flv", "mkv"])
def test_a_clock_that_is_set_back_in_other_formats_moves_progress_on(tmp_path: Path, extension: str) -> None:
    part = film(tmp_path / f"a.{extension}").read_bytes()
    (tmp_path / f"b.{extension}").write_bytes(part + part)
    fractions, result = steps_and_result(tmp_path / f"b.{extension}")
    assert fractions == sorted(fractions)
    assert result["video"]["frames"] in (125, 250)


def test_the_wait_for_a_film_is_bounded_by_what_was_read() -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds
        slept.append(seconds)

    pace = ReadingPace(max_speed=1.0, monotonic=lambda: now[0], sleep=sleep)
    for moment in (0.0, 1.0, 95_000.0, 95_001.0, 3.0, 95_002.0):
        pace.hold(moment)
    assert now[0] == pytest.approx(1 + MAX_HELD_SECONDS + 1 + 1)


def test_a_track_that_appears_late_is_passed_over(tmp_path: Path) -> None:
    codecs = (*X264, "-b:v", "6M", "-c:a", "aac", "-f", "mpegts")
    ffmpeg(*source(12, size="320x240"), *codecs, tmp_path / "1.ts")
    second = (*source(5, size="320x240"), "-f", "lavfi", "-i", "sine=880:duration=5", "-map", 0, "-map", 1, "-map", 2)
    ffmpeg(*second, *codecs, "-output_ts_offset", 12, tmp_path / "2.ts")
    ffmpeg(*source(12, size="320x240"), *codecs, "-output_ts_offset", 17, tmp_path / "3.ts")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join((tmp_path / f"{number}.ts").read_bytes() for number in (1, 2, 3)))
    result = probe(joined)
    assert result["duration_seconds"] == pytest.approx(29, abs=0.2)
    assert result["video"]["frames"] == 725


def test_sound_that_is_not_read_is_named_and_the_pictures_are_verified(tmp_path: Path, base: Path) -> None:
    ffmpeg("-i", base, "-c:v", "copy", "-c:a", "tta", tmp_path / "a.mkv")
    result = probe(tmp_path / "a.mkv")
    assert result["audio"] == {"codec": "tta", "channels": 1, "sample_rate": 44_100, "decoded": False}
    assert (result["video"]["frames"], result["verified_share"]) == (125, 1.0)
    assert result["passed_over"] == [
        "A track of sound (tta) was not decoded: its codec is not one that is read here, or it is damaged."
    ]


def test_readable_sound_behind_unreadable_sound_is_used(tmp_path: Path, base: Path) -> None:
    tracks = ("-map", "0:v", "-map", "0:a", "-map", "0:a", "-c:v", "copy", "-c:a:0", "tta", "-c:a:1", "aac")
    ffmpeg("-i", base, *tracks, tmp_path / "a.mkv")
    result = probe(tmp_path / "a.mkv")
    assert (result["audio"]["codec"], result["audio"]["decoded"]) == ("aac", True)
    assert len(result["passed_over"]) == 1


@pytest.mark.parametrize(("left_out", "seconds"), [(1, 8.96), (200, 1.0), (223, 0.08)])
def test_a_recording_that_begins_between_key_frames_completes(tmp_path: Path, left_out: int, seconds: float) -> None:
    ffmpeg(*source(20), *X264, "-g", 225, "-sc_threshold", 0, "-c:a", "aac", "-f", "mpegts", tmp_path / "a.ts")
    listing = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_packets", "-of", "json", str(tmp_path / "a.ts")]
    packets = json.loads(subprocess.run(listing, check=True, capture_output=True).stdout)["packets"]
    cut = tmp_path / "b.ts"
    cut.write_bytes((tmp_path / "a.ts").read_bytes()[int(packets[left_out]["pos"]) :])
    result = probe(cut)
    assert result["passed_over"][0] == f"The first {seconds:.2f} s cannot be shown: the film begins between key frames."
    assert result["video"]["frames"] == 275
    assert 0.5 < result["verified_share"] < 1


def test_an_encrypted_film_is_called_encrypted(tmp_path: Path, base: Path) -> None:
    keys = (
        "-encryption_key",
        "00112233445566778899aabbccddeeff",
        "-encryption_kid",
        "112233445566778899aabbccddeeff00",
    )
    path = copied(base, tmp_path / "a.mp4", "-encryption_scheme", "cenc-aes-ctr", *keys)
    failed = failure_of(path)
    assert failed.sentence.startswith("This file is encrypted (DRM)")
    assert "fetch" not in failed.sentence
    assert failed.fault is Fault.PERMANENT


def scrambled(path: Path, base: Path) -> None:
    """Write a transport stream whose pictures and sound are scrambled, as a receiver without a card records it."""
    content = bytearray(copied(base, path).read_bytes())
    for at in range(0, len(content), 188):
        pid = int.from_bytes(content[at + 1 : at + 3]) & 0x1FFF
        if pid in (0x100, 0x101):
            head = 4 + (1 + content[at + 4] if content[at + 3] & 0x20 else 0)
            content[at + 3] |= 0x80
            content[at + head : at + 188] = random.Random(at).randbytes(188 - head)
    path.write_bytes(content)


def sold(path: Path, base: Path) -> None:
    """Write a film as shops sell them: its sample entries are protected, and its samples look like noise."""
    content = (
        copied(base, path)
        .read_bytes()
        .replace(b"avc1\0\0\0\0", b"drmi\0\0\0\0")
        .replace(b"mp4a\0\0\0\0", b"drms\0\0\0\0")
    )
    begin = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    path.write_bytes(content[:begin] + random.Random(1).randbytes(end - begin) + content[end:])


@pytest.mark.parametrize(("make", "name"), [(scrambled, "a.ts"), (sold, "a.mp4"), (sold, "a.mov")])
def test_films_that_are_encrypted_in_other_ways_are_called_so_too(
    tmp_path: Path, base: Path, make: Callable[[Path, Path], None], name: str
) -> None:
    make(tmp_path / name, base)
    assert failure_of(tmp_path / name).sentence.startswith("This file is encrypted (DRM)")


HEALTHY: dict[str, tuple[object, ...]] = {
    "b-frames.mp4": ("-c:v", "libx264", "-bf", 3, "-c:a", "aac"),
    "b-frames.ts": ("-c:v", "libx264", "-bf", 3, "-c:a", "aac"),
    "b-frames.avi": ("-c:v", "mpeg4", "-bf", 2, "-c:a", "mp3"),
    "b-frames.mpg": ("-c:v", "mpeg2video", "-bf", 2, "-c:a", "ac3"),
    "interlaced.ts": ("-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-c:a", "mp2"),
    "fields.ts": ("-c:v", "libx264", "-flags", "+ildct+ilme", "-x264opts", "tff=1", "-c:a", "aac"),
    "fragments.mp4": (*X264, "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"),
    "index-first.mp4": (*X264, "-c:a", "aac", "-movflags", "+faststart"),
    "time-code.mov": ("-c:v", "mjpeg", "-timecode", "01:00:00:00", "-c:a", "pcm_s16le"),
    "hidden-pictures.webm": (
        "-c:v",
        "libvpx",
        "-auto-alt-ref",
        1,
        "-lag-in-frames",
        16,
        "-b:v",
        "200k",
        "-c:a",
        "libvorbis",
    ),
    "live.webm": ("-c:v", "libvpx", "-live", 1, "-c:a", "libopus"),
    "blu-ray.m2ts": (*X264, "-c:a", "aac", "-mpegts_m2ts_mode", 1),
    "stuffed.ts": (*X264, "-c:a", "aac", "-muxrate", "4M"),
    "lossless.mkv": ("-c:v", "ffv1", "-c:a", "flac"),
    "windows.wmv": ("-c:v", "wmv2", "-c:a", "wmav2"),
    "refreshed.mp4": ("-c:v", "libx264", "-x264opts", "intra-refresh=1", "-c:a", "aac"),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_film_of_this_kind_is_sound(tmp_path: Path, name: str) -> None:
    ffmpeg(*source(4), *HEALTHY[name], tmp_path / name)
    assert assert_sound(tmp_path / name, 4)["video"]["frames"] == pictures(tmp_path / name) == 100


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts", "flv"])
def test_a_film_of_long_still_pictures_is_sound(tmp_path: Path, extension: str) -> None:
    original, path = tmp_path / "b.mp4", tmp_path / f"a.{extension}"
    ffmpeg(*source(60, rate=0.1), "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", original)
    copied(original, path)
    assert assert_sound(path, 60)["video"]["frames"] == 6


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts"])
def test_a_film_of_irregular_pictures_is_sound(tmp_path: Path, extension: str) -> None:
    chosen = ("-vf", "select='lt(mod(n,50),3)+lt(random(0),0.2)'", "-vsync", "vfr")
    path = tmp_path / f"a.{extension}"
    ffmpeg(*source(12), *chosen, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", path)
    assert_sound(path, 12)


@pytest.mark.parametrize(("pictures_last", "sound_lasts"), [(3, 9), (9, 3)])
def test_pictures_and_sound_need_not_be_equally_long(tmp_path: Path, pictures_last: int, sound_lasts: int) -> None:
    video, audio = source(pictures_last)[:4], source(sound_lasts)[4:]
    ffmpeg(*video, *audio, *X264, "-c:a", "aac", tmp_path / "a.mkv")
    assert_sound(tmp_path / "a.mkv", 9)


@pytest.mark.parametrize("begin", [1.3, 3.3])
def test_a_film_that_was_trimmed_without_decoding_is_sound(tmp_path: Path, begin: float) -> None:
    path = tmp_path / "a.mp4"
    ffmpeg("-ss", begin, "-i", film(tmp_path / "b.mp4"), "-c", "copy", path)
    assert_sound(path, 5 - begin)
