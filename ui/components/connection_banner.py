"""The connection banner: drawn by the page itself, so that it works with the server gone."""

from __future__ import annotations

from nicegui.element import Element

from backend.settings import Settings


class ConnectionBanner(Element, component="connection_banner.vue", dependencies=["browser.js"]):
    """A quiet "Connected" in the corner, a strip under the top bar otherwise.

    It also decides when the page tries to reconnect, in place of NiceGUI's own rules.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._props["delays"] = list(settings.reconnect_delays_seconds)
        self._props["attempts"] = settings.reconnect_attempts
