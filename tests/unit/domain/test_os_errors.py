"""Errors of the operating system as failures of videos."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import av
import pytest

from backend.domain.os_errors import fault_of, quoted, unreadable, unwritable
from backend.errors import Fault, VideoFailed
from backend.processors import VideoFile
from backend.processors.opening import check_readable


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (errno.EIO, Fault.TRANSIENT),
        (errno.ESTALE, Fault.TRANSIENT),
        (errno.ENOTCONN, Fault.TRANSIENT),
        (errno.ETIMEDOUT, Fault.TRANSIENT),
        (errno.EMFILE, Fault.MACHINE),
        (errno.ENFILE, Fault.MACHINE),
        (errno.ENOENT, Fault.PERMANENT),
        (errno.EACCES, Fault.PERMANENT),
    ],
)
def test_an_unreadable_file_has_the_fault_of_its_error(number: int, fault: Fault) -> None:
    assert fault_of(error(number)) is fault
    assert unreadable(error(number), "a.mp4").fault is fault


def test_an_unreadable_file_is_reported_with_the_reason() -> None:
    assert unreadable(error(errno.ESTALE), "b/a.mp4").sentence == '"b/a.mp4" cannot be read: Stale file handle.'


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "The server's disk is full; make room"),
        (errno.EDQUOT, "The server's share of its disk is used up"),
        (errno.EROFS, "The server's disk can only be read"),
        (errno.EIO, "The server cannot write a video's output (Input/output error)"),
        (errno.EACCES, "The server cannot write a video's output (Permission denied)"),
    ],
)
def test_unwritable_output_is_a_fault_of_the_machine(number: int, words: str) -> None:
    failure = unwritable(error(number))
    assert failure.sentence.startswith(words)
    assert failure.fault is Fault.MACHINE


def test_a_quoted_name_is_printable_and_has_a_clear_end() -> None:
    assert quoted('a "film"\n\x1b[31m.mp4') == r'"a \x22film\x22\n\x1b[31m.mp4"'
    assert quoted(Path(os.fsdecode(b"\xff.mp4"))) == r'"\xff.mp4"'


def test_an_io_error_of_ffmpeg_is_verified_on_the_disk(tmp_path: Path) -> None:
    """FFmpeg reports the same error for a damaged file that the disk can read."""
    file = VideoFile(tmp_path / "a.mp4", tmp_path, tmp_path)
    io_error = av.error.OSError(errno.EIO, "I/O error")
    file.path.write_bytes(b"readable")
    check_readable(file, io_error)
    file.path.unlink()
    with pytest.raises(VideoFailed, match="No such file or directory"):
        check_readable(file, io_error)
