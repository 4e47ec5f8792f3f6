"""A browser whose notifications a test can see: what pages ask for, and what they show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.browser import complaints_of, sign_in
from tests.support.servers import Program

TWIN = Path(__file__).parent / "notification_twin.js"
HIDE = "isHidden => { window.isHidden = isHidden; document.dispatchEvent(new Event('visibilitychange')) }"
DESK = {"width": 1280, "height": 800}


@dataclass
class NotifiedBrowser:
    """The tabs of one person. `shown` has their notifications in order, `asked` is how often pages asked for them."""

    program: Program
    context: BrowserContext
    shown: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    _complaints: list[list[str]] = field(default_factory=list)

    def open(self, path: str = "/") -> Page:
        """Open a tab and wait until it is connected and knows its user's notifications."""
        page = self.context.new_page()
        self._complaints.append(complaints_of(page))
        page.goto(self.program.url + path)
        until_live(page)
        return page

    def note(self, what: dict[str, Any]) -> None:
        """Take what a page asks for or shows."""
        if what.get("asked"):
            self.asked += 1
        else:
            self.shown.append(what)

    def hide(self, *pages: Page) -> None:
        """Let these tabs be in the background."""
        for page in pages:
            page.evaluate(HIDE, True)

    @property
    def complaints(self) -> list[str]:
        """What the consoles of all tabs said."""
        return [complaint for of_tab in self._complaints for complaint in of_tab]

    def titles(self) -> list[str]:
        """Return the titles of what was shown."""
        return [one["title"] for one in self.shown]


@contextmanager
def notified_browser(browser: Browser, program: Program, name: str) -> Iterator[NotifiedBrowser]:
    """Sign a user in at a browser of their own."""
    context = browser.new_context(viewport=DESK, color_scheme="light")  # type: ignore[arg-type]
    try:
        context.set_default_timeout(15_000)
        person = NotifiedBrowser(program, context)
        context.expose_function("noted", person.note)
        context.add_init_script(path=TWIN)
        page = context.new_page()
        page.goto(f"{program.url}/login")
        sign_in(page, name)
        until_live(page)
        page.close()
        yield person
    finally:
        context.close()


def until_live(page: Page) -> None:
    """Wait until the page is connected, and its bell knows what there is."""
    expect(page.get_by_test_id("connection-banner")).to_have_attribute("data-state", "connected")
    expect(page.get_by_test_id("bell")).to_have_attribute("data-known", "true")
