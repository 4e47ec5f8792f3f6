"""A laptop's sleep: all processes of the browser are suspended. Linux only, because it reads /proc."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser

from tests.support.processes import process_ids, process_info


@contextmanager
def asleep(browser: Browser) -> Iterator[int]:
    """Suspend all processes of this browser while the block runs, and yield their number."""
    first = _first_process(browser)
    stopped: list[int] = []
    try:
        while running := sorted(_family(first) - set(stopped)):  # a process that still runs may start another one
            for pid in running:
                os.kill(pid, signal.SIGSTOP)
            stopped += running
        yield len(stopped)
    finally:
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)


def _first_process(browser: Browser) -> int:
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return int(next(process["id"] for process in processes if process["type"] == "browser"))


def _family(first: int) -> set[int]:
    """Return the process and all its descendants."""
    processes = [process for process in map(process_info, process_ids()) if process is not None]
    family = {first}
    while children := {process.pid for process in processes if process.parent in family} - family:
        family |= children
    return family
