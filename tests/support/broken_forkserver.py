"""Functions to find processors in fork servers that fail: one cannot fork, one exits at its start."""

from __future__ import annotations

import errno
import os
import sys

from backend.processors import Processor
from tests.support import processors


def find(name: str) -> Processor:
    """Find a processor in a fork server that cannot fork, as on a machine without resources."""
    return processors.find(name)


def _refuse() -> int:
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


if "pytest" not in sys.modules:  # this is the fork server, not the test
    os.fork = _refuse
else:

    def missing(name: str) -> Processor:
        """Find a processor, but only in the test: the fork server fails because it does not have this function."""
        return processors.find(name)
