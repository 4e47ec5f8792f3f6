"""What users are told: their lists, their wishes and settings, and what happened while they were away."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from backend.domain.auth import User
from backend.domain.notification import Away, EventKind, Notification, NotificationSettings
from backend.store.pages import Page


@dataclass(frozen=True, slots=True)
class Bell:
    """What the bell shows: how many are unread, and the notifications that came since the last look, oldest first."""

    unread: int
    new: tuple[Notification, ...] = ()


class BellReader:
    """Follows the bell of one user; any number of tabs may have one each."""

    async def next(self) -> Bell:
        """Return the bell as it is, then each time it has changed: something new, or something was read in any tab."""
        raise NotImplementedError


class Notifications:
    """The one entry point for routes and pages. Everything is about the user who asks; jobs are those they may see."""

    async def page(self, *, by: User, limit: int = 50, cursor: str | None = None) -> Page[Notification]:
        """Return a part of the user's list, newest first; it goes back 30 days."""
        raise NotImplementedError

    async def unread(self, *, by: User) -> int:
        """Return how many of them are unread."""
        raise NotImplementedError

    async def mark_read(self, event_ids: Sequence[str] | None = None, *, by: User) -> int:
        """Mark these as read (None: all) and return how many are unread now; what is not the user's is passed over."""
        raise NotImplementedError

    def watch(self, *, by: User) -> BellReader:
        """Return a reader of the user's bell."""
        raise NotImplementedError

    async def wish(self, job_id: str, events: Collection[EventKind], *, by: User) -> frozenset[EventKind]:
        """Tell the user of these events of the job, whatever the settings say; none takes the wish back.

        Raises `JobNotFound`, also for another user's job.
        """
        raise NotImplementedError

    async def wishes(self, job_ids: Collection[str] | None = None, *, by: User) -> Mapping[str, frozenset[EventKind]]:
        """Return what the user wishes to be told of, by job; of these jobs only, if some are given."""
        raise NotImplementedError

    async def settings(self, *, by: User) -> NotificationSettings:
        """Return what the user wants to be told."""
        raise NotImplementedError

    async def change_settings(self, settings: NotificationSettings, *, by: User) -> NotificationSettings:
        """Store what the user wants to be told. Raises `Invalid` for a zone or hours that do not exist."""
        raise NotImplementedError

    async def away(self, *, by: User) -> Away | None:
        """Return what happened while the user was away for more than an hour; None if nothing did, or it was read.

        Ask when a dashboard opens, before `seen`.
        """
        raise NotImplementedError

    async def away_read(self, *, by: User) -> None:
        """Forget what happened while the user was away: they have read it."""
        raise NotImplementedError

    async def seen(self, *, by: User) -> None:
        """Note that the user is here. Pages call it while they are visible; it is stored once a minute at most."""
        raise NotImplementedError
