"""Errors of the operating system as failures of videos: a plain sentence and a fault."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from backend.errors import Fault, VideoFailed

# a disk or a network drive that may answer again later; Windows does not have all of these names
TEMPORARY = frozenset(
    getattr(errno, name)
    for name in ("EIO", "ESTALE", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETUNREACH", "EREMOTEIO")
    if hasattr(errno, name)
)
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
DISK_SENTENCES = {
    errno.ENOSPC: "The server's disk is full; make room and try again.",
    errno.EDQUOT: "The server's share of its disk is used up; make room and try again.",
    errno.EROFS: "The server's disk can only be read; make it writable and try again.",
}


def fault_of(error: OSError) -> Fault:
    """Return the fault of a file that cannot be read: it says whether a later try may help."""
    if error.errno in EXHAUSTED:
        return Fault.MACHINE
    return Fault.TRANSIENT if error.errno in TEMPORARY else Fault.PERMANENT


def unreadable(error: OSError, path: Path | str) -> VideoFailed:
    """Return the failure of a video whose file cannot be read."""
    return VideoFailed(f"{quoted(path)} cannot be read: {reason_of(error)}.", fault=fault_of(error))


def unwritable(error: OSError) -> VideoFailed:
    """Return the failure of a video whose output cannot be written. Every other video would fail for it too."""
    sentence = f"The server cannot write a video's output ({reason_of(error)}); its data directory must be writable."
    return VideoFailed(DISK_SENTENCES.get(error.errno or 0, sentence), fault=Fault.MACHINE)


def reason_of(error: OSError) -> str:
    """Return the system's own words for the error."""
    return error.strerror or type(error).__name__


def quoted(path: Path | str) -> str:
    """Return the path in quotation marks. Its text can be printed and stored, whatever bytes the file name has."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    plain = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return '"' + plain.replace('"', r"\x22") + '"'
