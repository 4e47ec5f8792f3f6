"""The page's one polite live region: what its parts tell assistive technology."""

from __future__ import annotations

from nicegui import ElementFilter
from nicegui.element import Element

from ui.components.shared import BROWSER_JS


class LiveRegion(Element, component="live_region.vue", dependencies=[BROWSER_JS]):
    """Speaks, one after the other, what any part of the page gives to `say`, here or in `browser.js`."""


def say(sentence: str) -> None:
    """Let assistive technology hear this on the present page."""
    for region in ElementFilter(kind=LiveRegion):
        region.run_method("say", sentence)
