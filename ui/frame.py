"""The frame of a page, as this program's parts fill it while the page is open."""

from __future__ import annotations

from contextlib import AbstractContextManager

from nicegui.element import Element

from backend import Backend
from backend.domain.auth import User
from ui.bells import Actions
from ui.components.shared.page_frame import page_frame
from ui.storage_notice import storage_notice


def frame_of(backend: Backend, title: str, active: str, user: User) -> AbstractContextManager[Element]:
    """Draw the frame of a page of this user. `active` is the page's name in `ui.theme.PAGES`, or "" for none."""
    actions = Actions(backend.notifications)
    return page_frame(title, active, user, backend.settings, actions, storage_notice(backend.journal))
