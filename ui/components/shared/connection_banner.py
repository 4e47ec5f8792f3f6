"""The connection banner. The page draws it itself, so that it works without the server."""

from __future__ import annotations

from nicegui.element import Element

from backend.settings import Settings
from ui.components.shared import BROWSER_JS


class ConnectionBanner(Element, component="connection_banner.vue", dependencies=[BROWSER_JS, "connection.js"]):
    """A quiet "Connected" in the corner; in any other state a strip under the top bar.

    It also decides when the page tries to reconnect, instead of NiceGUI, and disables what needs the server meanwhile.
    It sends the window two events: `connection` (`{away, seen}`), and `catchup`, whose list takes promises. The page
    counts as connected when all of them are resolved, each with the number of updates that it brought.
    """

    def __init__(self, settings: Settings, notice: str = "") -> None:
        super().__init__()
        self._props["notice"] = notice
        self._props["delays"] = list(settings.reconnect_delays_seconds)
        self._props["attempts"] = settings.reconnect_attempts
        self._props["silence"] = settings.page_silence_seconds

    def say(self, notice: str) -> None:
        """Show a sentence about the server while the page is connected; "" for none."""
        self._props["notice"] = notice
        self.update()
