"""Chromium for the tests that look at pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.servers import password_of

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
SHELL = "/usr/bin/chromium-headless-shell"


def chromium_path(of_playwright: str) -> str:
    """Return the path of Debian's Chromium, of the one on PATH, or of Playwright's. Skip the test if there is none."""
    for path in (DEBIAN, shutil.which("chromium"), of_playwright):
        if path and Path(path).exists():
            return path
    pytest.skip(HOW_TO_GET)


def shell_path(of_playwright: str) -> str:
    """Return the path of Debian's headless shell, or else of Chromium. Skip the test if there is neither.

    The shell is the same Chromium without the browser's own windows: a page opens with half the processor time.
    """
    return SHELL if Path(SHELL).exists() else chromium_path(of_playwright)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Run a headless Chromium for all tests of the package. Its event loop must end before the next package's tests."""
    with sync_playwright() as playwright:
        path = shell_path(playwright.chromium.executable_path)
        launched = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield launched
        launched.close()


def complaints_of(page: Page) -> list[str]:
    """Return a list that collects the errors, warnings and uncaught exceptions of the page's console."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    return complaints


def resize(page: Page, width: int, height: int = 740) -> None:
    """Resize the page's window, and wait until the page has it: its renderer gets it a moment after Chromium."""
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_function("([width, height]) => innerWidth === width && innerHeight === height", arg=[width, height])


def sign_in(page: Page, name: str) -> None:
    """Fill in the sign-in page for a user of `add_user`, and send it."""
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(password_of(name))
    page.get_by_role("button", name="Sign in").click()


def use_link(page: Page, link: str) -> None:
    """Open a sign-in link and press its button."""
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
