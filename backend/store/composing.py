"""What is needed to say what happened, and how that is stored: once, with what goes out because of it.

A notification becomes composed in one transaction with its deliveries and with what follows from it (a run that was
slower than usual, another user who wished to be told). After a kill, what was not composed is found again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Executable, Row, bindparam, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from backend.domain.job import Job
from backend.domain.notification import (
    Channel,
    ChannelFilter,
    DeliveryState,
    EventKind,
    Notification,
    NotificationSettings,
    event_kinds,
)
from backend.domain.telling import PreviousRun
from backend.domain.timeline import Milestone
from backend.domain.usual import MAX_RUNS, MAX_SIZE_RATIO, Usual, seconds_in
from backend.domain.video import VideoStatus
from backend.domain.words import sort_key
from backend.store import bulk
from backend.store.database import Database
from backend.store.job_lists import PAST, PRESENT
from backend.store.jobs import job_of, select_jobs
from backend.store.notifications import notification, settings_of
from backend.store.rows import RowCodec
from backend.store.tables import (
    CHANNELS,
    DELIVERIES,
    JOBS,
    MILESTONES,
    NOTIFICATION_SETTINGS,
    NOTIFICATIONS,
    RESULTS,
    USERS,
    VIDEOS,
    WISHES,
)
from backend.store.videos import NEWEST_RESULT
from progress_dashboard.protocol import Status

GOOD_RUNS = (Status.COMPLETED, Status.COMPLETED_WITH_ERRORS)
ENDED_BY_THEMSELVES = (*GOOD_RUNS, Status.FAILED)
COMPOSED = ("event_id", "title", "text", "details", "composed", "in_bell", "wished", "muted", "read_at")
NOT_YET = ("composed", "in_bell", "muted")
COPIED = ("job_id", "attempt", "seq", "at", "job")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notification that is to be sent on a channel."""

    event_id: str
    channel_id: str
    job_id: str | None
    seq: int
    state: DeliveryState
    due_at: datetime
    tries: int = 0


_COMPOSE = bulk.update(RowCodec[Notification](NOTIFICATIONS, COMPOSED), keys=["event_id"])
_DELIVER = bulk.add_absent(
    RowCodec[Delivery](DELIVERIES, ("event_id", "channel_id", "job_id", "seq", "state", "due_at", "tries"))
)


@dataclass(frozen=True, slots=True)
class Follower:
    """Another event of the same job at the same moment, or the same event for another user; composed after this."""

    event_id: str
    event: EventKind
    user_id: str
    for_all: bool
    wished: bool


@dataclass(frozen=True, slots=True)
class Raw:
    """Notifications that are not composed, and what decides about them.

    `settings` and `silent` (users who are disabled) are by user ID, `wishes` by job ID.
    """

    notifications: Sequence[Notification]
    jobs: Mapping[str, Job]
    settings: Mapping[str, NotificationSettings]
    silent: Collection[str]
    wishes: Mapping[str, Mapping[str, frozenset[EventKind]]]
    channels: Sequence[Channel]


@dataclass(frozen=True, slots=True)
class Background:
    """What is known beside a job: its milestones, how long its list usually takes, and the last run of the list."""

    milestones: Sequence[Milestone]
    usual: Usual | None
    previous: PreviousRun | None


@dataclass(frozen=True, slots=True)
class Composed:
    """A notification as it is told, what follows from it, and where it goes. `ends_wishes`: what was wished is told."""

    told: Notification
    followers: Sequence[Follower] = ()
    deliveries: Sequence[Delivery] = ()
    ends_wishes: bool = False


class ComposingStore:
    """Reads what is to be told, and stores what is said. Every read sees committed data only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def raw(self, limit: int) -> Raw:
        """Return the oldest notifications that are not composed, with what decides about them."""
        return await self._database.read(_raw, limit)

    async def background(self, job: Job) -> Background:
        """Return what is known beside the job."""
        return await self._database.read(_background, job)

    async def usual(self, job: Job) -> tuple[Usual | None, Sequence[Milestone]]:
        """Return how long runs of the job's list usually take, and its own milestones."""
        return await self._database.read(
            lambda connection: (_usual(connection, job), _milestones(connection, [job.id])[job.id])
        )

    async def store(self, composed: Sequence[Composed]) -> list[Notification]:
        """Store what is said, and return what is new: not what was composed before, or went with its job."""
        return await self._database.write(_store, composed)


def _raw(connection: Connection, limit: int) -> Raw:
    waiting = select(NOTIFICATIONS).where(~NOTIFICATIONS.c.composed)
    rows = connection.execute(waiting.order_by(NOTIFICATIONS.c.seq, NOTIFICATIONS.c.at).limit(limit)).all()
    found = [notification(row) for row in rows]
    job_ids = {told.job_id for told in found if told.job_id is not None}
    jobs = {job.id: job for job in map(job_of, connection.execute(select_jobs().where(JOBS.c.id.in_(job_ids))))}
    wishes: dict[str, dict[str, frozenset[EventKind]]] = defaultdict(dict)
    for row in connection.execute(select(WISHES).where(WISHES.c.job_id.in_(job_ids))):
        wishes[row.job_id][row.user_id] = event_kinds(row.events)
    users = {told.user_id for told in found} | {user_id for of_job in wishes.values() for user_id in of_job}
    settings = connection.execute(select(NOTIFICATION_SETTINGS).where(NOTIFICATION_SETTINGS.c.user_id.in_(users)))
    silent = connection.scalars(select(USERS.c.id).where(USERS.c.disabled, USERS.c.id.in_(users)))
    told_of = CHANNELS.c.owner_id.is_(None) | CHANNELS.c.owner_id.in_(users)
    channels = connection.execute(select(CHANNELS).where(CHANNELS.c.enabled, told_of).order_by(CHANNELS.c.id))
    return Raw(
        notifications=found,
        jobs=jobs,
        settings={row.user_id: settings_of(row) for row in settings},
        silent=set(silent),
        wishes=wishes,
        channels=[channel_of(row) for row in channels],
    )


def channel_of(row: Row[Any]) -> Channel:
    """Return the channel of a row."""
    events = None if row.events is None else event_kinds(row.events)
    only = None if row.only is None else ChannelFilter(**row.only)
    return Channel(**dict(row._mapping) | {"events": events, "only": only})


def _background(connection: Connection, job: Job) -> Background:
    milestones = _milestones(connection, [job.id])[job.id]
    return Background(milestones, _usual(connection, job), _previous(connection, job))


def _usual(connection: Connection, job: Job) -> Usual | None:
    """Return how long earlier runs of the list took, by the newest ones of about as many videos."""
    size = job.total_videos
    is_alike = JOBS.c.total_videos.between(size / MAX_SIZE_RATIO, size * MAX_SIZE_RATIO)
    runs = _earlier(connection, job, GOOD_RUNS, MAX_RUNS, JOBS.c.attempt == 1, is_alike, JOBS.c.started_at.is_not(None))
    milestones = _milestones(connection, [run.id for run in runs])
    seconds = [
        seconds_in(Status.PROCESSING, milestones[run.id], 1, until=run.finished_at)
        or (run.finished_at - run.started_at).total_seconds()  # it has no milestones, which are younger than it is
        for run in runs
    ]
    return Usual.of(seconds)


def _previous(connection: Connection, job: Job) -> PreviousRun | None:
    runs = _earlier(connection, job, ENDED_BY_THEMSELVES, 1)
    if not runs:
        return None
    failed = (VIDEOS.c.job_id == runs[0].id, VIDEOS.c.status == VideoStatus.FAILED)
    counts = (
        select(RESULTS.c.fingerprint, func.count().label("videos"))
        .join(VIDEOS, NEWEST_RESULT)
        .where(*failed)
        .group_by(RESULTS.c.fingerprint)
    )
    causes = {row.fingerprint: row.videos for row in connection.execute(counts) if row.fingerprint is not None}
    return PreviousRun(runs[0].finished_at, causes)


def _earlier(
    connection: Connection, job: Job, statuses: Sequence[Status], limit: int, *conditions: Any
) -> list[Row[Any]]:
    """Return the newest ended jobs before this one with the same list, processor and owner."""
    same = (
        JOBS.c.owner_id == job.owner_id,
        JOBS.c.name_key == sort_key(job.name),
        JOBS.c.name == job.name,
        JOBS.c.processor == job.processor,
        JOBS.c.id != job.id,
        JOBS.c.created_at <= job.created_at,
        JOBS.c.finished_at.is_not(None),
    )
    columns = (JOBS.c.id, JOBS.c.created_at, JOBS.c.started_at, JOBS.c.finished_at)
    found: list[Row[Any]] = []
    for part in (PRESENT, PAST):
        query = select(*columns).where(part, JOBS.c.status.in_(statuses), *same, *conditions)
        found += connection.execute(query.order_by(JOBS.c.created_at.desc()).limit(limit))
    return sorted(found, key=lambda row: (row.created_at, row.id), reverse=True)[:limit]


def _milestones(connection: Connection, job_ids: Sequence[str]) -> dict[str, list[Milestone]]:
    """Return the milestones of each of the jobs, in order."""
    query = select(MILESTONES).where(MILESTONES.c.job_id.in_(job_ids)).order_by(MILESTONES.c.job_id, MILESTONES.c.seq)
    found: dict[str, list[Milestone]] = {job_id: [] for job_id in job_ids}
    for row in connection.execute(query):
        found[row.job_id].append(Milestone(**row._mapping))
    return found


def _store(connection: Connection, composed: Sequence[Composed]) -> list[Notification]:
    ids = [one.told.event_id for one in composed]
    waiting = select(NOTIFICATIONS.c.event_id).where(NOTIFICATIONS.c.event_id.in_(ids), ~NOTIFICATIONS.c.composed)
    raw = set(connection.scalars(waiting))
    taken = [one for one in composed if one.told.event_id in raw]
    _COMPOSE.execute(connection, [one.told for one in taken])
    for one in taken:
        for follower in one.followers:
            connection.execute(_copied(connection, one.told.event_id, follower))
    _DELIVER.execute(connection, [delivery for one in taken for delivery in one.deliveries])
    ended = [one.told.job_id for one in taken if one.ends_wishes]
    connection.execute(delete(WISHES).where(WISHES.c.job_id.in_(ended)))
    return [one.told for one in taken]


def _copied(connection: Connection, original: str, follower: Follower) -> Executable:
    """Return the statement that adds a notification beside another one, unless it is there."""
    values = asdict(follower) | dict.fromkeys(NOT_YET, False)
    given = [bindparam(None, value, type_=NOTIFICATIONS.c[name].type) for name, value in values.items()]
    row = select(*given, *(NOTIFICATIONS.c[name] for name in COPIED)).where(NOTIFICATIONS.c.event_id == original)
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    added: Executable = dialect.insert(NOTIFICATIONS).from_select([*values, *COPIED], row).on_conflict_do_nothing()
    return added
