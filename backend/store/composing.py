"""What is needed to say what happened, and how that is stored: once, with what goes out because of it.

A notification becomes composed in one transaction with its deliveries and with what follows from it (a run that was
slower than usual, another user who wished to be told). After a kill, what was not composed is found again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Executable, bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from backend.clock import from_millis, to_millis
from backend.domain.job import Job
from backend.domain.notification import (
    WITH_CAUSES,
    Channel,
    DeliveryState,
    EventKind,
    Notification,
    NotificationSettings,
    event_kinds,
)
from backend.domain.telling import PreviousRun, ToldCause
from backend.domain.usual import GOOD_ENDS, MAX_RUNS, MAX_SIZE_RATIO, MIN_RUNS, Step, Usual
from backend.domain.video import MAX_CAUSES
from backend.domain.words import sort_key
from backend.store import bulk
from backend.store.channels import channel_of
from backend.store.database import Cursor, Database
from backend.store.jobs import job_of, select_jobs
from backend.store.notifications import notification, settings_of
from backend.store.problem_tables import FAILING
from backend.store.rows import RowCodec
from backend.store.tables import (
    CHANNELS,
    DELIVERIES,
    IS_WAITING,
    JOBS,
    NOTIFICATION_SETTINGS,
    NOTIFICATIONS,
    USERS,
    WISHES,
)
from progress_dashboard.protocol import Status

MARKS = "{marks}"
MAX_EARLIER = 2 * MAX_RUNS
COMPOSED = ("event_id", "title", "text", "details", "composed", "in_bell", "wished", "muted", "read_at")
NOT_YET = ("composed", "in_bell", "muted")
COPIED = ("job_id", "attempt", "seq", "at", "job")


# Written out for the driver's cursor: in a flood, all of it is asked for each event. The plus keeps databases from an
# index by time, where that by name finds far fewer rows.
_EARLIER = (
    "SELECT created_at, id, status, attempt, total_videos, started_at, finished_at FROM job WHERE {part}"
    " AND owner_id = ? AND name_key = ? AND name = ? AND processor = ? AND id <> ? AND +created_at <= ?"
    " AND status IN ('completed', 'completed_with_errors', 'failed')"
    " ORDER BY created_at DESC LIMIT ?"
)
_WORKED = (
    "SELECT job_id, sum(until - at) FROM (SELECT job_id, status, at,"  # noqa: S608  our own names
    " lead(at) OVER (PARTITION BY job_id ORDER BY seq) AS until FROM milestone"
    f" WHERE attempt = 1 AND job_id IN ({MARKS})) AS step WHERE status = 'processing' GROUP BY job_id"
)
_STEPS = "SELECT at, status, attempt, pause_reason FROM milestone WHERE job_id = ? ORDER BY seq"
_FAILED = (
    " FROM video JOIN result ON result.job_id = video.job_id AND result.position = video.position"
    " AND result.attempt = video.attempts WHERE video.job_id = ? AND video.status = 'failed'"
)
_FINGERPRINTS = f"SELECT fingerprint, count(*){_FAILED} AND fingerprint IS NOT NULL GROUP BY fingerprint"
_CAUSES = (
    f"WITH cause AS (SELECT fingerprint, count(*) AS number, min(result.position) AS position{_FAILED}"  # noqa: S608
    " GROUP BY fingerprint ORDER BY number DESC, position LIMIT ?)"
    " SELECT cause.fingerprint, number, error, video_id FROM cause"
    " JOIN video ON video.job_id = ? AND video.position = cause.position"
    " JOIN result ON result.job_id = video.job_id AND result.position = video.position"
    " AND result.attempt = video.attempts ORDER BY number DESC, cause.position"
)


@dataclass(frozen=True, slots=True)
class Texts:
    """The statements of a database that differ: those for the jobs on the dashboard, and for the past ones."""

    earlier: tuple[str, str]


TEXTS = {
    "sqlite": Texts((_EARLIER.format(part="on_dashboard = 1"), _EARLIER.format(part="on_dashboard = 0"))),
    "postgresql": Texts((_EARLIER.format(part="on_dashboard"), _EARLIER.format(part="NOT on_dashboard"))),
}


class EarlierRun(NamedTuple):
    """An ended job with the same list; sorts by its creation. Times are milliseconds."""

    created_at: int
    job_id: str
    status: str
    attempt: int
    total_videos: int
    started_at: int | None
    finished_at: int

    def tells_of(self, job: Job) -> bool:
        """Return True if its time tells something of the job's: a good whole run of about as many videos."""
        is_alike = self.total_videos <= job.total_videos * MAX_SIZE_RATIO
        is_alike &= self.total_videos * MAX_SIZE_RATIO >= job.total_videos
        return is_alike and self.attempt == 1 and self.status in GOOD_ENDS and self.started_at is not None


@dataclass(frozen=True, slots=True)
class NewDelivery:
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
    RowCodec[NewDelivery](DELIVERIES, ("event_id", "channel_id", "job_id", "seq", "state", "due_at", "tries"))
)


@dataclass(frozen=True, slots=True)
class NextNotification:
    """Another event of the same job at the same moment, or the same event for another user; composed after this."""

    event_id: str
    event: EventKind
    user_id: str
    for_all: bool
    wished: bool


@dataclass(frozen=True, slots=True)
class Raw:
    """Notifications that are not composed, and what decides about them.

    `settings` are by user ID, and so is `enabled`: the users who are told anything, and if each is an administrator.
    `wishes` are by job ID.
    """

    notifications: Sequence[Notification]
    jobs: Mapping[str, Job]
    settings: Mapping[str, NotificationSettings]
    enabled: Mapping[str, bool]
    wishes: Mapping[str, Mapping[str, frozenset[EventKind]]]
    channels: Sequence[Channel]

    def may_tell(self, user_id: str, job: Job | None) -> bool:
        """Return True if the user may see the job (None: the server) now: their role may have changed."""
        return user_id in self.enabled and (self.enabled[user_id] or (job is not None and job.owner_id == user_id))


@dataclass(frozen=True, slots=True)
class Background:
    """What is known beside a job: its steps, its causes, how long its list usually takes, and the last run of it."""

    steps: Sequence[Step]
    causes: Sequence[ToldCause]
    usual: Usual | None
    previous: PreviousRun | None


@dataclass(frozen=True, slots=True)
class Composed:
    """A notification as it is told, what follows from it, and where it goes. `ends_wishes`: what was wished is told."""

    told: Notification
    followers: Sequence[NextNotification] = ()
    deliveries: Sequence[NewDelivery] = ()
    ends_wishes: bool = False


class ComposingStore:
    """Reads what is to be told, and stores what is said. Every read sees committed data only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def raw(self, limit: int) -> Raw:
        """Return the oldest notifications that are not composed, with what decides about them."""
        return await self._database.read(_raw, limit)

    async def background(self, job: Job, *, with_causes: bool) -> Background:
        """Return what is known beside the job."""
        texts = TEXTS[self._database.dialect]
        return await self._database.read_by_cursor(lambda cursor: _background(cursor, texts, job, with_causes))

    async def waiting_about(self, fingerprint: str) -> list[tuple[Notification, Job]]:
        """Return what waits to be sent about the failures of jobs whose videos fail for this cause."""
        return await self._database.read(_waiting_about, fingerprint)

    async def usual(self, job: Job) -> tuple[Usual | None, Sequence[Step]]:
        """Return how long runs of the job's list usually take, and its own steps."""
        texts = TEXTS[self._database.dialect]

        def read(cursor: Cursor) -> tuple[Usual | None, Sequence[Step]]:
            return _usual(cursor, _earlier(cursor, texts, job), job), _steps(cursor, job.id)

        return await self._database.read_by_cursor(read)

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
    accounts = connection.execute(select(USERS.c.id, USERS.c.is_admin, USERS.c.disabled).where(USERS.c.id.in_(users)))
    enabled = {row.id: row.is_admin for row in accounts if not row.disabled}
    told_of = CHANNELS.c.owner_id.is_(None) | CHANNELS.c.owner_id.in_(users)
    channels = connection.execute(select(CHANNELS).where(CHANNELS.c.enabled, told_of).order_by(CHANNELS.c.id))
    return Raw(
        notifications=found,
        jobs=jobs,
        settings={row.user_id: settings_of(row) for row in settings},
        enabled=enabled,
        wishes=wishes,
        channels=[channel_of(row) for row in channels],
    )


def _waiting_about(connection: Connection, fingerprint: str) -> list[tuple[Notification, Job]]:
    waits = select(DELIVERIES.c.event_id).where(IS_WAITING)
    fails = select(FAILING.c.job_id).where(FAILING.c.fingerprint == fingerprint)
    told = NOTIFICATIONS.c
    query = select(NOTIFICATIONS).where(told.event_id.in_(waits), told.job_id.in_(fails), told.event.in_(WITH_CAUSES))
    found = [notification(row) for row in connection.execute(query)]
    job_ids = {one.job_id for one in found}
    jobs = {job.id: job for job in map(job_of, connection.execute(select_jobs().where(JOBS.c.id.in_(job_ids))))}
    return [(one, jobs[one.job_id]) for one in found if one.job_id in jobs]


def _background(cursor: Cursor, texts: Texts, job: Job, with_causes: bool) -> Background:
    earlier = _earlier(cursor, texts, job)
    causes = (
        [ToldCause(*row) for row in cursor.execute(_CAUSES, (job.id, MAX_CAUSES, job.id)).fetchall()]
        if with_causes
        else ()
    )
    previous = _previous(cursor, earlier) if causes else None
    return Background(_steps(cursor, job.id), causes, _usual(cursor, earlier, job), previous)


def _earlier(cursor: Cursor, texts: Texts, job: Job) -> list[EarlierRun]:
    """Return the newest ended jobs before this one with the same list, processor and owner, newest first."""
    same = (job.owner_id, sort_key(job.name), job.name, job.processor, job.id, to_millis(job.created_at))
    rows = [row for text in texts.earlier for row in cursor.execute(text, (*same, MAX_EARLIER)).fetchall()]
    return sorted((EarlierRun(*row) for row in rows if row[-1] is not None), reverse=True)[:MAX_EARLIER]


def _usual(cursor: Cursor, earlier: Sequence[EarlierRun], job: Job) -> Usual | None:
    """Return how long earlier runs took, by the newest good ones of about as many videos."""
    runs = [run for run in earlier if run.tells_of(job)][:MAX_RUNS]
    if len(runs) < MIN_RUNS:
        return None
    marks = ", ".join("?" * len(runs))
    worked = dict(cursor.execute(_WORKED.replace(MARKS, marks), [run.job_id for run in runs]).fetchall())
    # older runs have no milestones
    return Usual.of([int(worked.get(run.job_id) or run.finished_at - (run.started_at or 0)) / 1000 for run in runs])


def _previous(cursor: Cursor, earlier: Sequence[EarlierRun]) -> PreviousRun | None:
    if not earlier:
        return None
    causes = cursor.execute(_FINGERPRINTS, (earlier[0].job_id,)).fetchall()
    return PreviousRun(from_millis(earlier[0].finished_at), dict(causes))


def _steps(cursor: Cursor, job_id: str) -> list[Step]:
    rows = cursor.execute(_STEPS, (job_id,)).fetchall()
    return [Step(from_millis(at), Status(status), attempt, reason) for at, status, attempt, reason in rows]


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


def _copied(connection: Connection, original: str, follower: NextNotification) -> Executable:
    """Return the statement that adds a notification beside another one, unless it is there."""
    values = asdict(follower) | dict.fromkeys(NOT_YET, False)
    given = [bindparam(None, value, type_=NOTIFICATIONS.c[name].type) for name, value in values.items()]
    row = select(*given, *(NOTIFICATIONS.c[name] for name in COPIED)).where(NOTIFICATIONS.c.event_id == original)
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    added: Executable = dialect.insert(NOTIFICATIONS).from_select([*values, *COPIED], row).on_conflict_do_nothing()
    return added
