"""The settings of notifications: what a user is told, when not, and where; for administrators the channels for all."""

from __future__ import annotations

from contextlib import AbstractContextManager

from msgspec.structs import replace
from nicegui.element import Element

from backend import Backend
from backend.domain.notification import EventKind, NotificationSettings
from ui.components.notifications.quiet_hours import Quiet, QuietHours
from ui.components.notifications.this_browser import ThisBrowser
from ui.components.notifications.told_events import ToldEvents
from ui.frame import frame_of
from ui.session import act, current_user, page
from ui.theme import tag


def add_notifications_page(backend: Backend) -> None:
    """Attach `/notifications`."""

    @page("/notifications")
    async def notifications_page() -> None:
        user = current_user()
        with frame_of(backend, "Notifications", "", user):
            with tag("div", classes="lead"), tag("div"):
                tag("h1", "Notifications")
                tag("p", "The bell keeps them for 30 days. Here you choose which, when and where else.")
            settings = SettingsView(backend, is_admin=user.is_admin)
        await act(settings.refresh())


class SettingsView:
    """What the user is told of, and when not."""

    def __init__(self, backend: Backend, *, is_admin: bool) -> None:
        self._notifications = backend.notifications
        with _panel("What you are told of", "Of your own jobs; also what you ask for on a job."):
            self._events = ToldEvents(is_admin=is_admin, on_events=self._choose)
        with _panel("When not"):
            self._quiet = QuietHours(server_zone=backend.settings.time_zone, on_quiet=self._keep_quiet)
        with _panel("In this browser"):
            ThisBrowser()

    async def refresh(self) -> None:
        """Show the settings as they are stored."""
        self._show(await self._notifications.settings(by=current_user()))

    def _show(self, settings: NotificationSettings) -> None:
        self._events.show(settings)
        self._quiet.show(settings)

    async def _choose(self, events: frozenset[EventKind] | None) -> None:
        stored = await self._notifications.settings(by=current_user())
        await self._change(replace(stored, events=events))

    async def _keep_quiet(self, quiet: Quiet | None) -> None:
        stored = await self._notifications.settings(by=current_user())
        hours = (quiet.begin, quiet.end, quiet.zone) if quiet else (None, None, None)
        await self._change(replace(stored, **dict(zip(("quiet_from", "quiet_to", "zone"), hours, strict=True))))

    async def _change(self, settings: NotificationSettings) -> None:
        await act(self._notifications.change_settings(settings, by=current_user()), said="Saved")
        await act(self.refresh())


def _panel(title: str, text: str = "") -> AbstractContextManager[Element]:
    panel = tag("section", classes="panel")
    with panel:
        tag("h2", title)
        if text:
            tag("p", text, classes="muted small")
    return panel
