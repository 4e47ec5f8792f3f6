"""Tells whether a video's file stays as it is: one that is still being copied is neither damaged nor complete."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backend.errors import Fault, VideoFailed

QUIET_SECONDS = 2.0  # a file that was not written to for so long is complete
POLL_SECONDS = 0.1
CHANGED = "The file changed while it was read, probably because it is still being copied; retry when it is complete."


class FileChanged(VideoFailed):
    """The file is still changing. The video is tried again until it does not, far longer than after other failures."""

    def __init__(self) -> None:
        super().__init__(CHANGED, fault=Fault.TRANSIENT)


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells one content of a file from another, also after it was replaced by another file."""

    identity: tuple[int, int]
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path | bytes) -> FileState | None:
        """Return the state of the file now; None if it cannot be seen."""
        try:
            seen = os.stat(path, follow_symlinks=False)
        except OSError:
            return None
        return cls((seen.st_dev, seen.st_ino), seen.st_size, seen.st_mtime_ns)

    def quiet_in(self, now: float) -> float:
        """Return in how many seconds the file was not written to for long enough; 0 or less if that is so now.

        A time in the future is that of another clock, such as a network drive's, and tells nothing.
        """
        age = now - self.modified_ns / 1e9
        return QUIET_SECONDS - max(0.0, age)


def check_settled(
    path: Path | bytes,
    before: FileState | None,
    *,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Raise `FileChanged` if the file differs from what it was, or does so before it was quiet for long enough.

    Waits for at most `QUIET_SECONDS`, and only if the file was written to just now. A file that has gone has not
    changed.
    """
    if before is None:
        return
    waits = max(0.0, before.quiet_in(now()))
    while True:
        state = FileState.of(path)
        if state is None:
            return
        if state != before:
            raise FileChanged
        if waits <= 0:
            return
        sleep(min(waits, POLL_SECONDS))
        waits -= POLL_SECONDS
