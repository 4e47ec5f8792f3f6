"""What an error of the operating system means for a video: in plain words, and where the fault lies."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from backend.errors import Fault, VideoFailed

# a disk or a network drive that may answer another time; Windows has not all of these names
GONE_FOR_NOW = frozenset(
    getattr(errno, name)
    for name in ("EIO", "ESTALE", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETUNREACH", "EREMOTEIO")
    if hasattr(errno, name)
)
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
DISK = {
    errno.ENOSPC: "The server's disk is full; make room and try again.",
    errno.EDQUOT: "The server's share of its disk is used up; make room and try again.",
    errno.EROFS: "The server's disk can only be read; make it writable and try again.",
}


def fault_of(error: OSError) -> Fault:
    """Whether a file that cannot be read may be readable another time."""
    if error.errno in EXHAUSTED:
        return Fault.MACHINE
    return Fault.TRANSIENT if error.errno in GONE_FOR_NOW else Fault.PERMANENT


def unreadable(error: OSError, path: Path | str) -> VideoFailed:
    """What to say of a video whose file cannot be read."""
    return VideoFailed(f"{quoted(path)} cannot be read: {reason_of(error)}.", fault=fault_of(error))


def unwritable(error: OSError) -> VideoFailed:
    """What to say when the server's own output cannot be written, which every other video would meet as well."""
    sentence = f"The server cannot write what its work makes ({reason_of(error)}); its data directory must be writable."
    return VideoFailed(DISK.get(error.errno or 0, sentence), fault=Fault.MACHINE)


def reason_of(error: OSError) -> str:
    """The system's own words for it."""
    return error.strerror or type(error).__name__


def quoted(path: Path | str) -> str:
    """The path in quotation marks, as text that can be printed and stored whatever bytes the file system holds."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    plain = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return '"' + plain.replace('"', r"\x22") + '"'
