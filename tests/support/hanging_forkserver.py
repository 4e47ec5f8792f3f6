"""A function to find processors in a fork server that hangs as soon as it has to end a process."""

from __future__ import annotations

import os
import sys
import time

from backend.processors import Processor
from tests.support import processors


def find(name: str) -> Processor:
    """Find a processor in a fork server that hangs, as when its library does."""
    return processors.find(name)


def _hang(pid: int, number: int) -> None:
    while True:
        time.sleep(processors.ENDLESS_SECONDS)


if "pytest" not in sys.modules:  # this is not the test
    os.kill = _hang
