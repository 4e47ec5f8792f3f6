"""What an error of the operating system means for a video."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import av
import pytest

from backend.domain.os_errors import fault_of, quoted, unreadable, unwritable
from backend.errors import Fault
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
def test_a_disk_that_is_gone_for_now_may_be_back_another_time(number: int, fault: Fault) -> None:
    assert fault_of(error(number)) is fault
    assert unreadable(error(number), "a.mp4").fault is fault


def test_a_file_that_cannot_be_read_says_why() -> None:
    assert unreadable(error(errno.ESTALE), "b/a.mp4").sentence == '"b/a.mp4" cannot be read: Stale file handle.'


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "The server's disk is full; make room"),
        (errno.EDQUOT, "The server's share of its disk is used up"),
        (errno.EROFS, "The server's disk can only be read"),
        (errno.EIO, "The server cannot write what its work makes (Input/output error)"),
        (errno.EACCES, "The server cannot write what its work makes (Permission denied)"),
    ],
)
def test_output_that_cannot_be_written_is_the_machines_trouble(number: int, words: str) -> None:
    failure = unwritable(error(number))
    assert failure.sentence.startswith(words)
    assert failure.fault is Fault.MACHINE


def test_a_name_is_shown_so_that_it_can_be_printed_and_ends_where_it_ends() -> None:
    assert quoted('a "film"\n\x1b[31m.mp4') == r'"a \x22film\x22\n\x1b[31m.mp4"'
    assert quoted(Path(os.fsdecode(b"\xff.mp4"))) == r'"\xff.mp4"'


def test_when_a_demuxer_says_input_output_error_the_disk_itself_is_asked(tmp_path: Path) -> None:
    """FFmpeg says the same of a damaged file."""
    (tmp_path / "a.mp4").write_bytes(b"readable")
    check_readable(VideoFile(tmp_path / "a.mp4", tmp_path, tmp_path), av.error.OSError(errno.EIO, "I/O error"))
