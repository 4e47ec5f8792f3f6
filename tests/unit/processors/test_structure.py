"""What the outer structure of a file says: cut off, unreadable in places, encrypted."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.processors.structure import (
    declared_size,
    has_torn_beginning,
    has_torn_end,
    index_end,
    is_encrypted,
    unreadable_bytes,
)
from tests.support.clips import make_clip

NOISE = random.Random(1).randbytes(188 * 40)


@contextmanager
def descriptor(path: Path, content: bytes | None = None) -> Iterator[int]:
    """Open the file, with this content if it is given."""
    if content is not None:
        path.write_bytes(content)
    opened = os.open(path, os.O_RDONLY)
    try:
        yield opened
    finally:
        os.close(opened)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_whole_file_is_as_large_as_it_says_and_a_cut_one_is_not(tmp_path: Path, name: str) -> None:
    content = make_clip(tmp_path / name, codec="mpeg4", audio=True).read_bytes()
    with descriptor(tmp_path / name) as whole:
        assert declared_size(whole) == len(content)
    with descriptor(tmp_path / name, content[: len(content) * 9 // 10]) as cut:
        assert (declared_size(cut) or 0) > len(content) * 9 // 10


@pytest.mark.parametrize("name", ["a.mpegts", "a.mpeg", "a.flv", "a.ogg"])
def test_a_stream_does_not_say_how_large_it_is(tmp_path: Path, name: str) -> None:
    codec = {"a.ogg": "libvpx", "a.mpeg": "mpeg2video"}.get(name, "libx264")
    with descriptor(make_clip(tmp_path / name, codec=codec, fps=25)) as stream:
        assert declared_size(stream) is None


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.flv", "libx264"), ("a.ogg", "libvpx"), ("a.mpegts", "libx264"), ("a.mpeg", "mpeg2video")],
)
def test_a_file_that_ends_within_a_tag_or_page_is_torn(tmp_path: Path, name: str, codec: str) -> None:
    content = make_clip(tmp_path / name, codec=codec, fps=25).read_bytes()
    with descriptor(tmp_path / name) as whole:
        assert not has_torn_end(whole, len(content), len(content))
    with descriptor(tmp_path / name, content[:-10]) as torn:
        assert has_torn_end(torn, len(content) - 10, len(content) - 10)


def test_bytes_that_are_no_packets_of_a_stream_are_counted(tmp_path: Path) -> None:
    content = make_clip(tmp_path / "a.mpegts").read_bytes()
    middle = len(content) // 188 // 2 * 188
    for filling in (NOISE, bytes(len(NOISE))):
        with descriptor(tmp_path / "b.ts", content[:middle] + filling + content[middle:]) as damaged:
            assert unreadable_bytes(damaged, 0, middle) == 0
            assert unreadable_bytes(damaged, 0, len(content) + len(filling)) == pytest.approx(len(filling), rel=0.1)


@pytest.mark.parametrize(("left_out", "is_torn"), [(0, False), (188, False), (100, True), (187, True)])
def test_a_stream_that_begins_within_a_packet_is_torn(tmp_path: Path, left_out: int, is_torn: bool) -> None:
    content = make_clip(tmp_path / "a.mpegts").read_bytes()
    with descriptor(tmp_path / "b.ts", content[left_out:]) as stream:
        assert has_torn_beginning(stream) == is_torn


def test_the_index_of_an_mp4_file_is_found_at_its_end(tmp_path: Path) -> None:
    content = make_clip(tmp_path / "a.mp4").read_bytes()
    with descriptor(tmp_path / "a.mp4") as whole:
        assert index_end(whole) == len(content)


@pytest.mark.parametrize("entry", [b"encv", b"drmi"])
def test_a_protected_entry_of_an_mp4_file_is_encryption(tmp_path: Path, entry: bytes) -> None:
    content = make_clip(tmp_path / "a.mp4").read_bytes()
    with descriptor(tmp_path / "a.mp4") as clear:
        assert not is_encrypted(clear)
    with descriptor(tmp_path / "b.mp4", content.replace(b"avc1\0\0\0\0", entry + b"\0\0\0\0")) as protected:
        assert is_encrypted(protected)


def test_scrambled_packets_of_a_stream_are_encryption(tmp_path: Path) -> None:
    content = bytearray(make_clip(tmp_path / "a.mpegts").read_bytes())
    with descriptor(tmp_path / "a.mpegts") as clear:
        assert not is_encrypted(clear)
    for at in range(188 * 3, len(content), 188):
        content[at + 3] |= 0x80
    with descriptor(tmp_path / "b.ts", bytes(content)) as scrambled:
        assert is_encrypted(scrambled)


def test_noise_between_sync_bytes_is_no_encryption(tmp_path: Path) -> None:
    noise = b"".join(b"\x47" + NOISE[at : at + 187] for at in range(0, 187 * 40, 187))
    with descriptor(tmp_path / "a.ts", noise) as stream:
        assert not is_encrypted(stream)


def test_an_encrypted_track_of_matroska_is_encryption(tmp_path: Path) -> None:
    content = make_clip(tmp_path / "a.mkv").read_bytes()
    with descriptor(tmp_path / "a.mkv") as clear:
        assert not is_encrypted(clear)
    with descriptor(tmp_path / "b.mkv", content[:300] + b"\x50\x35\x84\x47\xe1\x81\x05" + content[300:]) as protected:
        assert is_encrypted(protected)


@pytest.mark.parametrize("content", [b"", b"\0", b"\0\0\0\0ftyp", b"RIFF", b"\x1a\x45\xdf\xa3", b"FLV", b"OggS", NOISE])
def test_anything_else_says_nothing(tmp_path: Path, content: bytes) -> None:
    with descriptor(tmp_path / "a.mp4", content) as odd:
        assert not is_encrypted(odd)
        assert index_end(odd) is None
        assert (declared_size(odd) or 0) <= 8
        assert has_torn_end(odd, len(content), len(content)) in (False, True)
