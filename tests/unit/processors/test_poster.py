"""Posters: the picture that is chosen, and the position it is drawn in."""

from __future__ import annotations

import struct
from itertools import product
from pathlib import Path

import av
import pytest

from backend.processors.poster import PosterChoice, Rank, rank_of
from tests.support.ffmpeg import ffmpeg, needs_ffmpeg
from tests.support.probing import probe

WIDTH, HEIGHT = 64, 48
BRIGHTNESS = (235, 170, 100, 30)  # of the quarters of a picture: above left, above right, below left, below right
POSITIONS = [
    (x * (not turned), y * turned, x * turned, y * (not turned))
    for turned, x, y in product((False, True), (1, -1), (1, -1))
]


def grey(*rows: list[int]) -> av.VideoFrame:
    """Return a picture whose brightness is given in a grid."""
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    plane = frame.planes[0]
    lines = bytearray(plane.buffer_size)
    for y in range(HEIGHT):
        row = rows[y * len(rows) // HEIGHT]
        for x in range(WIDTH):
            lines[y * plane.line_size + x] = row[x * len(row) // WIDTH]
    plane.update(bytes(lines))
    for chroma in frame.planes[1:]:
        chroma.update(b"\x80" * chroma.buffer_size)
    return frame


DARK, FLAT, GOOD = grey([20]), grey([120]), grey([40, 200])


def quarters_of(path: Path) -> list[int]:
    """Return which quarter of the source each quarter of this picture is, by its brightness."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0)).reformat(format="gray")
    plane = frame.planes[0]
    content = bytes(plane)
    middles = (
        (x, y) for y in (frame.height // 4, frame.height * 3 // 4) for x in (frame.width // 4, frame.width * 3 // 4)
    )
    found = [content[y * plane.line_size + x] for x, y in middles]
    return [min(range(4), key=lambda number: abs(BRIGHTNESS[number] - value)) for value in found]


def with_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a film whose track is turned by this matrix."""
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for _ in range(3):
            output.mux(stream.encode(grey(list(BRIGHTNESS[:2]), list(BRIGHTNESS[2:]))))
        output.mux(stream.encode(None))
    a, b, c, d = matrix
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("matrix", POSITIONS)
def test_the_matrix_of_the_track_decides_the_position(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    a, b, c, d = matrix
    expected = [0] * 4
    for number, (x, y) in enumerate(((-1, -1), (1, -1), (-1, 1), (1, 1))):
        to_x, to_y = a * x + c * y, b * x + d * y
        expected[(to_x > 0) + 2 * (to_y > 0)] = number
    probe(with_matrix(tmp_path / "a.mp4", matrix))
    assert sorted(expected) == [0, 1, 2, 3]
    assert quarters_of(tmp_path / "poster.jpg") == expected


def test_all_eight_positions_are_different(tmp_path: Path) -> None:
    seen = set()
    for matrix in POSITIONS:
        probe(with_matrix(tmp_path / "a.mp4", matrix))
        seen.add(tuple(quarters_of(tmp_path / "poster.jpg")))
    assert len(seen) == 8


@pytest.mark.parametrize(("orientation", "expected"), [(1, [0, 1, 2, 3]), (3, [3, 2, 1, 0]), (6, [2, 0, 3, 1])])
def test_pictures_with_the_notes_of_a_camera_are_drawn_upright(
    tmp_path: Path, orientation: int, expected: list[int]
) -> None:
    """PyAV does not know the kind of side data that FFmpeg attaches to them."""
    entry = struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0)
    notes = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        stream = output.add_stream("mjpeg", rate=5)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for packet in stream.encode(grey(list(BRIGHTNESS[:2]), list(BRIGHTNESS[2:]))) + stream.encode(None):
            noted = av.Packet(
                bytes(packet)[:2] + b"\xff\xe1" + struct.pack(">H", len(notes) + 2) + notes + bytes(packet)[2:]
            )
            noted.stream, noted.pts, noted.dts, noted.time_base = stream, packet.pts, packet.dts, packet.time_base
            noted.is_keyframe = True
            output.mux(noted)
    probe(tmp_path / "a.mkv")
    assert quarters_of(tmp_path / "poster.jpg") == expected


def test_pictures_are_ranked() -> None:
    assert [rank_of(picture) for picture in (DARK, FLAT, GOOD)] == [Rank.DARK, Rank.FLAT, Rank.GOOD]


def chosen(*pictures: av.VideoFrame, early: int = 0, unsound: tuple[int, ...] = ()) -> av.VideoFrame | None:
    choice = PosterChoice()
    for number, picture in enumerate(pictures):
        choice.offer(picture, float(number), is_early=number < early, is_sound=number not in unsound)
    return choice.finish()


def test_the_first_picture_that_is_neither_dark_nor_flat_is_chosen() -> None:
    other = grey([200, 40])
    assert chosen(DARK, FLAT, GOOD, other) is GOOD
    assert chosen(DARK, GOOD, DARK, other, early=2) is other


def test_without_a_good_picture_the_best_one_is_chosen() -> None:
    assert chosen(DARK, DARK, FLAT, DARK) is FLAT
    assert chosen(GOOD, DARK, DARK, early=1) is GOOD
    assert chosen(DARK) is DARK
    assert chosen() is None


def test_a_damaged_picture_is_chosen_only_if_there_is_no_other() -> None:
    assert chosen(GOOD, FLAT, unsound=(0,)) is FLAT
    assert chosen(GOOD, unsound=(0,)) is GOOD


@needs_ffmpeg
@pytest.mark.parametrize("extension", ["webm", "mkv", "mp4"])
def test_a_film_that_begins_dark_has_a_poster_of_what_follows(tmp_path: Path, extension: str) -> None:
    parts = (
        "-f",
        "lavfi",
        "-i",
        "color=black:s=160x120:d=1.5:r=25",
        "-f",
        "lavfi",
        "-i",
        "color=red:s=160x120:d=3:r=25",
    )
    live = ("-live", 1) if extension == "webm" else ()
    codec = "libvpx" if extension == "webm" else "libx264"
    path = tmp_path / f"a.{extension}"
    ffmpeg(*parts, "-filter_complex", "[0][1]concat", "-c:v", codec, "-pix_fmt", "yuv420p", *live, path)
    probe(path)
    with av.open(str(tmp_path / "poster.jpg")) as container:
        frame = next(container.decode(video=0)).reformat(format="rgb24")
    red, green, blue = bytes(frame.planes[0])[:3]
    assert red > 200
    assert green < 60
    assert blue < 60
