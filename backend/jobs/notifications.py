"""What users are told: their lists, their wishes and settings, and what happened while they were away."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from weakref import WeakSet

from backend.clock import Clock
from backend.domain.auth import User
from backend.domain.notification import Away, EventKind, Notification, NotificationSettings
from backend.errors import Invalid
from backend.jobs.composing import KnownCauses, no_known_causes, zone_of
from backend.jobs.queries import JobQueries, checked_limit
from backend.store.notifications import NotificationStore
from backend.store.pages import Page

MAX_NEW = 20  # kept for a tab that does not look
MAX_IDS = 1_000
MINUTES_A_DAY = 24 * 60
AWAY = timedelta(hours=1)
SEEN_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class BellState:
    """What the bell shows: how many are unread, and the notifications that came since the last look, oldest first.

    Only the newest `MAX_NEW` of these are kept for a tab that does not look.
    """

    unread: int
    new: tuple[Notification, ...] = ()


class BellReader:
    """Follows the bell of one user; any number of tabs may have one each."""

    def __init__(self, notifications: Notifications, user: User) -> None:
        self._notifications = notifications
        self._user = user
        self._new: deque[Notification] = deque(maxlen=MAX_NEW)
        self._changed = asyncio.Event()
        self._changed.set()

    async def next(self) -> BellState:
        """Return the bell as it is, then each time something has changed: something is new, or was read in any tab.

        Also when the user's wishes or settings changed, or they have read what happened while they were away.
        Raises `StoreRefused` while the database cannot be read; what is new comes with the next call then.
        """
        await self._changed.wait()
        self._changed.clear()
        try:
            unread = await self._notifications.unread(by=self._user)
        except BaseException:
            self._changed.set()
            raise
        new = tuple(self._new)
        self._new.clear()
        return BellState(unread, new)

    def wake(self, new: Notification | None = None) -> None:
        """Let the tab know that something changed."""
        if new is not None:
            self._new.append(new)
        self._changed.set()


class Notifications:
    """The one entry point for routes and pages. Everything is about the user who asks; jobs are those they may see."""

    def __init__(
        self,
        store: NotificationStore,
        queries: JobQueries,
        clock: Clock,
        *,
        known_causes: KnownCauses = no_known_causes,
    ) -> None:
        self._store = store
        self._queries = queries
        self._clock = clock
        self._known_causes = known_causes
        self._readers: dict[str, WeakSet[BellReader]] = defaultdict(WeakSet)
        self._seen: dict[str, datetime] = {}

    def take(self, told: Sequence[Notification]) -> None:
        """Show what was composed to those whom it is for."""
        for one in told:
            if one.in_bell:
                self._wake(one.user_id, one)

    async def page(self, *, by: User, limit: int = 50, cursor: str | None = None) -> Page[Notification]:
        """Return a part of the user's list, newest first; it goes back 30 days."""
        return await self._store.page(by, limit=checked_limit(limit), cursor=cursor)

    async def unread(self, *, by: User) -> int:
        """Return how many of them are unread."""
        return await self._store.unread(by)

    async def mark_read(self, event_ids: Sequence[str] | None = None, *, by: User) -> int:
        """Mark these as read (None: all) and return how many are unread now; what is not the user's is passed over."""
        if event_ids is not None and len(event_ids) > MAX_IDS:
            raise Invalid(f"event_ids must be at most {MAX_IDS:,}; leave them out to mark all.")
        if await self._store.mark_read(by.id, event_ids, at=self._clock.now()):
            self._wake(by.id)
        return await self.unread(by=by)

    def watch(self, *, by: User) -> BellReader:
        """Return a reader of the user's bell."""
        reader = BellReader(self, by)
        self._readers[by.id].add(reader)
        return reader

    async def wish(self, job_id: str, events: Collection[EventKind], *, by: User) -> frozenset[EventKind]:
        """Tell the user of these events of the job, whatever the settings say; none takes the wish back.

        Raises `JobNotFound`, also for another user's job.
        """
        job = await self._queries.find(job_id, by=by)
        await self._store.wish(job.id, by.id, events)
        self._wake(by.id)
        return frozenset(events)

    async def wishes(self, job_ids: Collection[str] | None = None, *, by: User) -> Mapping[str, frozenset[EventKind]]:
        """Return what the user wishes to be told, by job: of these jobs, or (None) of those on the dashboard."""
        return await self._store.wishes(by.id, job_ids)

    async def settings(self, *, by: User) -> NotificationSettings:
        """Return what the user wants to be told."""
        return await self._store.settings(by.id)

    async def change_settings(self, settings: NotificationSettings, *, by: User) -> NotificationSettings:
        """Store what the user wants to be told. Raises `Invalid` for a zone or hours that do not exist."""
        _check(settings)
        await self._store.change_settings(by.id, settings)
        self._wake(by.id)
        return settings

    async def away(self, *, by: User) -> Away | None:
        """Return what happened while the user was away for more than an hour; None if nothing did, or they read it."""
        last, since = await self._store.presence(by.id)
        since = since or self._away_since(last)
        ended = await self._store.ended_since(by.id, since) if since else None
        if since is None or ended is None or not ended.jobs:
            return None
        known = await self._known_causes(by.id, ended.causes, self._clock.now()) if ended.causes else ()
        return Away(since, ended.jobs, ended.videos, ended.succeeded, len(ended.causes - set(known)))

    async def away_read(self, *, by: User) -> None:
        """Forget what happened while the user was away: they have read it."""
        await self._store.set_presence(by.id, last_seen_at=self._clock.now(), away_since=None)
        self._wake(by.id)

    async def seen(self, *, by: User) -> None:
        """Note that the user is here. Pages call it while they are visible; it is stored once a minute at most."""
        now = self._clock.now()
        if by.id in self._seen and now - self._seen[by.id] < SEEN_EVERY:
            return
        last, since = await self._store.presence(by.id)
        absent = self._away_since(last)
        await self._store.set_presence(by.id, last_seen_at=now, away_since=since or absent)
        self._seen[by.id] = now
        if absent:  # tabs that were open all the while show what happened
            self._wake(by.id)

    def _away_since(self, last_seen_at: datetime | None) -> datetime | None:
        """Return the moment if it is so long ago that the user was away."""
        return last_seen_at if last_seen_at is not None and self._clock.now() - last_seen_at > AWAY else None

    def _wake(self, user_id: str, new: Notification | None = None) -> None:
        for reader in self._readers.get(user_id, ()):
            reader.wake(new)


def _check(settings: NotificationSettings) -> None:
    if settings.zone is not None and zone_of(settings.zone) is None:
        raise Invalid("zone must be the name of a time zone, such as Europe/Berlin or UTC.")
    hours = (settings.quiet_from, settings.quiet_to)
    if hours != (None, None):
        if None in hours or not all(0 <= minute < MINUTES_A_DAY for minute in hours if minute is not None):
            raise Invalid("Quiet hours need a beginning and an end, such as 22:00 and 07:00.")
        if hours[0] == hours[1]:
            raise Invalid("Quiet hours must begin and end at different times.")
