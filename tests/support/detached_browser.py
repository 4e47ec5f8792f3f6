"""A browser from which Playwright can detach, because an attached page counts as visible even behind another one."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from playwright.sync_api import Browser, BrowserType, Page

from tests.support.browser import FLAGS, chromium_path

START_SECONDS = 20.0
POLL_SECONDS = 0.05
EMPTY = "about:blank"


@dataclass
class OwnBrowser:
    """A running Chromium with one page. Playwright may be attached to it."""

    kind: BrowserType
    address: str
    attached: Browser | None = None

    def attach(self) -> Page:
        """Attach Playwright, and return the first page, which is visible from now on."""
        self.attached = self.kind.connect_over_cdp(self.address)
        pages = self.attached.contexts[0].pages
        return next((page for page in pages if page.url != EMPTY), pages[0])

    def detach(self) -> None:
        """Detach Playwright. The browser keeps running."""
        assert self.attached is not None
        self.attached.close()
        self.attached = None

    def open_tab_in_front(self) -> None:
        """Open an empty page, which hides the first one."""
        httpx.put(f"{self.address}/json/new?{EMPTY}").raise_for_status()


@contextmanager
def own_browser(kind: BrowserType) -> Iterator[OwnBrowser]:
    """Start a browser that keeps running when Playwright detaches."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        port_file = Path(home, "DevToolsActivePort")
        flags = (*FLAGS, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={home}")
        command = [chromium_path(kind.executable_path), *flags, EMPTY]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + START_SECONDS
            while not (port_file.exists() and port_file.read_text().count("\n")):
                assert time.monotonic() < end, "the browser did not start"
                time.sleep(POLL_SECONDS)
            own = OwnBrowser(kind, f"http://127.0.0.1:{port_file.read_text().split()[0]}")
            yield own
            if own.attached is not None:
                own.detach()
        finally:
            process.terminate()
            process.wait()
