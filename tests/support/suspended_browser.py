"""A laptop's sleep, as the dashboard meets it: all processes of the browser are stopped. Linux only: /proc is read."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser

from tests.support.processes import look_at, numbers


@contextmanager
def asleep(browser: Browser) -> Iterator[int]:
    """Nothing of this browser runs while the block does; gives the number of its processes."""
    first = _first_process(browser)
    stopped: list[int] = []
    try:
        while born := sorted(_family(first) - set(stopped)):  # one that runs yet may start another
            for pid in born:
                os.kill(pid, signal.SIGSTOP)
            stopped += born
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
    """The process, its children, theirs and so on."""
    there = [seen for seen in map(look_at, numbers()) if seen is not None]
    family = {first}
    while born := {seen.pid for seen in there if seen.parent in family} - family:
        family |= born
    return family
