"""Opens untrusted files with FFmpeg safely, and explains in plain words why a file cannot be read.

The file is opened and checked here, and passed on as a descriptor: FFmpeg gets no name and may open nothing itself.
Only formats with the whole video in one file are allowed (no playlists, which name other files), and only well-known
codecs, because each additional decoder could be attacked. Headers may lie, so sizes are checked on decoded frames too.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

from backend.domain.os_errors import TEMPORARY, quoted, unreadable
from backend.errors import VideoFailed
from backend.processors import VideoFile
from backend.processors.structure import BLOCK_BYTES, index_end, is_encrypted

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,ivf,dv,rm"
VIDEO_CODECS = (
    "h264,hevc,vp8,vp9,av1,libdav1d,mpeg4,mpeg1video,mpeg2video,msmpeg4v1,msmpeg4v2,msmpeg4,h263,flv,wmv1,"
    "wmv2,wmv3,vc1,theora,vp3,vp6,vp6f,mjpeg,prores,dnxhd,dvvideo,ffv1,rv30,rv40"
)
AUDIO_CODECS = (
    "aac,aac_latm,mp3,mp3float,mp2,mp2float,mp1,mp1float,ac3,eac3,dca,truehd,opus,vorbis,flac,alac,amrnb,"
    "amrwb,wmav1,wmav2,wmapro,cook,adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,pcm_s16le,pcm_s16be,pcm_s24le,"
    "pcm_s24be,pcm_s32le,pcm_f32le,pcm_u8,pcm_alaw,pcm_mulaw,pcm_bluray,pcm_dvd"
)
CODECS = f"{VIDEO_CODECS},{AUDIO_CODECS}"
HEAD_BYTES = 4096  # long enough that some text at the beginning of a video does not make it a text file
ENCRYPTED = "This file is encrypted (DRM), so its pictures and sound cannot be read; get a version without DRM."
NO_VIDEO = "There is no video in this file."
# no link as the last component, no wait for the other end of a pipe; Windows has only the last flag
OPEN_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
# titles need not be UTF-8; PyAV 18 fails on others without this option, PyAV 19 does not fail and has no such option
METADATA_OPTIONS: dict[str, Any] = {"metadata_errors": "replace"} if av.__version__.startswith("18.") else {}


@dataclass(frozen=True, slots=True)
class OpenVideo:
    """An open file: FFmpeg's container, and the descriptor that it is read from."""

    container: InputContainer
    descriptor: int


@contextmanager
def opened(file: VideoFile) -> Iterator[OpenVideo]:
    """Open the file and yield it. Raises `VideoFailed` unless it is a readable video inside `file.root`."""
    with _descriptor(file) as descriptor:
        address, options = _address(file, descriptor)
        options |= {"format_whitelist": FORMATS, "codec_whitelist": CODECS}
        try:
            container = av.open(address, mode="r", options=options, **METADATA_OPTIONS)
        except av.error.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise
            raise VideoFailed(_why_not_opened(file, descriptor, error)) from error
        with container:
            if not container.streams.video:
                raise VideoFailed(_why_no_video(descriptor))
            yield OpenVideo(container, descriptor)


def _address(file: VideoFile, descriptor: int) -> tuple[str, dict[str, str]]:
    """Return the address for FFmpeg to open: a path on Windows, where it may not share Python's descriptors."""
    if sys.platform == "win32":
        return f"file:{os.fsdecode(file.path)}", {"protocol_whitelist": "file"}
    return "fd:", {"protocol_whitelist": "fd", "fd": str(descriptor)}


@contextmanager
def _descriptor(file: VideoFile) -> Iterator[int]:
    """Open the file for reading. Checks, after opening too, that it is a regular file inside `file.root`."""
    name = quoted(file.path.name)
    try:
        _check_type(file.path.lstat(), name)
        descriptor = os.open(file.path, OPEN_FLAGS)
    except OSError as error:
        raise unreadable(error, file.path.name) from error
    try:
        _check_type(os.fstat(descriptor), name)
        if not _real_path(file, descriptor).is_relative_to(file.root.resolve()):
            raise VideoFailed(f"The file is outside the media directory; such files are not opened: {name}")
        yield descriptor
    finally:
        os.close(descriptor)


def _real_path(file: VideoFile, descriptor: int) -> Path:
    """Return the path of the open file, as the kernel knows it where the system reports it."""
    return Path(f"/proc/self/fd/{descriptor}" if sys.platform == "linux" else file.path).resolve()


def _check_type(status: os.stat_result, name: str) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise VideoFailed(f"The file is a link; links are not opened: {name}")
    if not stat.S_ISREG(status.st_mode):
        raise VideoFailed(f"Not a regular file: {name}")
    if status.st_size == 0:
        raise VideoFailed(f"The file is empty: {name}")


def check_readable(file: VideoFile, error: Exception | None) -> None:
    """Raise `VideoFailed` if the disk, and not the file's content, is the reason for `error`."""
    if not isinstance(error, OSError) or error.errno not in TEMPORARY:  # demuxers report EIO for damaged files as well
        return
    try:
        with file.path.open("rb", buffering=0) as stream:
            while stream.read(BLOCK_BYTES):
                continue
    except OSError as disk_error:
        raise unreadable(disk_error, file.path.name) from error


def _why_not_opened(file: VideoFile, descriptor: int, error: av.error.FFmpegError) -> str:
    check_readable(file, error)
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        head = os.read(descriptor, HEAD_BYTES)
        has_index = head[4:8] == b"ftyp" and index_end(descriptor) is not None
    except OSError as disk_error:
        raise unreadable(disk_error, file.path.name) from error
    if not head.strip(b"\0"):
        return "Not a video: the file begins with nothing but zeros; it was probably not written to its end."
    if has_index:
        return "File is damaged: its index cannot be read; fetch the file again."
    if head[4:8] == b"ftyp":
        return "File is cut off: the index is missing (an MP4 file has it at its end); fetch the file again."
    if is_encrypted(descriptor):
        return ENCRYPTED
    if head.startswith(b"#EXTM3U"):
        return "Not a video: it is a playlist, which names other files and is not followed."
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "Not a video: it is a web page, probably an error page that was saved as a video; fetch the file again."
    if _is_text(head):
        return "Not a video: it is a text file."
    return "Not a video: its format is not supported, or its beginning is damaged."


def _why_no_video(descriptor: int) -> str:
    """Return the reason why no video stream was found: an incomplete index may lack the streams of pictures."""
    if (index_end(descriptor) or 0) > os.fstat(descriptor).st_size:
        return "File is cut off: its index is incomplete; fetch the file again."
    if is_encrypted(descriptor):
        return ENCRYPTED
    return NO_VIDEO


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", "replace").rstrip("\ufffd")  # the last character may be incomplete
    return all(letter.isprintable() or letter.isspace() for letter in text)
