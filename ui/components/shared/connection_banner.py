"""The connection banner: drawn by the page itself, so that it works with the server gone."""

from __future__ import annotations

from nicegui.element import Element

from backend.settings import Settings
from ui.components.shared import BROWSER_JS


class ConnectionBanner(Element, component="connection_banner.vue", dependencies=[BROWSER_JS, "connection.js"]):
    """A quiet "Connected" in the corner, a strip under the top bar otherwise.

    It also decides when the page tries to reconnect, in place of NiceGUI's own rules, and holds back what needs the
    server meanwhile. The page hears of it by two events of its window: `connection` (`{away, seen}`), and `catchup`,
    whose list takes promises: connected is only what has kept them. Each gives the number of updates it brought.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._props["delays"] = list(settings.reconnect_delays_seconds)
        self._props["attempts"] = settings.reconnect_attempts
        self._props["silence"] = settings.page_silence_seconds
