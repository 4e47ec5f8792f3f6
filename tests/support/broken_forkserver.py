"""`find`s of fork servers in trouble: one that cannot fork, and one that breaks at its start."""

from __future__ import annotations

import errno
import os
import sys

from backend.processors import Processor
from tests.support.processors import find as find_ours


def find(name: str) -> Processor:
    """As on a machine that has no room for a further process."""
    return find_ours(name)


def _refuse() -> int:
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


if "pytest" not in sys.modules:  # in the fork server, not in the test
    os.fork = _refuse
else:

    def missing(name: str) -> Processor:
        """Not there when the fork server looks for it."""
        return find_ours(name)
