"""The bells of all open pages: one reader a user, whatever the number of their tabs.

The state of a bell is read anew each time something changed for its user, and all tabs get the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Any, Protocol

from nicegui import Client, background_tasks

from backend.clock import Clock
from backend.domain.auth import User
from backend.domain.notification import ENDS, NotificationSettings
from backend.domain.sending import quiet_hours
from backend.jobs.notifications import BellReader, Notifications
from ui.components.shared.bell import bell_of, state_of
from ui.following import patiently
from ui.nicegui_internals import user_of
from ui.session import act, current_user

SHOWN = 20  # the newest notifications, in the menu
RETRY_SECONDS = 1.0
State = Mapping[str, Any]


class BellPage(Protocol):
    """The part of a `nicegui.Client` that is needed here."""

    @property
    def has_socket_connection(self) -> bool: ...

    @property
    def is_deleted(self) -> bool: ...


class ShowsState(Protocol):
    """The part of a `BellState` that is needed here."""

    def show(self, state: State) -> None:
        """Show this state."""


@dataclass(eq=False)
class Following:
    """The bells of one user, and the reader and the task that follow what they show."""

    user: User
    bells: dict[BellPage, ShowsState] = field(default_factory=dict)
    reader: BellReader | None = None
    task: asyncio.Task[None] | None = None

    def show(self, state: State) -> None:
        """Show this state in all tabs."""
        for bell in self.bells.values():
            bell.show(state)


class Bells:
    """Keeps the bells of connected pages up to date. Nothing is read for a user without one."""

    def __init__(
        self,
        notifications: Notifications,
        clock: Clock,
        zone: tzinfo | None,
        start: Callable[..., asyncio.Task[None]] = background_tasks.create,
    ) -> None:
        self._notifications = notifications
        self._clock = clock
        self._zone = zone
        self._start = start
        self._of_user: dict[str, Following] = {}

    def join(self, client: Client) -> None:
        """Let the bell of a page that has connected show what there is, and follow it."""
        bell, user = bell_of(client), user_of(client)
        if bell is not None and user is not None:
            self.follow(client, bell, user)

    def follow(self, page: BellPage, bell: ShowsState, user: User) -> None:
        """Let the bell of this user's page show what there is, until the page leaves."""
        following = self._of_user.setdefault(user.id, Following(user))
        following.bells[page] = bell
        if following.task is None:
            following.task = self._start(self._follow(following), name=f"bell of {user.name}")
        elif following.reader is not None:
            following.reader.wake()  # what happened while the user was away depends on the time, too

    def leave(self, page: BellPage) -> None:
        """Forget the bell of a page that has lost its connection, unless it is already back."""
        if page.has_socket_connection and not page.is_deleted:
            return
        for following in list(self._of_user.values()):
            if following.bells.pop(page, None) and not following.bells:
                del self._of_user[following.user.id]
                if following.task:
                    following.task.cancel()

    async def _follow(self, following: Following) -> None:
        follow = partial(self._follow_until_refused, following)
        await patiently(follow, clock=self._clock, every_seconds=RETRY_SECONDS)

    async def _follow_until_refused(self, following: Following) -> None:
        """Show each change, until the store cannot be read; a new reader begins with the state as it is then."""
        following.reader = self._notifications.watch(by=following.user)
        while True:
            unread = (await following.reader.next()).unread
            following.show(await self._state(following.user, unread))

    async def _state(self, user: User, unread: int) -> State:
        notifications = self._notifications
        newest = await notifications.page(by=user, limit=SHOWN)
        wishes = [job_id for job_id, events in (await notifications.wishes(by=user)).items() if events]
        settings = await notifications.settings(by=user)
        return state_of(
            unread,
            newest.items,
            wishes,
            await notifications.away(by=user),
            is_quiet=is_quiet(settings, self._clock.now(), self._zone),
        )


def is_quiet(settings: NotificationSettings, now: datetime, zone: tzinfo | None) -> bool:
    """Return True in the quiet hours of a user; `zone` is that of the server, None for the machine's.

    >>> night = NotificationSettings(quiet_from=22 * 60, quiet_to=7 * 60, zone="UTC")
    >>> is_quiet(night, datetime(2026, 1, 31, 23, tzinfo=UTC), None)
    True
    """
    hours = quiet_hours(settings, zone or now.astimezone().tzinfo or UTC)
    return hours is not None and hours.until(now) is not None


class Actions:
    """What the user of a page asks of their notifications."""

    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications

    async def wish(self, job_id: str, *, is_on: bool) -> None:
        """Tell the user when the job ends, or no longer."""
        said = "You are told when it ends" if is_on else "You are not told when it ends"
        await act(self._notifications.wish(job_id, ENDS if is_on else (), by=current_user()), said=said)

    async def mark_read(self, event_ids: Sequence[str] | None) -> None:
        """Mark these notifications as read; None: all."""
        await act(self._notifications.mark_read(event_ids, by=current_user()))

    async def end_absence(self) -> None:
        """Forget what happened while the user was away."""
        await act(self._notifications.away_read(by=current_user()))

    async def note_presence(self) -> None:
        """Note that the user is here."""
        await act(self._notifications.seen(by=current_user()))
