"""The page's one polite live region: what its parts tell assistive technology."""

from __future__ import annotations

from nicegui.element import Element


class LiveRegion(Element, component="live_region.vue"):
    """Speaks, one after the other, what any part of the page gives to `say` of `browser.js`."""
