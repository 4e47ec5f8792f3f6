"""The frame round a page, with the connection banner in its bar."""

from __future__ import annotations

from contextlib import AbstractContextManager

from nicegui.element import Element

from backend.auth import User
from backend.settings import Settings
from ui.components.connection_banner import ConnectionBanner
from ui.theme import frame


def page_frame(title: str, active: str, user: User, settings: Settings) -> AbstractContextManager[Element]:
    """As `ui.theme.frame`, which knows no components."""
    return frame(title, active, user, banner=lambda: ConnectionBanner(settings))
