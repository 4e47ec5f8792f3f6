"""What users are told: written with ticks, read by the bell, and what each user wants to be told.

What is said of an event is made after its tick (`store.composing`); until then the bell does not show it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, delete, func, select, update

from backend.domain.auth import User
from backend.domain.notification import EventKind, Notification, NotificationSettings, event_kinds
from backend.domain.video import VideoStatus
from backend.store import bulk
from backend.store.changes import NewNotification, Tick
from backend.store.database import Database
from backend.store.job_lists import PAST, PRESENT
from backend.store.pages import Page, after_position, cursor_of, position_in
from backend.store.rows import RowCodec
from backend.store.tables import DELIVERIES, JOBS, NOTIFICATION_SETTINGS, NOTIFICATIONS, RESULTS, VIDEOS, WISHES
from backend.store.videos import NEWEST_RESULT
from progress_dashboard.protocol import ProgressUpdate, Status

PRUNED_AT_ONCE = 500
IDS_AT_ONCE = 1_000  # databases limit the parameters of a statement
MADE_IN_TICKS = ("event_id", "user_id", "job_id", "event", "attempt", "seq", "at", "job", "title", "text", "for_all")
FALSE = ("composed", "in_bell", "wished", "muted")
UPDATE = msgspec.json.Decoder(ProgressUpdate)
ENDED_BY_THEMSELVES = (Status.COMPLETED, Status.COMPLETED_WITH_ERRORS, Status.FAILED)
ALARMS = (EventKind.STALLED, EventKind.RECOVERED)
VERDICTS = (EventKind.SLOWER, EventKind.FASTER)
_MINE = NOTIFICATIONS.c
_ADD = bulk.add_absent(RowCodec[NewNotification](NOTIFICATIONS, (*MADE_IN_TICKS, *FALSE)))


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of some jobs: how many, their videos, and the causes of their failures, by fingerprint."""

    jobs: int
    videos: int
    succeeded: int
    causes: frozenset[str]


class NotificationStore:
    """The notifications in the database. Every read sees committed data only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, by: User, *, limit: int, cursor: str | None) -> Page[Notification]:
        """Return a part of the user's list, newest first. Raises `Invalid` for a foreign cursor."""
        query = select(NOTIFICATIONS).where(*_of(by))
        if cursor is not None:
            query = query.where(after_position(_MINE.at, _MINE.event_id, True, position_in(_MINE.at, cursor)))
        query = query.order_by(_MINE.at.desc(), _MINE.event_id.desc()).limit(limit + 1)
        found = [notification(row) for row in await self._all(query)]
        items = found[:limit]
        return Page(items, cursor_of(items[-1].at, items[-1].event_id) if len(found) > limit else None)

    async def unread(self, by: User) -> int:
        """Return how many notifications in the user's list are unread."""
        mine = (*_of(by), _MINE.read_at.is_(None))
        return int((await self._all(select(func.count()).select_from(NOTIFICATIONS).where(*mine)))[0][0])

    async def mark_read(self, user_id: str, event_ids: Sequence[str] | None, *, at: datetime) -> int:
        """Mark these of the user's unread notifications (None: all) as read, and return how many were."""
        return await self._database.write(_mark_read, user_id, event_ids, at)

    async def wish(self, job_id: str, user_id: str, events: Collection[EventKind]) -> None:
        """Store what the user wishes to be told of the job; nothing takes the wish back."""
        await self._database.write(_wish, {"job_id": job_id, "user_id": user_id}, sorted(events))

    async def wishes(self, user_id: str, job_ids: Collection[str] | None) -> dict[str, frozenset[EventKind]]:
        """Return what the user wishes to be told, by job: of these jobs, or (None) of those on the dashboard."""
        mine = select(WISHES.c.job_id, WISHES.c.events).where(WISHES.c.user_id == user_id)
        if job_ids is None:
            mine = mine.join(JOBS, JOBS.c.id == WISHES.c.job_id).where(JOBS.c.on_dashboard)
        else:
            mine = mine.where(WISHES.c.job_id.in_(list(job_ids)[:IDS_AT_ONCE]))
        return {row.job_id: event_kinds(row.events) for row in await self._all(mine)}

    async def settings(self, user_id: str) -> NotificationSettings:
        """Return what the user wants to be told."""
        rows = await self._all(select(NOTIFICATION_SETTINGS).where(NOTIFICATION_SETTINGS.c.user_id == user_id))
        return settings_of(rows[0]) if rows else NotificationSettings()

    async def change_settings(self, user_id: str, settings: NotificationSettings) -> None:
        """Store what the user wants to be told."""
        events = None if settings.events is None else sorted(settings.events)
        values = {"quiet_from": settings.quiet_from, "quiet_to": settings.quiet_to, "zone": settings.zone}
        await self._database.write(_set, user_id, {"events": events, **values})

    async def presence(self, user_id: str) -> tuple[datetime | None, datetime | None]:
        """Return when the user was last here, and since when there is something that they have not read."""
        columns = (NOTIFICATION_SETTINGS.c.last_seen_at, NOTIFICATION_SETTINGS.c.away_since)
        rows = await self._all(select(*columns).where(NOTIFICATION_SETTINGS.c.user_id == user_id))
        return (rows[0].last_seen_at, rows[0].away_since) if rows else (None, None)

    async def set_presence(self, user_id: str, **values: datetime | None) -> None:
        """Store `last_seen_at` or `away_since`."""
        await self._database.write(_set, user_id, values)

    async def ended_since(self, user_id: str, since: datetime) -> Ended:
        """Return what became of the user's own jobs that ended by themselves since then."""
        return await self._database.read(_ended_since, user_id, since)

    async def alarms(self) -> dict[str, int]:
        """Return the attempts of jobs on the dashboard that stalled and have not recovered since, by job."""
        events = await self._told(ALARMS)
        stalled = {(job_id, attempt) for job_id, attempt, event in events if event is EventKind.STALLED}
        recovered = {(job_id, attempt) for job_id, attempt, event in events if event is EventKind.RECOVERED}
        return dict(sorted(stalled - recovered))

    async def verdicts(self) -> dict[str, tuple[int, EventKind]]:
        """Return (attempt, slower or faster) of jobs on the dashboard, by job."""
        return {job_id: (attempt, event) for job_id, attempt, event in await self._told(VERDICTS)}

    async def newest_of_server(self) -> list[Notification]:
        """Return what was told of the server itself, oldest first; not of any job."""
        query = select(NOTIFICATIONS).where(_MINE.job_id.is_(None), _MINE.for_all).order_by(_MINE.at)
        return [notification(row) for row in await self._all(query)]

    async def prune(self, *, before: datetime) -> int:
        """Delete some notifications from before, with their deliveries, and return how many."""
        return await self._database.write(_prune, before)

    async def _told(self, events: Collection[EventKind]) -> list[tuple[str, int, EventKind]]:
        on_dashboard = select(JOBS.c.id).where(JOBS.c.on_dashboard)
        wanted = (_MINE.job_id.in_(on_dashboard), _MINE.event.in_(events))
        query = select(_MINE.job_id, _MINE.attempt, _MINE.event).where(*wanted).order_by(_MINE.attempt)
        return [(row.job_id, row.attempt, row.event) for row in await self._all(query)]

    async def _all(self, query: Any) -> Sequence[Row[Any]]:
        return await self._database.read(lambda connection: connection.execute(query).all())


def _of(user: User) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of a user's list; of one who was an administrator, without others' jobs and the server."""
    own = () if user.is_admin else (_MINE.for_all, _MINE.job_id.is_not(None))
    return (_MINE.user_id == user.id, _MINE.in_bell, *own)


def write(connection: Connection, tick: Tick) -> None:
    """Store the events of a tick; one that is there already stays as it is."""
    _ADD.execute(connection, tick.notifications)


def delete_of_job(connection: Connection, job_id: str) -> None:
    """Delete what is told of a job, is to be sent of it, and wished."""
    for table in (DELIVERIES, NOTIFICATIONS, WISHES):
        connection.execute(delete(table).where(table.c.job_id == job_id))


def notification(row: Row[Any]) -> Notification:
    """Return the notification of a row."""
    given = dict(row._mapping)
    return Notification(**given | {"job": None if row.job is None else UPDATE.decode(row.job)})


def settings_of(row: Row[Any]) -> NotificationSettings:
    """Return the settings of a row."""
    events = None if row.events is None else event_kinds(row.events)
    return NotificationSettings(events=events, quiet_from=row.quiet_from, quiet_to=row.quiet_to, zone=row.zone)


def _mark_read(connection: Connection, user_id: str, event_ids: Sequence[str] | None, at: datetime) -> int:
    mine = update(NOTIFICATIONS).where(_MINE.user_id == user_id, _MINE.in_bell, _MINE.read_at.is_(None))
    if event_ids is None:
        return connection.execute(mine.values(read_at=at)).rowcount
    parts = (event_ids[first : first + IDS_AT_ONCE] for first in range(0, len(event_ids), IDS_AT_ONCE))
    return sum(connection.execute(mine.where(_MINE.event_id.in_(part)).values(read_at=at)).rowcount for part in parts)


def _wish(connection: Connection, key: Mapping[str, str], events: Sequence[EventKind]) -> None:
    connection.execute(delete(WISHES).where(*(WISHES.c[name] == value for name, value in key.items())))
    if events:
        bulk.insert_absent(connection, WISHES, [{**key, "events": tuple(events)}])


def _ended_since(connection: Connection, user_id: str, since: datetime) -> Ended:
    ended = (JOBS.c.owner_id == user_id, JOBS.c.finished_at > since, JOBS.c.status.in_(ENDED_BY_THEMSELVES))
    columns = (JOBS.c.id, JOBS.c.total_videos, JOBS.c.current_video, JOBS.c.failed)
    rows = [row for part in (PRESENT, PAST) for row in connection.execute(select(*columns).where(part, *ended))]
    with_failures = [row.id for row in rows if row.failed][:IDS_AT_ONCE]
    failed = (VIDEOS.c.job_id.in_(with_failures), VIDEOS.c.status == VideoStatus.FAILED)
    causes = connection.scalars(select(RESULTS.c.fingerprint).distinct().join(VIDEOS, NEWEST_RESULT).where(*failed))
    succeeded = sum(row.current_video - row.failed for row in rows)
    known = frozenset(cause for cause in causes if cause is not None)
    return Ended(len(rows), sum(row.total_videos for row in rows), succeeded, known)


def _set(connection: Connection, user_id: str, values: Mapping[str, Any]) -> None:
    bulk.insert_absent(connection, NOTIFICATION_SETTINGS, [{"user_id": user_id}])
    connection.execute(update(NOTIFICATION_SETTINGS).where(NOTIFICATION_SETTINGS.c.user_id == user_id).values(values))


def _prune(connection: Connection, before: datetime) -> int:
    old = connection.scalars(select(_MINE.event_id).where(_MINE.at < before).limit(PRUNED_AT_ONCE)).all()
    for table in (DELIVERIES, NOTIFICATIONS):
        connection.execute(delete(table).where(table.c.event_id.in_(old)))
    return len(old)
