"""Chromium for the tests that look at pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOW_TO_GET = "Chromium is missing: install it (Debian: apt-get install chromium), or run `playwright install chromium`"
DEBIAN = "/usr/bin/chromium"


def chromium_path(of_playwright: str) -> str:
    """Debian's Chromium, the one on PATH, or Playwright's own; the test is skipped where there is none."""
    for path in (DEBIAN, shutil.which("chromium"), of_playwright):
        if path and Path(path).exists():
            return path
    pytest.skip(HOW_TO_GET)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A headless Chromium for all tests of the package; its loop must be gone before other packages' async tests."""
    with sync_playwright() as playwright:
        path = chromium_path(playwright.chromium.executable_path)
        launched = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield launched
        launched.close()
