"""The settings of notifications: what a user is told, when not, and where; for administrators the channels for all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from msgspec.structs import replace
from nicegui import context
from nicegui.element import Element

from backend import Backend
from backend.domain.auth import User
from backend.domain.notification import EventKind, NotificationSettings
from backend.processors import names
from progress_dashboard.protocol import EXTERNAL
from ui.components.notifications.channel_list import ChannelList, Typed
from ui.components.notifications.quiet_hours import Quiet, QuietHours
from ui.components.notifications.this_browser import ThisBrowser
from ui.components.notifications.told_events import ToldEvents
from ui.following import patiently, while_connected
from ui.frame import frame_of
from ui.session import act, current_user, page
from ui.theme import tag

REFRESH_SECONDS = 3.0
OWN = "Mail, chats, phones and programs that are told, too. Try each with a test before you save it."
FOR_ALL = "Told of the jobs of all users, as far as you limit them here. Only administrators see and change these."


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
            channels = ChannelsView(backend, user, await _owners(backend, user))

        async def refresh() -> None:
            await settings.refresh()
            await channels.refresh()

        async def follow() -> None:
            while True:
                await backend.clock.sleep(REFRESH_SECONDS)
                await patiently(refresh, clock=backend.clock, every_seconds=REFRESH_SECONDS)

        await act(refresh())
        while_connected(context.client, follow, name="notification settings")


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


class ChannelsView:
    """Where the user is told else; for an administrator also the channels for all."""

    def __init__(self, backend: Backend, user: User, owners: Sequence[str]) -> None:
        self._channels = backend.channels
        missing = backend.channels.apprise_missing
        with _panel("Your channels", OWN):
            lists = [ChannelList(self, is_for_all=False, is_admin=user.is_admin, missing=missing)]
        if user.is_admin:
            processors = (*names(), EXTERNAL)
            with _panel("Channels for all", FOR_ALL):
                lists.append(
                    ChannelList(
                        self, is_for_all=True, is_admin=True, missing=missing, owners=owners, processors=processors
                    )
                )
        self._lists = lists

    async def refresh(self) -> None:
        """Show the channels as they are stored."""
        channels = await self._channels.list(by=current_user())
        for shown in self._lists:
            shown.show(channels)

    async def save(self, typed: Typed) -> str:
        """Store the channel, and return that in a sentence."""
        if typed.id:
            await self._channels.change(typed.id, typed.changes(), by=current_user())
        else:
            await self._channels.add(typed.draft, by=current_user())
        await self.refresh()
        return "Saved."

    async def test(self, what: Typed | str) -> str:
        """Send a test to what is typed, or to the channel of this ID, and return in a sentence that it was taken."""
        typed = what.draft if isinstance(what, Typed) else what
        if isinstance(what, Typed) and what.id and not what.draft.url:
            typed = what.id  # its address is on the server only
        await self._channels.test(typed, by=current_user())
        return "Sent: the receiver took it. Look if it has arrived."

    async def switch(self, channel_id: str, *, is_on: bool) -> None:
        """Switch the channel on or off."""
        said = "Switched on" if is_on else "Switched off"
        await act(self._channels.change(channel_id, {"enabled": is_on}, by=current_user()), said=said)
        await act(self.refresh())

    async def remove(self, channel_id: str) -> None:
        """Remove the channel for good."""
        await act(self._removed(channel_id), said="Removed")
        await act(self.refresh())

    async def _removed(self, channel_id: str) -> bool:
        await self._channels.remove(channel_id, by=current_user())
        return True


async def _owners(backend: Backend, user: User) -> list[str]:
    """Return the names that a channel for all can be limited to; none for others than administrators."""
    return [account.name for account in await backend.accounts.users()] if user.is_admin else []


def _panel(title: str, text: str = "") -> AbstractContextManager[Element]:
    panel = tag("section", classes="panel")
    with panel:
        tag("h2", title)
        if text:
            tag("p", text, classes="muted small about")
    return panel
