"""How many files and sockets this process may have open, and how many of them connections may take.

The rest is kept for the processes of videos, the database and files: without a descriptor none of them works.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass

if sys.platform != "win32":
    import resource

MAX_LIMIT = 2**20  # some systems have no limit, and then programs that close all descriptors take minutes
MACOS_LIMIT = 10_240  # macOS names a higher one and then refuses it
RESERVED, RESERVED_PER_SLOT = 32, 2
MAX_SHARE = 4  # of the whole, so that a small limit leaves room for connections


@dataclass(frozen=True, slots=True)
class Descriptors:
    """The limit of this process; None where the system has none that can be asked for."""

    limit: int | None
    reserved: int = RESERVED

    @classmethod
    def of_process(cls, slots: int) -> Descriptors:
        """Return the present limit, with a reserve for so many videos at once."""
        return cls(_limit(), RESERVED + RESERVED_PER_SLOT * slots)

    def is_free(self, descriptor: int) -> bool:
        """Return True if a connection may have this descriptor. Systems give the lowest free one, so none below is."""
        return self.limit is None or descriptor < self.limit - min(self.reserved, self.limit // MAX_SHARE)

    def has_room(self, opened: int) -> bool:
        """Return True if a connection may be opened now. `opened` is any open descriptor."""
        if self.limit is None:
            return True
        try:
            copy = os.dup(opened)
        except OSError:
            return False
        os.close(copy)
        return self.is_free(copy)


UNLIMITED = Descriptors(None)


def raise_limit() -> None:
    """Let this process and its children open as many files and sockets as the system permits without asking."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (MAX_LIMIT, MACOS_LIMIT):
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < limit:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                return


def _limit() -> int | None:
    if sys.platform == "win32":
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
