"""Somebody who has a keyboard and nothing else."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

MOST_TABS = 80
SHOWN_WHERE = """element => {
    const look = getComputedStyle(element);
    return element.matches(":focus-visible") && (look.outlineStyle !== "none" || look.boxShadow !== "none");
}"""


class Keyboard:
    """Moves over a page by Tab, and sees where it is."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def press(self, *keys: str) -> None:
        """One after the other, wherever the keyboard is."""
        for key in keys:
            self._page.keyboard.press(key)

    def go_to(self, target: Locator) -> None:
        """Tab until it has the focus, and see that it has; fails where no way leads there."""
        expect(target).to_be_visible()
        for _ in range(MOST_TABS):
            if has_focus(target):
                break
            self.press("Tab")
        assert has_focus(target), f"{MOST_TABS} times Tab do not lead there"
        assert target.evaluate(SHOWN_WHERE), "nothing shows where the keyboard is"

    def activate(self, target: Locator) -> None:
        """Go there and press Enter."""
        self.go_to(target)
        self.press("Enter")


def has_focus(target: Locator) -> bool:
    """Whether the keyboard is on this element."""
    return bool(target.evaluate("element => element === document.activeElement"))
