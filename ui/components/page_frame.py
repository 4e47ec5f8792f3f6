"""The frame round a page, with what belongs to every page: connection, live region, keys."""

from __future__ import annotations

from contextlib import AbstractContextManager

from nicegui.element import Element

from backend.auth import User
from backend.settings import Settings
from ui.components.connection_banner import ConnectionBanner
from ui.components.live_region import LiveRegion
from ui.components.shortcuts import Shortcuts
from ui.theme import frame


def page_frame(title: str, active: str, user: User, settings: Settings) -> AbstractContextManager[Element]:
    """As `ui.theme.frame`, which knows no components."""

    def draw() -> None:
        ConnectionBanner(settings)
        LiveRegion()
        Shortcuts()

    return frame(title, active, user, banner=draw)
