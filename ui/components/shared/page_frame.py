"""The frame of a page with the parts of every page: connection banner, live region, shortcuts, bell."""

from __future__ import annotations

from contextlib import AbstractContextManager

from nicegui.element import Element

from backend.domain.auth import User
from backend.settings import Settings
from ui.components.shared.bell import Bell, BellActions
from ui.components.shared.connection_banner import ConnectionBanner
from ui.components.shared.live_region import LiveRegion
from ui.components.shared.shortcuts import Shortcuts
from ui.theme import frame


def page_frame(
    title: str, active: str, user: User, settings: Settings, bell: BellActions, notice: str = ""
) -> AbstractContextManager[Element]:
    """Draw `ui.theme.frame`, which knows no components, with the components of every page."""

    def draw() -> None:
        ConnectionBanner(settings, notice)
        LiveRegion()
        Shortcuts()
        Bell(bell, user)

    return frame(title, active, user, banner=draw)
