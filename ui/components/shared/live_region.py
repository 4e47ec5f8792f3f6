"""The one polite live region of a page: its announcements for assistive technology."""

from __future__ import annotations

from nicegui import ElementFilter
from nicegui.element import Element

from ui.components.shared import BROWSER_JS


class LiveRegion(Element, component="live_region.vue", dependencies=[BROWSER_JS]):
    """Announces, one after the other, the sentences given to `say`, here or in `browser.js`."""


def say(sentence: str) -> None:
    """Announce a sentence to assistive technology on the current page."""
    for region in ElementFilter(kind=LiveRegion):
        region.run_method("say", sentence)
