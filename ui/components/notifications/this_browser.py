"""Notifications of the browser in which the page is open; all of it is the browser's."""

from __future__ import annotations

from nicegui.element import Element

from ui.components.shared import BROWSER_JS, BROWSER_NOTICES_JS, NOTICES_JS


class ThisBrowser(Element, component="this_browser.vue", dependencies=[BROWSER_JS, NOTICES_JS, BROWSER_NOTICES_JS]):
    """Whether the browser shows notifications, the button that asks for the permission, and a switch."""
