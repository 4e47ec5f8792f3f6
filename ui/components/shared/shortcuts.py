"""Keyboard shortcuts for what the page already offers, and the dialog that lists them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from nicegui.element import Element

from ui.components.shared import BROWSER_JS
from ui.theme import PAGES

SEARCH, JOB_LIST, UPLOAD = ".search input", "[data-keys=jk]", ".drop input[type=file]"
BULK_BAR = "[data-testid=bulk-bar]"


@dataclass(frozen=True, slots=True)
class Shortcut:
    """Keys that, pressed one after the other, click the first of `targets` on the page, or focus it if it is a field.

    A page without any of the targets does not have the shortcut. With `is_own` the target itself listens for the keys.
    """

    keys: tuple[str, ...]
    words: str
    targets: tuple[str, ...]
    is_own: bool = False


SHORTCUTS = (
    Shortcut(("/",), "Search", (SEARCH,)),
    Shortcut(("j",), "Next job", (JOB_LIST,), is_own=True),
    Shortcut(("k",), "Previous job", (JOB_LIST,), is_own=True),
    Shortcut(("Enter",), "Open the job", (JOB_LIST,), is_own=True),
    Shortcut(("x",), "Select the job", (JOB_LIST,), is_own=True),
    Shortcut(("b",), "What to do with the selected jobs", (BULK_BAR,), is_own=True),
    *(Shortcut(("g", name[0]), text, (f'.top nav a[href="{path}"]',)) for name, text, path, _ in PAGES),
    Shortcut(("u",), "Upload a CSV", (UPLOAD, '.top nav a[href="/lists"]')),
    Shortcut(("n",), "Notifications", (".bell",)),
    Shortcut(("t",), "Next theme: auto, light, dark", (".theme-button",)),
    Shortcut(("?",), "This list", (".shortcuts",), is_own=True),
)


class Shortcuts(Element, component="shortcuts.vue", dependencies=[BROWSER_JS]):
    """Listens on its page for `SHORTCUTS`. The window's event `shortcuts` opens the list, like the key `?`."""

    def __init__(self) -> None:
        super().__init__()
        self._props["shortcuts"] = [asdict(shortcut) for shortcut in SHORTCUTS]
