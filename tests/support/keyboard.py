"""The keyboard as the only input of a test."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

MAX_TABS = 80
SHOWN_WHERE = """element => {
    const look = getComputedStyle(element);
    return element.matches(":focus-visible") && (look.outlineStyle !== "none" || look.boxShadow !== "none");
}"""


class Keyboard:
    """Moves over a page by Tab, and checks that the focus is visible."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def press(self, *keys: str) -> None:
        """Press the keys one after the other, wherever the focus is."""
        for key in keys:
            self._page.keyboard.press(key)

    def go_to(self, target: Locator) -> None:
        """Press Tab until the element has the focus, and check that the focus is visible."""
        expect(target).to_be_visible()
        for _ in range(MAX_TABS):
            if has_focus(target):
                break
            self.press("Tab")
        assert has_focus(target), f"{MAX_TABS} times Tab do not reach the element"
        assert target.evaluate(SHOWN_WHERE), "the focus is not visible"

    def activate(self, target: Locator) -> None:
        """Move the focus to the element and press Enter."""
        self.go_to(target)
        self.press("Enter")


def has_focus(target: Locator) -> bool:
    """Return True if this element has the focus."""
    return bool(target.evaluate("element => element === document.activeElement"))
